"""Examples in batches of one length, for whatever learns from them."""

from __future__ import annotations

import numpy as np
import torch

from device.liveness.join_pictures import FEATURES, SLOW
from device.liveness.joins import FRAME_S, LARGEST, speech_span
from research.joins.spliced import Example

BESIDE, UNSURE = 2.0, 6.0
"""Frames beside a join that count as it, and that count as nothing."""
CROPPED, MASKED = 0.3, 0.3


def _cropped(one: Example, dice):
    """(pictures, joins) without up to a quarter at either end."""
    pictures, joins = one.pictures.astype(np.float32), one.joins_s
    if dice is None or dice.random() >= CROPPED or len(pictures) <= 200:
        return pictures, joins
    first, last = (int(dice.integers(0, len(pictures) // 4)) // 2 * 2 for _ in range(2))
    last = len(pictures) - last
    inside = joins[(joins > first / 100 + 0.1) & (joins < last / 100 - 0.1)] - first / 100
    if one.spliced and not len(inside):
        return pictures, joins
    part = pictures[first:last]
    return part - part.mean(axis=0), inside


def batch(chosen: list[Example], mean, scale, dice=None):
    """(pictures, which frames are there, which are speech, joins, which count), padded to one length;
    pictures are (batch, 2 * time, FEATURES), all else (batch, time).
    """
    parts = [_cropped(one, dice) for one in chosen]
    longest = max(len(pictures) for pictures, _ in parts) // 2 * 2
    seen = np.zeros((len(parts), longest, FEATURES), np.float32)
    there, speech, target, counts = np.zeros((4, len(parts), longest // 2), np.float32)
    for at, (pictures, joins) in enumerate(parts):
        frames = len(pictures) // 2
        scaled = (pictures[: 2 * frames] - mean) / scale
        scaled = scaled.clip(-LARGEST, LARGEST, out=scaled)
        if dice is not None and dice.random() < MASKED:
            width = int(dice.integers(2, 10))
            low = int(dice.integers(0, SLOW - width))
            scaled[:, low : low + width] = 0.0
        seen[at, : 2 * frames] = scaled
        there[at, :frames] = 1.0
        speech[at, speech_span(pictures[: 2 * frames])] = 1.0
        counts[at, :frames] = 1.0
        if len(joins):
            away = np.abs(np.arange(frames)[:, None] + 0.5 - joins / FRAME_S).min(axis=1)
            target[at, :frames] = away <= BESIDE
            counts[at, :frames] = (away <= BESIDE) | (away >= UNSURE)
    counts *= speech
    return [torch.from_numpy(part) for part in (seen, there, speech, target, counts)]
