"""Which way speech came: its long-term spectrum and how that is spread, as a loudspeaker leaves both.

NumPy alone, the same code on the unit and in training. Level is taken out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ

WINDOW, HOP = 512, 160
LOW_HZ, HIGH_HZ, BANDS = 60.0, 7_900.0, 40
TRIM_DB = 38.0
COLOURS = 4 * BANDS

Floats = npt.NDArray[np.float32]


def _mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mel: npt.NDArray[np.float64] = 2595.0 * np.log10(1.0 + hz / 700.0)
    return mel


def _bands() -> npt.NDArray[np.float64]:
    """Triangles on the mel scale (Davis and Mermelstein 1980): (bins, BANDS)."""
    mel = _mel(np.fft.rfftfreq(WINDOW, 1.0 / SAMPLE_RATE_HZ))[:, None]
    low, high = _mel(np.array([LOW_HZ, HIGH_HZ]))
    edges = np.linspace(low, high, BANDS + 2)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    bands: npt.NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0.0, None)
    return bands


_BANDS = _bands()
_HANN = np.hanning(WINDOW)


def colour(wave: npt.NDArray[np.float32]) -> Floats:
    """(COLOURS,) of speech (n,) at 16 kHz, n >= 8,000 and not silent.

    The mean power of each band, how far its loud moments lie above, its spread and its range; all in natural
    logs, the first two without the level.
    """
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    spectrum = rfft(frames * _HANN, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) @ _BANDS
    level = power.sum(axis=1)
    spoken = power[level >= level.max() * 10.0 ** (-TRIM_DB / 10.0)]
    mean = np.log(spoken.mean(axis=0) + 1e-12)
    logs = np.log(spoken + 1e-12)
    quiet, loud = np.quantile(logs, (0.1, 0.9), axis=0)
    mean -= mean.mean()
    found = (mean, loud - loud.mean() - mean, logs.std(axis=0), loud - quiet)
    joined: Floats = np.nan_to_num(np.concatenate(found)).astype(np.float32)
    return joined
