"""Pictures of a sound for the evidence of joins: what a paste changes and gain and fixed filters do not.

Every 10 ms: 40 bands, single bins of the lowest 560 Hz (pitch and its steps), and how loud six bands are in
each of five moments of 2 ms (cuts that are sharp). And `repeats`: whether a stretch occurs twice, as no mouth
repeats itself. NumPy alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ

Floats = npt.NDArray[np.float32]

HOP = 160
WINDOW, LONG_WINDOW = 512, 1024
LOW_FIRST, LOW_LAST = 4, 36
"""Single bins of 15.6 Hz from 62 to 560 Hz."""
BANDS = 40
BANDS_HZ = (100.0, 7_600.0)
FAST_WINDOW, FAST_HOP = 64, 32
FAST_EDGES = (1, 3, 6, 10, 16, 22, 29)
"""In bins of 250 Hz: six bands every 2 ms."""
FAST_STEPS = HOP // FAST_HOP
LOWS = LOW_LAST - LOW_FIRST
SLOW = LOWS + BANDS
FEATURES = SLOW + FAST_STEPS * (len(FAST_EDGES) - 1)
FLOOR = 1e-8
"""Of the loudest frame's power: deeper silence is no emptier."""
SCALE = 0.3

REPEAT_FRAMES = 24
"""240 ms: a short word."""
REPEAT_APART = 40


def _dft(window: int, bins: int) -> Floats:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    angle = np.arange(window)[:, None] * np.arange(bins) * 2 * np.pi / window
    return np.ascontiguousarray(
        np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * hann[:, None], np.float32
    )


def _triangles() -> Floats:
    """Bands evenly spaced in mel, as a matrix (bins, BANDS)."""
    hz = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE_HZ / WINDOW
    low, high = (2595 * np.log10(1 + edge / 700) for edge in BANDS_HZ)
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    rising = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    inside: Floats = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return inside


_HANN = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
_TRIANGLES = _triangles()
_FAST = _dft(FAST_WINDOW, FAST_EDGES[-1])
_LONG = np.ascontiguousarray(
    _dft(LONG_WINDOW, LOW_LAST)[:, [*range(LOW_FIRST, LOW_LAST), *range(LOW_LAST + LOW_FIRST, 2 * LOW_LAST)]]
)


def features(wave: Floats) -> Floats:
    """Pictures (frames, FEATURES) of speech (n,) at 16 kHz, every 10 ms; gain and fixed filters vanish.
    The number of frames is even."""
    centred = wave.astype(np.float32) - wave.mean(dtype=np.float32)
    frames = max(2, len(centred) // (2 * HOP) * 2)
    padded = np.pad(centred, (LONG_WINDOW // 2, LONG_WINDOW + HOP))
    view = np.lib.stride_tricks.sliding_window_view
    spectrum = rfft(view(padded[(LONG_WINDOW - WINDOW) // 2 :], WINDOW)[::HOP][:frames] * _HANN)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    loudest = float(power.sum(axis=1).max()) + 1e-20
    long = np.ascontiguousarray(view(padded, LONG_WINDOW)[::HOP][:frames]) @ _LONG
    lows = long[:, :LOWS] ** 2 + long[:, LOWS:] ** 2
    slow = np.log(np.concatenate([lows * 0.5, power @ _TRIANGLES], axis=1) / loudest + FLOOR)
    short = view(padded[LONG_WINDOW // 2 - FAST_WINDOW // 2 :], FAST_WINDOW)
    parts = np.ascontiguousarray(short[::FAST_HOP][: frames * FAST_STEPS]) @ _FAST
    parts *= parts
    bins = parts.shape[1] // 2
    quick = np.add.reduceat(parts[:, :bins] + parts[:, bins:], FAST_EDGES[:-1], axis=1)
    fast = np.log(quick / (loudest / 8.0) + FLOOR).reshape(frames, -1)
    found = np.concatenate([slow, fast], axis=1)
    found -= found.mean(axis=0)
    return np.asarray(found * np.float32(SCALE), np.float32)


def repeats(pictures: Floats, frames: int = REPEAT_FRAMES) -> float:
    """How much alike the two most alike stretches of `frames` are that begin REPEAT_APART or more apart: 1
    is the same twice; a person who says a word again stays below 0.9, noise and a room leave 0.95 of a
    paste. Only stretches louder than the mean count; 0 where there are none."""
    slow = pictures[:, :SLOW]
    count, starts = len(slow), len(slow) - frames + 1
    if starts <= REPEAT_APART:
        return 0.0
    product = np.zeros((count, 2 * count), np.float32)
    product[:, :count] = slow @ slow.T
    energy = np.convolve(np.diag(product), np.ones(frames, np.float32), "valid")
    loud = np.convolve(slow[:, LOWS:].mean(axis=1), np.ones(frames), "valid") > 0.0
    weight = np.zeros(2 * starts, np.float32)
    weight[:starts] = np.where(loud, 1.0 / np.sqrt(energy + 1e-9), 0.0)
    down, across = product.strides
    lags = starts - REPEAT_APART
    later = np.lib.stride_tricks.as_strided(  # [lag, start]
        product[:, REPEAT_APART:], (lags, count), (across, down + across), writeable=False
    )
    total = np.zeros((lags, count + 1), np.float32)
    np.cumsum(later, axis=1, out=total[:, 1:])
    alike = total[:, frames:] - total[:, :-frames]
    alike *= weight[:starts]
    alike *= np.lib.stride_tricks.sliding_window_view(weight, starts)[REPEAT_APART:starts]
    return max(0.0, float(alike.max()))
