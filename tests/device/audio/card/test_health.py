"""Microphones that deliver samples, and poor ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from device.audio.card.health import Gaps, Health, Pace, Trouble

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
    gated = np.concatenate((noise(3.0), np.zeros((3 * RATE_HZ, 1)), noise(3.0)))
    assert found(gated)[0] == []
    assert found(np.concatenate((gated, gated, gated)))[0] == [], "the pauses do not add up"


def test_the_other_channel_is_heard_when_one_is_dead() -> None:
    sound = noise(12.0, 2)
    sound[:, 0] = 0.0
    told, health = found(sound)
    assert told == [Trouble.DEAD_CHANNEL]
    assert health.channel == 1


def test_a_channel_that_only_hisses_or_stands_at_an_end_of_the_scale_is_left() -> None:
    """No dead converter gives exactly one number: it has noise of its own."""
    for dead in (noise(6.0, level=3.0), noise(6.0, level=3.0) + 32_000.0):
        told, health = found(np.concatenate((dead, noise(6.0, level=2_000.0)), axis=1))
        assert told == [Trouble.DEAD_CHANNEL]
        assert health.channel == 1


def test_the_channel_that_speaks_stays_when_the_other_one_dies_or_is_weaker() -> None:
    sound = noise(12.0, 2)
    sound[:, 1] = 0.0
    told, health = found(sound)
    assert (told, health.channel) == ([Trouble.DEAD_CHANNEL], 0)
    assert found(np.concatenate((noise(6.0, level=500.0), noise(6.0, level=2_000.0)), axis=1))[1].channel == 0


def test_a_device_that_keeps_time_is_never_too_fast_or_slow_however_late_we_read_it() -> None:
    pace = Pace(RATE_HZ)
    assert [pace.feed(320, at / 50, 0.02, lost=False) for at in range(2_000)] == [""] * 2_000
    late = Pace(RATE_HZ)  # held up for three seconds, and then everything that waited at once
    assert late.feed(320, 0.0, 0.0, lost=False) == ""
    assert [late.feed(320, 3.0, 3.0 * (at == 0), lost=False) for at in range(150)] == [""] * 150
    stopped = Pace(RATE_HZ)  # a unit that stood still for a minute says nothing about its device
    assert [stopped.feed(320, at / 50, 0.02, lost=False) for at in range(50)] == [""] * 50
    assert [stopped.feed(320, 61.0 + at / 50, 0.02 if at else 60.0, lost=False) for at in range(500)] == [
        ""
    ] * 500
    starved = Pace(RATE_HZ)  # the driver says itself that it had to drop some
    assert [starved.feed(320, float(at), 1.0, lost=at > 0) for at in range(10)] == [""] * 10


def test_an_overdriven_input_is_said() -> None:
    assert found(noise(10.0, level=60_000.0))[0] == [Trouble.CLIPPED]


def test_a_constant_offset_is_said() -> None:
    assert found(noise(5.0) + 6_000.0)[0] == [Trouble.OFFSET]


def test_a_channel_wired_the_wrong_way_round_is_said() -> None:
    left = noise(5.0)
    assert found(np.concatenate((left, -left), axis=1))[0] == [Trouble.INVERTED]


def test_a_device_that_runs_at_another_rate_than_it_says_is_said() -> None:
    assert found(noise(30.0), rate_hz=14_700.0)[0] == [Trouble.RATE]


@pytest.mark.parametrize("every_ms", [10, 20])
@pytest.mark.parametrize("kind", ["lost", "doubled"])
def test_a_sample_lost_or_doubled_as_evenly_as_a_clock_is_told_by_its_rate(every_ms: int, kind: str) -> None:
    """It sounds like a synthesiser's frames; 16 kHz then is 15,900 or 15,950 of them a second, or more."""
    off = 1_000 / every_ms * (-1 if kind == "lost" else 1)
    assert found(noise(12.0), rate_hz=RATE_HZ + off)[0] == [Trouble.RATE]


def test_blocks_that_come_late_or_in_heaps_are_no_other_rate() -> None:
    """Two processes for each core; a sound server that hands out 100 ms at once, or holds back 40 ms more
    from some moment on; a bad crystal."""
    dice = np.random.default_rng(4)
    for case in ("busy", "heaps", "holds back", "crystal", "held up"):
        health, now_s = Health(RATE_HZ, 1), 0.0
        for number in range(1, 1_500):
            at_s = number * 0.02
            if case == "busy":
                at_s += dice.exponential(0.03)
            elif case == "heaps":
                at_s = np.ceil(at_s / 0.1) * 0.1
            elif case == "holds back":
                at_s += 0.04 if at_s > 5.0 else 0.0
            elif case == "crystal":
                at_s *= 1.0005
            elif 7.0 < at_s < 8.5:
                at_s = 8.5
            now_s = max(now_s, at_s)
            block = dice.normal(0.0, 500.0, (320, 1)).astype(np.int16)
            assert list(health.feed(block, now_s)) == [], case
            assert health.drifted == 0, case


def test_samples_that_a_driver_says_it_dropped_begin_the_measurement_anew() -> None:
    health = Health(RATE_HZ, 1)
    block = np.zeros((320, 1), np.int16)
    for number in range(1, 1_500):
        at_s = 0.02 * number + 0.5 * (number // 500)  # half a second lost twice
        troubles = list(health.feed(block, at_s, lost=number % 500 == 0))
        assert Trouble.RATE not in troubles
        assert health.drifted == 0


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


def test_a_unit_that_is_too_busy_to_take_what_lies_there_blames_no_device() -> None:
    """Two seconds of sound that were there at once; the unit took a quarter of a second for each block."""
    pace = Pace(16_000)
    assert not any(pace.feed(320, 0.25 * number, 0.0, lost=False) for number in range(100))
    drips = Pace(16_000)
    told = [drips.feed(320, 0.25 * number, 0.25, lost=False) for number in range(100)]
    assert "hardly any of its sound arrives" in told[17]
