"""Lost blocks that a driver closed up, swapped or covered with a copy, in real speech."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.audio.spoiled.block_edges import break_on_a_grid
from device.audio.spoiled.lost_blocks import filled_on_a_grid
from device.evidence.clicked import lived
from tests.speech import Reading

Wave = npt.NDArray[np.float32]
Spoils = Callable[[Wave, int, int], Wave]


def wave(reading: Reading) -> Wave:
    return np.asarray(soundfile.read(reading.path, dtype="float32", frames=6 * 16_000)[0], np.float32)


def swapped(sound: Wave, at: int, block: int) -> Wave:
    """Two packets that arrive in the wrong order."""
    return np.concatenate((sound[:at], sound[at + block : at + 2 * block], sound[at : at + block]))


def half_as_loud(sound: Wave, at: int, block: int) -> Wave:
    """The block before once more, at half its level: no sample is the same."""
    return np.concatenate((sound[:at], 0.5 * sound[at - block : at]))


def with_tenth(sound: Wave, block: int, spoils: Spoils) -> Wave:
    """A tenth of all blocks spoiled so."""
    dice, heard = np.random.default_rng(18), sound.copy()
    for at in range(block + 37, len(sound) - 2 * block, block):
        if dice.random() < 0.1:
            changed = spoils(sound, at, block)
            heard[at : len(changed)] = changed[at:]
    return heard


def closed_up(sound: Wave, block: int) -> Wave:
    dice = np.random.default_rng(18)
    kept = np.ones(len(sound), bool)
    for at in range(37, len(sound) - block, block):
        kept[at : at + block] = dice.random() >= 0.1
    return sound[kept]


@pytest.mark.parametrize("block", [120, 160])
@pytest.mark.parametrize("spoils", [swapped, half_as_loud])
def test_blocks_in_the_wrong_order_or_half_as_loud_are_told(spoils: Spoils, block: int, reader, other_reader):
    sounds = [wave(reading) for reading in (*reader, *other_reader) if len(wave(reading)) > 40_000]
    told = [break_on_a_grid(with_tenth(sound, block, spoils)) for sound in sounds]
    assert len(sounds) >= 5
    assert sum(told) >= 0.8 * len(sounds), told


def test_blocks_that_were_closed_up_are_told_in_most_answers(reader, other_reader):
    sounds = [closed_up(wave(reading), 160) for reading in reader]
    assert sum(break_on_a_grid(sound) or filled_on_a_grid(sound) for sound in sounds) >= len(sounds) / 2


def test_people_break_off_on_no_grid(reader, other_reader):
    for reading in (*reader, *other_reader):
        assert not break_on_a_grid(wave(reading)), reading.path


def test_it_is_asked_where_the_check_finds_no_life_and_nowhere_else(reader):
    class Finding:
        llr = 0.0

        def kinds(self) -> dict[str, float]:
            return {}

    broken = with_tenth(wave(reader[0]), 160, swapped)
    assert lived(lambda _: (Finding(), -5.0), broken).broken
    assert not lived(lambda _: (Finding(), -5.0), wave(reader[0])).broken
    assert not lived(lambda _: (Finding(), 3.0), broken).broken


def test_too_little_sound_and_silence_have_no_edges():
    for sound in (np.zeros(0, np.float32), np.zeros(32_000, np.float32), np.full(32_000, 0.5, np.float32)):
        assert not break_on_a_grid(sound)
