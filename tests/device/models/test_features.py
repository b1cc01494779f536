"""The front end gives what CAM++ was trained on, and refuses what is not speech."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import pytest

from device.models.features import FBANK_BINS, WaveError, kaldi_fbank
from quantize.speech import packaged_speech

RNG = np.random.default_rng(5)


def noise(seconds: float) -> np.ndarray:
    return (RNG.standard_normal(int(seconds * 16_000)) * 0.1).astype(np.float32)


def test_features_have_eighty_bins_every_ten_milliseconds_and_no_mean() -> None:
    features = kaldi_fbank(noise(2.0))
    assert features.shape == (198, FBANK_BINS)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-4)


def kaldi(wave: np.ndarray) -> np.ndarray:
    """The same features from Kaldi's own code."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = 16_000
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = FBANK_BINS
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(16_000, wave)
    bank.input_finished()
    features = np.stack([bank.get_frame(frame) for frame in range(bank.num_frames_ready)])
    return features - features.mean(axis=0)


@pytest.mark.parametrize("samples", [8_000, 16_001, 40_079, 64_000])
def test_they_are_those_of_kaldi(samples: int) -> None:
    speech = packaged_speech().clips()[0].wave
    for wave in (noise(4.0)[:samples], speech[:samples]):
        np.testing.assert_allclose(kaldi_fbank(wave), kaldi(wave), atol=2e-3)


def test_loudness_does_not_change_them() -> None:
    wave = noise(1.0)
    np.testing.assert_allclose(kaldi_fbank(wave * np.float32(0.25)), kaldi_fbank(wave), atol=1e-3)


def test_a_tone_is_loudest_in_its_own_band() -> None:
    t = np.arange(16_000) / 16_000
    wave = (noise(1.0) * 0.01 + 0.5 * np.sin(2 * np.pi * 1000 * t) * (t > 0.5)).astype(np.float32)
    loudest = int((kaldi_fbank(wave)[60:90].mean(axis=0)).argmax())
    mel = 1127 * np.log(1 + np.asarray([20.0, 1000.0, 8000.0]) / 700)
    expected = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (FBANK_BINS + 1) - 1
    assert abs(loudest - expected) <= 1.5


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(0, np.float32),
        np.zeros(16_000, np.float32),
        noise(0.4),
        noise(61.0),
        np.full(16_000, np.nan, np.float32),
        np.append(noise(1.0), np.float32(np.inf)),
        noise(1.0).astype(np.float64),
        (noise(1.0) * 32767).astype(np.int16),
        noise(2.0).reshape(2, -1),
        [0.1] * 16_000,
    ],
)
def test_what_is_no_wave_of_speech_is_refused(wave: np.ndarray) -> None:
    with pytest.raises(WaveError):
        kaldi_fbank(wave)
