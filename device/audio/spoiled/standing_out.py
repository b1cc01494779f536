"""The part of an utterance that stands out of what sounds around it. Pure arithmetic."""

from __future__ import annotations

import numpy as np

from device.audio.utterance import SAMPLE_RATE_HZ, Wave

RANGE_DB = 15.0
"""Below the loudest twentieth."""
BLOCK_SAMPLES = SAMPLE_RATE_HZ // 100
BESIDE_BLOCKS = 2
"""Kept on each side of what stands out, so that no sound is cut in its rise."""
LEAST_BLOCKS = 60
"""0.6 s: the loudest, where less than that stands out."""
PREEMPHASIS = np.float32(0.97)


def standing_out(wave: Wave) -> Wave:
    """The 10 ms blocks of `wave` (n,) that stand out, joined: a copy; `wave` itself where it is short."""
    blocks = wave[: len(wave) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    if len(blocks) <= LEAST_BLOCKS:
        return wave
    sharpened = wave[: blocks.size].copy()  # as the voice network hears it: hum counts for little
    sharpened[1:] -= PREEMPHASIS * wave[: blocks.size - 1]
    power = np.square(sharpened.reshape(blocks.shape)).mean(axis=1, dtype=np.float64)
    sharpened[:] = 0.0
    level_db = 10.0 * np.log10(power + 1e-12)
    loud = level_db >= np.percentile(level_db, 95) - RANGE_DB
    if loud.sum() < LEAST_BLOCKS:
        loud[np.argsort(-level_db, kind="stable")[:LEAST_BLOCKS]] = True
    kept = np.convolve(loud, np.ones(2 * BESIDE_BLOCKS + 1), "same") > 0.5
    return np.asarray(blocks[kept].reshape(-1))
