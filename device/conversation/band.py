"""Tells whether speech came through a telephone (nothing above 4 kHz), whose voices sound unlike enrolled
ones."""

from __future__ import annotations

import numpy as np

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ, Samples

BLOCK = 512
LOW_HZ, HIGH_HZ = (300.0, 3_400.0), (4_300.0, 7_500.0)
NARROW_DB = -52.0
"""Power above the telephone's band over that inside it, in the loud blocks of a recording. Of 463 development
recordings from wideband microphones the lowest had -43, of 153 resampled to 8 kHz and back the highest -63.
"""
MOST_BLOCKS = 4_000
"""Looked at, evenly spread."""
ROUNDING = 4.0
"""Times the noise of one rounding: sound is often rounded more than once."""


def high_over_low_db(samples: Samples) -> float:
    """Power of HIGH_HZ over that of LOW_HZ in decibels, in the louder half of int16 samples (n,) at 16
    kHz. -200 where there is nothing."""
    blocks = samples[: len(samples) // BLOCK * BLOCK].reshape(-1, BLOCK)
    if not len(blocks):
        return -200.0
    blocks = blocks[:: max(1, len(blocks) // MOST_BLOCKS)].astype(np.float32)
    energy = np.square(blocks).mean(axis=1)
    window = np.hanning(BLOCK).astype(np.float32)
    loud = blocks[energy >= np.median(energy)] * window
    power = np.square(np.abs(rfft(loud, axis=1))).mean(axis=0)
    # What rounding to whole samples adds to every bin; a quiet recording has little else above 4 kHz.
    power = np.maximum(power - ROUNDING * float(np.square(window).sum()) / 12.0, 0.0)
    blocks[:] = 0.0
    loud[:] = 0.0
    hz = np.fft.rfftfreq(BLOCK, 1.0 / SAMPLE_RATE_HZ)
    low, high = (float(power[(hz >= a) & (hz <= b)].sum()) for a, b in (LOW_HZ, HIGH_HZ))
    return 10.0 * float(np.log10(max(high, 1e-20) / low)) if low > 0.0 else -200.0


def is_narrow(samples: Samples) -> bool:
    """Whether there is sound in the telephone's band and next to none above it."""
    return bool(np.any(samples)) and high_over_low_db(samples) < NARROW_DB
