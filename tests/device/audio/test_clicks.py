"""Clicks of a plug, a relay or a supply, beside real speech."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.audio.spoiled.clicks import clicks, evenly, without
from tests.speech import Reading

Wave = npt.NDArray[np.float32]


def wave(reading: Reading) -> Wave:
    """What was read, between a second and a second of a quiet room."""
    samples, _ = soundfile.read(reading.path, dtype="float32", frames=5 * 16_000)
    room = np.random.default_rng(3).normal(size=16_000) * 0.03 * samples.std()
    return np.concatenate((room, samples, room)).astype(np.float32)


def clicking(sound: Wave, per_s: float, level_db: float, at: npt.NDArray[np.float64] | None = None) -> Wave:
    """`sound` with a click that dies away within a few milliseconds, so many times a second."""
    dice = np.random.default_rng(1)
    heard = sound.astype(np.float64)
    level = float(np.sqrt(np.square(heard).mean())) * 10.0 ** (level_db / 20.0)
    for second in np.arange(0.05, len(sound) / 16_000 - 0.05, 1.0 / per_s) if at is None else at:
        click = dice.normal(size=64) * np.exp(-np.arange(64) / 12.0)
        begin = round(second * 16_000)
        heard[begin : begin + 64] += level * click / np.abs(click).max()
    return heard.astype(np.float32)


@pytest.mark.parametrize("per_s", [25.0, 50.0])
def test_clicks_that_keep_time_are_told_from_speech(per_s, reader, other_reader):
    for reading in (*reader[:3], *other_reader[:3]):
        sound = wave(reading)
        assert not evenly(sound, clicks(sound)), reading.path
        heard = clicking(sound, per_s, -10.0)
        assert evenly(heard, clicks(heard)), reading.path


def test_what_is_taken_out_is_the_clicks_and_nothing_else(reader):
    sound = wave(reader[0])
    quiet = 0.02 * np.random.default_rng(2).normal(size=len(sound)).astype(np.float32) * sound.std()
    at = np.array([0.11, 0.62, 1.3])
    background = np.concatenate((quiet[:32_000], sound))
    heard = clicking(background, 1.0, -10.0, at)
    places = clicks(heard)
    for second in at:
        assert np.abs(places / 16_000 - second).min() < 0.002
    clean = without(heard, places)
    disturbed = np.abs(heard - background) > 1e-3
    assert disturbed.sum() > 20
    assert np.abs(clean - background)[disturbed].max() < 0.3 * np.abs(heard - background).max()
    beside = np.ones(len(heard), bool)
    for place in places:
        beside[max(0, place - 12) : place + 56] = False
    assert np.array_equal(clean[beside], heard[beside])


def test_too_little_sound_and_silence_hold_no_click():
    for sound in (np.zeros(0, np.float32), np.zeros(100, np.float32), np.zeros(16_000, np.float32)):
        places = clicks(sound)
        assert len(places) == 0
        assert not evenly(sound, places)
        assert np.array_equal(without(sound, places), sound)
