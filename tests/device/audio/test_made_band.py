"""Upper bands that were made of the lower one, or brought along, by real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.audio import load_utterance
from device.audio.spoiled import made_band
from device.audio.spoiled.made_band import Weights, is_made, shipped
from tests.speech import Reading

Floats = npt.NDArray[np.float64]


def wave(reading: Reading) -> Floats:
    return np.asarray(soundfile.read(reading.path, frames=6 * 16_000)[0], np.float64)


def cut(sound: Floats, hz: float, *, above: bool = False) -> Floats:
    spectrum = np.fft.rfft(sound)
    edge = round(hz * len(sound) / 16_000)
    spectrum[slice(0, edge) if above else slice(edge, None)] = 0.0
    return np.fft.irfft(spectrum, len(sound))


def over(low: Floats, band: Floats, db: float = -18.0) -> npt.NDArray[np.float32]:
    band = cut(band, 4_000.0, above=True)
    return (low + band * low.std() * 10 ** (db / 20) / band.std()).astype(np.float32)


def noise_in_its_rhythm(sound: Floats) -> npt.NDArray[np.float32]:
    low = cut(sound, 3_900.0)
    rhythm = np.sqrt(np.convolve(np.square(low), np.full(160, 1 / 160), "same"))
    return over(low, np.random.default_rng(1).normal(size=len(low)) * rhythm)


def moved_up(sound: Floats) -> npt.NDArray[np.float32]:
    low = cut(sound, 3_900.0)
    spectrum = np.fft.fft(low)
    spectrum[len(low) // 2 + 1 :] = 0.0
    return over(low, np.real(np.fft.ifft(spectrum) * np.exp(0.5j * np.pi * np.arange(len(low)))))


def steady_noise(sound: Floats) -> npt.NDArray[np.float32]:
    return over(cut(sound, 3_900.0), np.random.default_rng(1).normal(size=len(sound)), -30.0)


@pytest.mark.parametrize("make", [noise_in_its_rhythm, moved_up, steady_noise])
def test_a_band_that_was_made_is_told(make, reader, other_reader):
    for reading in (*reader[:2], *other_reader[:2]):
        assert is_made(make(wave(reading))), reading.path


def test_somebody_elses_band_is_told(reader, other_reader):
    low, other = wave(reader[0]), wave(other_reader[0])
    assert is_made(over(cut(low, 3_900.0), np.resize(other, len(low))))


def test_people_have_one_band_also_in_noise(reader, other_reader):
    for reading in (*reader, *other_reader):
        sound = wave(reading)
        hiss = np.random.default_rng(1).normal(size=len(sound)) * 0.03 * sound.std()
        for heard in (sound, sound + hiss):
            assert not is_made(heard.astype(np.float32)), reading.path


def test_a_made_band_is_narrow_where_the_door_measures(reader, tmp_path):
    paths = [tmp_path / name for name in ("own.wav", "made.wav")]
    own = wave(reader[0])
    for path, sound in zip(paths, (own, noise_in_its_rhythm(own)), strict=True):
        soundfile.write(path, sound, 16_000)
    whole, made = (load_utterance(path).quality.bandwidth_hz for path in paths)
    assert whole > 6_000.0
    assert made == 4_000.0


def test_too_little_sound_and_silence_tell_nothing():
    for sound in (np.zeros(100, np.float32), np.zeros(32_000, np.float32), np.ones(8_000, np.float32)):
        assert not is_made(sound)


def test_weights_that_are_not_whole_are_refused():
    text = Path(made_band.__file__).with_suffix(".toml").read_text("utf-8")
    assert Weights.from_text(text).least == shipped().least
    for wrong in (text.replace("offset", "other"), text.replace("least = ", "least = nan #"), "[mean]\n"):
        with pytest.raises((ValueError, KeyError)):
            Weights.from_text(wrong)
