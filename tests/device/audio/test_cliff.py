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


def test_people_behind_a_mask_in_noise_and_through_a_dull_microphone_are_not_cut(reader, other_reader):
    """6 to 18 dB less at each octave above 2 kHz, as fabric and old capsules take, are no cliff."""
    dice = np.random.default_rng(3)
    for reading in (*reader[:3], *other_reader[:3]):
        sound = wave(reading)
        spectrum, hz = np.fft.rfft(sound), np.fft.rfftfreq(len(sound), 1 / 16_000)
        for db in (0.0, 6.0, 18.0):
            fall = 10 ** (-db / 20 * np.maximum(np.log2(np.maximum(hz, 1.0) / 2_000.0), 0.0))
            dull = np.fft.irfft(spectrum * fall, len(sound))
            for heard in (dull, dull + 0.01 * sound.std() * dice.normal(size=len(sound))):
                assert cut_hz(heard.astype(np.float32)) == 8_000.0


def test_too_little_sound_has_no_edge():
    assert cut_hz(np.zeros(500, np.float32)) == 8_000.0
    assert cut_hz(np.zeros(16_000, np.float32)) == 8_000.0
