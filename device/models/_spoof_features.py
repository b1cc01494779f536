"""The spoof detector's front end. Training imports this very code, so both sides see the same numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
FFT_SIZE = WINDOW_SAMPLES = 512
HOP_SAMPLES = 256
FIRST_BIN = 3
BINS = 224
"""94 Hz to 7.06 kHz: the top of the band says what a file's sample rate used to be, not who spoke."""
FLOOR = 10.0**-4.5
"""Each bin's dynamic range below its own mean power: digital silence must not give a synthesiser away."""
TRIM_DB = 38.0
TRIM_PAD_FRAMES = 3
MIN_FRAMES = 62
"""One second. Shorter speech is repeated up to here, so that pooling has something to average."""
SCALE = 0.25

Floats = npt.NDArray[np.float32]

_WINDOW = np.hanning(WINDOW_SAMPLES + 1)[:-1].astype(np.float32)


def frame_power(wave: Floats) -> Floats:
    """Power spectrum of `wave` (n,) at 16 kHz, n >= 512: shape (frames, BINS)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW_SAMPLES)[::HOP_SAMPLES]
    spectrum = np.fft.rfft(frames * _WINDOW, FFT_SIZE, axis=1)[:, FIRST_BIN : FIRST_BIN + BINS]
    power: Floats = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return power


def trim_frames(power: Floats) -> Floats:
    """Drop leading and trailing frames far below the loudest: their length tells of studios, not of life."""
    level = power.sum(axis=1)
    loud = np.flatnonzero(level > level.max() * 10.0 ** (-TRIM_DB / 10.0))
    if len(loud) == 0:
        return power
    return power[max(0, int(loud[0]) - TRIM_PAD_FRAMES) : int(loud[-1]) + 1 + TRIM_PAD_FRAMES]


def normalise(power: Floats) -> Floats:
    """Log power of `power` (frames, BINS) with each bin's own mean removed: gain and fixed filters vanish.

    Returns shape (BINS, frames), float32.
    """
    mean_power = power.mean(axis=0, keepdims=True) + 1e-20
    log_power = np.log(power / mean_power + FLOOR)
    log_power -= log_power.mean(axis=0, keepdims=True)
    features: Floats = np.ascontiguousarray(log_power.T * SCALE, dtype=np.float32)
    return features


def spoof_features(wave: Floats) -> Floats:
    """Features of speech (n,) at 16 kHz, n >= 512: shape (BINS, frames), frames >= MIN_FRAMES, float32."""
    centred = wave - wave.mean(dtype=np.float32)
    power = trim_frames(frame_power(centred))
    if len(power) < MIN_FRAMES:
        power = np.tile(power, (-(-MIN_FRAMES // len(power)), 1))[:MIN_FRAMES]
    return normalise(power)
