"""Speech that breaks off at one frequency, by real speech."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr

from device.audio import load_utterance
from device.audio.spoiled.cliff import cut_hz


def wave(reading):
    samples, _ = soundfile.read(reading.path, dtype="float32", frames=6 * 16_000)
    return np.asarray(samples, np.float32)


@pytest.mark.parametrize("rate_hz", [9_000, 10_000, 11_025, 12_000])
@pytest.mark.parametrize("quality", ["LQ", "HQ", "VHQ"])
def test_what_a_good_converter_cut_counts_as_narrow(rate_hz, quality, reader, other_reader, tmp_path):
    """Nothing mirrors itself: there is nothing above."""
    for number, reading in enumerate((reader[0], other_reader[0])):
        low = soxr.resample(wave(reading), 16_000, rate_hz, quality)
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, soxr.resample(low, rate_hz, 16_000, quality), 16_000)
        assert load_utterance(path).quality.bandwidth_hz < 4_400.0


@pytest.mark.parametrize("rate_hz", [9_600, 11_025])
@pytest.mark.parametrize("noise_db", [-60.0, -50.0, -40.0])
def test_what_was_cut_counts_as_narrow_under_steady_noise_too(
    rate_hz, noise_db, reader, other_reader, tmp_path
):
    """Noise hides how deep the level falls, and not that nothing above the edge moves with the speech."""
    dice = np.random.default_rng(5)
    for number, reading in enumerate((reader[0], other_reader[0])):
        cut = soxr.resample(soxr.resample(wave(reading), 16_000, rate_hz, "HQ"), rate_hz, 16_000, "HQ")
        cut += 10 ** (noise_db / 20) * cut.std() * dice.normal(size=len(cut))
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, cut, 16_000)
        assert load_utterance(path).quality.bandwidth_hz < 4_400.0


def test_people_in_steady_noise_of_any_level_are_not_cut(reader, other_reader):
    """As much of the upper band as noise buries says nothing: the speech sinks into it little by little."""
    dice = np.random.default_rng(6)
    for reading in (*reader[:4], *other_reader[:4]):
        sound = wave(reading)
        for db in (-60.0, -50.0, -40.0, -30.0, -20.0, -15.0):
            noisy = sound + 10 ** (db / 20) * sound.std() * dice.normal(size=len(sound))
            assert cut_hz(noisy.astype(np.float32)) == 8_000.0, db


def test_people_behind_a_mask_in_noise_and_through_a_dull_microphone_are_not_cut(reader, other_reader):
    """6 to 18 dB less at each octave above 2 kHz, as fabric and old capsules take, are no cliff."""
    dice = np.random.default_rng(3)
    for reading in (*reader[:3], *other_reader[:3]):
        sound = wave(reading)
        spectrum, hz = np.fft.rfft(sound), np.fft.rfftfreq(len(sound), 1 / 16_000)
        for db in (0.0, 6.0, 18.0):
            fall = 10 ** (-db / 20 * np.maximum(np.log2(np.maximum(hz, 1.0) / 2_000.0), 0.0))
            dull = np.fft.irfft(spectrum * fall, len(sound))
            for noise in (0.0, 0.01, 0.03, 0.1):
                heard = dull + noise * sound.std() * dice.normal(size=len(sound))
                assert cut_hz(heard.astype(np.float32)) == 8_000.0


def test_too_little_sound_has_no_edge():
    assert cut_hz(np.zeros(500, np.float32)) == 8_000.0
    assert cut_hz(np.zeros(16_000, np.float32)) == 8_000.0
