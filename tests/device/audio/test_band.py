"""Speech that was taken to a lower rate and back, by real speech."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from device.audio import load_utterance
from device.audio.spoiled.band import own_hz
from tests.speech import Reading

Wave = npt.NDArray[np.float32]


def wave(reading: Reading) -> Wave:
    samples, _ = soundfile.read(reading.path, dtype="float32", frames=6 * 16_000)
    return np.asarray(samples, np.float32)


def narrow(sound: Wave, rate: float = 0.5) -> Wave:
    """Without anything above a share of the band, steeply."""
    spectrum = np.fft.rfft(sound)
    spectrum[int(rate * len(spectrum)) :] = 0.0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def held(sound: Wave) -> Wave:
    return np.repeat(narrow(sound)[::2], 2)[: len(sound)]


def linear(sound: Wave, step: float = 2.0) -> Wave:
    """By way of 16 kHz over `step`."""
    at = np.arange(len(sound))
    low = np.interp(np.arange(0, len(sound), step), at, narrow(sound, 1.0 / step))
    return np.interp(at / step, np.arange(len(low)), low).astype(np.float32)


def polyphase(sound: Wave) -> Wave:
    """As `scipy.signal.resample_poly(resample_poly(sound, 1, 2), 2, 1)` does it."""
    taps = np.sinc((np.arange(41) - 20) / 2) * np.kaiser(41, 5.0)
    taps /= taps.sum()
    up = np.zeros(len(sound))
    up[::2] = np.convolve(sound, taps, "same")[::2]
    return np.convolve(up, 2 * taps, "same").astype(np.float32)


def lanczos_of_two(sound: Wave, rate_hz: int) -> Wave:
    low = np.pad(soxr.resample(sound, 16_000, rate_hz, "HQ"), (2, 4))
    at = np.minimum(np.arange(len(sound)) * rate_hz / 16_000 + 2, len(low) - 4)
    first = np.floor(at).astype(int)
    near = [low[first + k] * np.sinc(at - first - k) * np.sinc((at - first - k) / 2) for k in (-1, 0, 1, 2)]
    return np.sum(near, axis=0).astype(np.float32)


def nearest_of_6_khz(sound: Wave) -> Wave:
    """Two folds: one at 3 kHz, and a plainer one at 5."""
    low = soxr.resample(sound, 16_000, 6_000, "HQ")
    return low[np.minimum(np.round(np.arange(len(sound)) * 6 / 16).astype(int), len(low) - 1)]


def smoothed_of_6_khz(sound: Wave) -> Wave:
    held = soxr.resample(sound, 16_000, 6_000, "HQ")[(np.arange(len(sound) - 8) * 6 / 16).astype(int)]
    return 0.5 * (held[1:] + held[:-1])


@pytest.mark.parametrize(
    "convert",
    [held, linear, polyphase, lambda sound: linear(sound, 16 / 6), nearest_of_6_khz, smoothed_of_6_khz],
)
def test_a_mirror_image_of_the_lower_band_is_not_taken_for_speech(convert, reader, other_reader):
    for reading in (reader[0], other_reader[0]):
        assert own_hz(convert(wave(reading))) < 4_400.0


def test_people_keep_their_whole_band_beside_noise_and_buzz(reader, other_reader):
    for reading in (*reader[:3], *other_reader[:3]):
        sound = wave(reading)
        at = np.arange(len(sound)) / 16_000
        buzz = sum(np.sin(2 * np.pi * 100.04 * n * at) for n in range(1, 70)) / 70
        hiss = np.random.default_rng(1).normal(size=len(sound))
        level = float(np.sqrt(np.square(sound).mean()))
        for heard in (sound, sound + 0.1 * level * buzz, sound + 0.05 * level * hiss):
            assert own_hz(heard.astype(np.float32)) == 8_000.0


def test_an_utterance_that_was_resampled_has_half_a_band(reader, tmp_path):
    paths = [tmp_path / name for name in ("own.wav", "resampled.wav")]
    for path, sound in zip(paths, (wave(reader[0]), polyphase(wave(reader[0]))), strict=True):
        soundfile.write(path, sound, 16_000)
    own, resampled = (load_utterance(path).quality.bandwidth_hz for path in paths)
    assert own > 6_000.0
    assert resampled < 4_400.0


@pytest.mark.parametrize("rate_hz", [8_800, 9_000, 9_600, 10_000])
@pytest.mark.parametrize("quality", ["QQ", "four samples"])
def test_what_was_taken_to_any_lower_rate_and_back_counts_as_narrow(rate_hz, quality, reader, tmp_path):
    """Half of these rates lies above 4.4 kHz; the mirror image is as little speech as that of 8 kHz."""
    sound = wave(reader[0])
    if quality == "QQ":
        there = soxr.resample(soxr.resample(sound, 16_000, rate_hz, "QQ"), rate_hz, 16_000, "QQ")
    else:
        there = lanczos_of_two(sound, rate_hz)
    soundfile.write(tmp_path / "there.wav", there, 16_000)
    assert load_utterance(tmp_path / "there.wav").quality.bandwidth_hz < 4_400.0


def test_too_little_sound_has_no_fold():
    assert own_hz(np.zeros(500, np.float32)) == 8_000.0
    assert own_hz(np.zeros(16_000, np.float32)) == 8_000.0
