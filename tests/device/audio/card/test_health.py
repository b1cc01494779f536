"""Microphones that deliver samples, and poor ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from device.audio.card.health import Gaps, Health, Trouble

RATE_HZ = 16_000


def found(sound: npt.NDArray[np.float64], rate_hz: float = RATE_HZ) -> tuple[list[Trouble], Health]:
    """What is said of sound of shape (samples, channels), which arrives at `rate_hz`."""
    health = Health(RATE_HZ, sound.shape[1])
    block = 320
    told = [
        trouble
        for at in range(0, len(sound) - block + 1, block)
        for trouble in health.feed(
            np.clip(sound[at : at + block], -32768, 32767).astype(np.int16), (at + block) / rate_hz
        )
    ]
    return told, health


def noise(seconds: float, channels: int = 1, level: float = 500.0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(1).normal(0.0, level, (int(seconds * RATE_HZ), channels))


def test_an_ordinary_microphone_has_no_trouble() -> None:
    assert found(noise(30.0))[0] == []
    assert found(noise(30.0, 2))[0] == []


def test_a_microphone_that_gives_one_number_for_ever_is_stuck_and_said_once() -> None:
    assert found(np.full((30 * RATE_HZ, 1), 7.0))[0] == [Trouble.STUCK]


def test_a_pause_of_a_gate_is_not_stuck() -> None:
    assert found(np.concatenate((noise(3.0), np.zeros((3 * RATE_HZ, 1)), noise(3.0))))[0] == []


def test_the_other_channel_is_heard_when_one_is_dead() -> None:
    sound = noise(12.0, 2)
    sound[:, 0] = 0.0
    told, health = found(sound)
    assert told == [Trouble.DEAD_CHANNEL]
    assert health.channel == 1


def test_an_overdriven_input_is_said() -> None:
    assert found(noise(10.0, level=60_000.0))[0] == [Trouble.CLIPPED]


def test_a_constant_offset_is_said() -> None:
    assert found(noise(5.0) + 6_000.0)[0] == [Trouble.OFFSET]


def test_a_channel_wired_the_wrong_way_round_is_said() -> None:
    left = noise(5.0)
    assert found(np.concatenate((left, -left), axis=1))[0] == [Trouble.INVERTED]


def test_a_device_that_runs_at_another_rate_than_it_says_is_said() -> None:
    assert found(noise(30.0), rate_hz=14_700.0)[0] == [Trouble.RATE]


def gaps(sound: npt.NDArray[np.float64], rate_hz: int = 48_000) -> int:
    watch = Gaps(rate_hz)
    samples = sound[:, 0].astype(np.int16)
    return sum(watch.feed(samples[at : at + 960].copy()) for at in range(0, len(samples), 960))


def test_a_block_that_was_lost_inside_sound_is_counted_wherever_it_lies() -> None:
    sound = noise(1.0, level=3_000.0)
    for at, length in ((1_000, 480), (2_000, 960), (5_300, 2_048)):
        sound[at : at + length] = 0.0
    assert gaps(sound) == 480 + 960 + 2_048


def test_silence_and_sound_that_fades_are_no_lost_blocks() -> None:
    sound = noise(1.0, level=3_000.0)
    fade = np.concatenate((np.linspace(1.0, 0.0, 400), np.zeros(1_000), np.linspace(0.0, 1.0, 400)))
    sound[4_000:5_800] *= fade[:, None]
    assert gaps(sound) == 0
    assert gaps(np.zeros((48_000, 1))) == 0


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_a_block_played_once_more_and_a_sample_held_are_lost_blocks_too(rate_hz: int) -> None:
    """What radios and drivers put in place of what they lost."""
    for block_ms in (5.333, 10.0, 20.0, 23.22):
        sound, block = noise(1.0, level=3_000.0)[:rate_hz], round(block_ms * rate_hz / 1_000)
        sound[5_000 : 5_000 + block] = sound[5_000 - block : 5_000]
        assert gaps(sound, rate_hz) == pytest.approx(block, abs=2), block_ms
        sound[9_000 : 9_000 + block] = sound[8_999]
        assert gaps(sound, rate_hz) == pytest.approx(2 * block, abs=4), block_ms


def test_a_machines_tone_repeats_itself_for_longer_than_a_block_and_is_none() -> None:
    at = np.arange(48_000) / 48_000
    assert gaps(np.round(5_000 * np.sin(2 * np.pi * 1_000 * at))[:, None]) == 0
    beeps = np.round(5_000 * np.sin(2 * np.pi * 1_000 * at)) * (at % 0.5 < 0.2)
    assert gaps(beeps[:, None]) == 0
