"""Lost blocks that a driver filled with noise, in real speech."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.audio import load_utterance
from device.audio.spoiled.lost_blocks import filled_on_a_grid
from tests.speech import Reading

Floats = npt.NDArray[np.float64]


def wave(reading: Reading) -> Floats:
    return np.asarray(soundfile.read(reading.path, frames=6 * 16_000)[0], np.float64)


def filled(sound: Floats, block_ms: float, level_db: float) -> Floats:
    """A tenth of the blocks gone, and noise in their place."""
    dice, heard = np.random.default_rng(7), sound.copy()
    level = float(np.sqrt(np.square(sound).mean())) * 10 ** (level_db / 20)
    for first in np.arange(37, len(sound) - 600, block_ms * 16):
        if dice.random() < 0.1:
            begin, end = round(first), round(first + block_ms * 16)
            heard[begin:end] = dice.normal(size=end - begin) * level
    return heard


@pytest.mark.parametrize(("block_ms", "level_db"), [(20.0, -50.0), (20.0, -40.0), (23.22, -40.0)])
def test_blocks_filled_with_noise_are_told_by_their_grid(block_ms, level_db, reader):
    for reading in reader[:3]:
        heard = filled(wave(reading), block_ms, level_db)
        assert filled_on_a_grid(heard.astype(np.float32)), reading.path


def test_people_keep_no_grid(reader, other_reader):
    for reading in (*reader, *other_reader):
        assert not filled_on_a_grid(wave(reading).astype(np.float32)), reading.path


def test_the_door_measures_it(reader, tmp_path):
    soundfile.write(tmp_path / "filled.wav", filled(wave(reader[0]), 20.0, -40.0), 16_000)
    assert load_utterance(tmp_path / "filled.wav").quality.filled
    assert not load_utterance(reader[0].path).quality.filled


def test_too_little_sound_and_silence_have_no_grid():
    for sound in (np.zeros(0, np.float32), np.zeros(5_000, np.float32), np.zeros(32_000, np.float32)):
        assert not filled_on_a_grid(sound)
