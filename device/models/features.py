"""Front ends: from a wave to the features a network was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.errors import DeviceError

Features = npt.NDArray[np.float32]

FBANK_BINS = 80
WINDOW_SAMPLES, HOP_SAMPLES, FFT_SIZE = 400, 160, 512
LOWEST_HZ = 20.0
PREEMPHASIS = np.float32(0.97)
MIN_WAVE_S = 0.5
MAX_WAVE_S = 60.0


class WaveError(DeviceError):
    """The samples are not speech that a model could judge."""


def check_wave(wave: Wave) -> Wave:
    """`wave` itself when it is float32 of shape (n,), finite and long enough; WaveError otherwise."""
    if not isinstance(wave, np.ndarray) or wave.dtype != np.float32 or wave.ndim != 1:
        raise WaveError("a wave must be float32 of shape (n,)")
    seconds = len(wave) / SAMPLE_RATE_HZ
    if not MIN_WAVE_S <= seconds <= MAX_WAVE_S:
        raise WaveError(f"a wave must last {MIN_WAVE_S:g} to {MAX_WAVE_S:g} s, not {seconds:.2f} s")
    if not np.isfinite(wave).all():
        raise WaveError("a wave must be finite; this one holds NaN or infinity")
    if not np.any(wave):
        raise WaveError("a wave of zeros holds no speech")
    return wave


def kaldi_fbank(wave: Wave) -> Features:
    """Log mel energies as Kaldi computes them, (frames, 80) float32, less their mean: 25 ms Povey windows
    every 10 ms, no dither, as CAM++ was trained with. Raises WaveError."""
    frames = np.lib.stride_tricks.sliding_window_view(check_wave(wave), WINDOW_SAMPLES)[::HOP_SAMPLES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    # A frame's first sample has none before it and is its own; so Kaldi has it.
    frames[:, 1:] -= PREEMPHASIS * frames[:, :-1]
    frames[:, 0] *= 1 - PREEMPHASIS
    spectrum = rfft(frames * _WINDOW, FFT_SIZE, axis=1)[:, :-1]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    features: Features = np.log(np.maximum(power @ _MEL_TRIANGLES, np.finfo(np.float32).eps))
    features -= features.mean(axis=0)
    return features


def _povey_window() -> npt.NDArray[np.float32]:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / (WINDOW_SAMPLES - 1))
    return np.asarray(hann**0.85, dtype=np.float32)


def _mel_triangles() -> npt.NDArray[np.float32]:
    """Triangles of equal width on the mel scale, (256, 80); the bin at half the sampling rate is left out."""
    edges = np.linspace(_mel(LOWEST_HZ), _mel(SAMPLE_RATE_HZ / 2), FBANK_BINS + 2)
    bins = _mel(np.arange(FFT_SIZE // 2) * (SAMPLE_RATE_HZ / FFT_SIZE))[:, np.newaxis]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hz: float | npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))


_WINDOW = _povey_window()
_MEL_TRIANGLES = _mel_triangles()
