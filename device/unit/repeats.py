"""Finds two recordings that are one, also trimmed, louder, or saved in another format. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft

Wave = npt.NDArray[np.float32]

SAME_CORRELATION = 0.7
"""Over the time that two recordings share. Two utterances of the same words stay far below it."""
LEAST_COMMON = 4000
"""Samples (0.25 s): shorter pieces correlate by accident."""


def repeated(waves: Mapping[str, Wave]) -> tuple[str, str] | None:
    """The names of the first two recordings, float32 mono of one rate, that are the same one; else None."""
    for first, second in combinations(waves, 2):
        if correlation(waves[first], waves[second]) >= SAME_CORRELATION:
            return first, second
    return None


def correlation(first: Wave, second: Wave) -> float:
    """The correlation, in [0, 1], of two recordings where they fit best, over the time they share there.

    It compares differences of neighbouring samples, so that hum and rumble of the place weigh nothing.
    """
    left, right = np.diff(first), np.diff(second)
    if min(len(left), len(right)) < LEAST_COMMON:
        return 0.0
    size = 1 << (len(left) + len(right) - 1).bit_length()
    fits = np.fft.irfft(rfft(left, size) * np.conj(rfft(right, size)), size)
    # Lag n: right[k] lies at left[k + n]. Lags of less than LEAST_COMMON shared samples are left out.
    lags = np.arange(LEAST_COMMON - len(right), len(left) - LEAST_COMMON + 1)
    lag = int(lags[np.abs(fits[lags % size]).argmax()])
    start, end = max(0, lag), min(len(left), len(right) + lag)
    mine, other = left[start:end], right[start - lag : end - lag]
    power = float(np.sqrt(np.dot(mine, mine) * np.dot(other, other)))
    found = abs(float(np.dot(mine, other))) / power if power > 0.0 else 0.0
    left[:] = right[:] = fits[:] = 0.0
    return found
