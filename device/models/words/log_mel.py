"""Whisper's front end: log mel energies of 25 ms windows every 10 ms (Radford et al. 2022, section 2.2)."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ

Floats = npt.NDArray[np.float32]

BINS, WINDOW, HOP = 80, 400, 160
RANGE_DECADES = 8.0


def log_mel(wave: Floats, frames: int) -> Floats:
    """(1, 80, 2 * frames) of the speech in `wave` and silence after it: two windows to a frame of 20 ms."""
    half = WINDOW // 2
    length = 2 * frames * HOP
    padded = np.zeros(length + WINDOW, dtype=np.float32)
    spoken = wave[:length]
    padded[half : half + len(spoken)] = spoken
    padded[:half] = padded[2 * half : half : -1]  # mirrored ends, as in training
    padded[-half:] = padded[-half - 2 : -2 * half - 2 : -1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: 2 * frames]
    loud = min(2 * frames, len(spoken) // HOP + 3)  # beyond it there is only silence
    spectrum = rfft(windows[:loud] * _HANN, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    mels = np.full((BINS, 2 * frames), 1e-10, dtype=np.float32)
    np.maximum((power @ _FILTERS.T).T, 1e-10, out=mels[:, :loud])
    decades = np.log10(mels)
    np.maximum(decades, decades.max() - RANGE_DECADES, out=decades)
    return np.asarray((decades[np.newaxis] + 4.0) / 4.0, dtype=np.float32)


def mel_filters(bands: int = BINS) -> npt.NDArray[np.float64]:
    """Slaney's mel filterbank (Auditory Toolbox, 1998): (bands, 201), each of unit area, 0 to 8 kHz."""
    break_hz, linear_step = 1000.0, 200.0 / 3.0
    break_mel = break_hz / linear_step
    # Logarithms in decimal: processors may round their own otherwise, and whisper.cpp's file holds these.
    log_step = Decimal("6.4").ln() / 27
    top_mel = break_mel + float((Decimal(SAMPLE_RATE_HZ) / 2 / Decimal(break_hz)).ln() / log_step)
    mels = np.linspace(0.0, top_mel, bands + 2)
    risen = [float((log_step * (Decimal(mel) - Decimal(break_mel))).exp()) for mel in mels.tolist()]
    edges_hz = np.where(mels < break_mel, mels * linear_step, break_hz * np.asarray(risen))
    bins_hz = np.linspace(0.0, SAMPLE_RATE_HZ / 2, WINDOW // 2 + 1)
    widths = np.diff(edges_hz)
    slopes = edges_hz[:, None] - bins_hz[None, :]
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return np.asarray(triangles * area[:, None] + 0.0)  # no negative zeros


_HANN = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
_FILTERS = mel_filters().astype("<f4")
