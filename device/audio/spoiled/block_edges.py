"""Finds the edges of lost blocks that a driver closed up, swapped or covered with a copy. Pure.

What a driver puts there has the level and the colour of the speech. Only the places where it was joined break
off: there the next samples do not follow from those before. Such places lie on the grid of one block size.
"""

from __future__ import annotations

import numpy as np

from device.audio.spectrum import Floats, rfft
from device.audio.spoiled.lost_blocks import REPEATED_MS
from device.audio.utterance import SAMPLE_RATE_HZ, Wave

WINDOW, HOP, ORDER = 512, 256, 16
EDGE, BESIDE = 3, 48
"""Samples of an edge, and on each side of it what they are compared with."""
RAREST = 99.0
"""Per cent: what breaks off more than that many other places counts as an edge."""
DEVIATIONS = 8.0
"""Of 240 people one has more, and of 120 attacks two."""


def break_on_a_grid(wave: Wave) -> bool:
    """Whether the places at which speech (n,) at 16 kHz breaks off lie on the grid of one block size."""
    if len(wave) < SAMPLE_RATE_HZ // 2 or not wave.any():
        return False
    sudden = _suddenness(wave)
    edges = sudden > np.percentile(sudden, RAREST)
    share = float(edges.mean())
    spread = np.sqrt(share * (1.0 - share)) + 1e-12
    for block_ms in REPEATED_MS:
        block = block_ms * SAMPLE_RATE_HZ / 1_000
        blocks = int((len(edges) - 1) // block)
        grid = np.arange(int(block)) + np.round(np.arange(blocks) * block).astype(np.intp)[:, None]
        if (float(edges[grid].mean(axis=0).max()) - share) * np.sqrt(blocks) / spread >= DEVIATIONS:
            return True
    return False


def _suddenness(wave: Wave) -> Floats:
    """The log of what is left of each place after linear prediction, over what is left beside it."""
    left = np.square(np.convolve(wave.astype(np.float64), _whitening(wave))[: len(wave)])
    total = np.concatenate(([0.0], np.cumsum(left + 1e-12)))
    left[:] = 0.0
    at = np.arange(BESIDE, len(wave) - EDGE - BESIDE)
    edge = (total[at + EDGE] - total[at]) / EDGE
    beside = total[at] - total[at - BESIDE] + total[at + EDGE + BESIDE] - total[at + EDGE]
    sudden: Floats = np.log(edge / (beside / (2 * BESIDE)))
    return sudden


def _whitening(wave: Wave) -> Floats:
    """The predictor of the usual speech in `wave`, as taps that leave what does not follow."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    power = np.square(np.abs(rfft(frames * np.hanning(WINDOW), 2 * WINDOW, axis=1)))
    level = power.sum(axis=1)
    loud = level >= np.percentile(level, 40)
    own = np.fft.irfft((power[loud] / (level[loud, None] + 1e-12)).mean(axis=0))[: ORDER + 1]
    own[0] = own[0] * 1.0001 + 1e-12
    steps = np.arange(ORDER)
    predictor = np.linalg.solve(own[np.abs(steps[:, None] - steps)], own[1:])
    return np.concatenate(([1.0], -predictor))
