"""A voiceprint that follows its owner: what the door heard of them of late is a further reference.

The enrolled voiceprint stays what decides. What it follows raises a score by so much at most, and only rows
that the enrolled voiceprint itself finds near count, each time anew (docs/adr/0081).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Quality
from device.evidence.voice import in_noise
from device.evidence.voice.at_the_door import DOOR_LLR
from device.evidence.voice.held import Voice
from device.evidence.voice.in_noise import FITTED_ON, Speaker
from device.evidence.voice.phrases import shift_of, shifted

Embedding = npt.NDArray[np.float32]

LEAST, MOST = 3, 5
"""Utterances: fewer are no reference, more are not kept."""
NEAR_LLR = 5.0
"""Of each against the enrolled voiceprint: 2 above what opens a door of level `standard`."""
FOLLOWED_LLR = -4.0
"""Added to the LLR against what is followed: strangers in the same place are more like it, too."""
RAISES_LLR = 2.0
"""What is followed raises no score by more: who is so far below a door's threshold stays outside it."""


def follows(model: str) -> bool:
    """Whether voiceprints of this speaker model follow: only that of the calibration does."""
    return model == FITTED_ON


def near(speaker: Speaker, row: Embedding, voice: Voice) -> bool:
    """Whether the enrolled voiceprint itself finds `row` near; what is followed has no say in it."""
    shift = shift_of(speaker.version, voice.phrases)
    found = [shifted(speaker.llr(row, voice.vector), shift.enrolled)]
    if voice.door is not None:
        found.append(shifted(speaker.llr(row, voice.door) + DOOR_LLR, shift.door))
    return any(one >= NEAR_LLR for one in found)


def raised(speaker: Speaker, quality: Quality, probe: Embedding, voice: Voice, enrolled_llr: float) -> float:
    """The LLR of `probe`, whose LLR against the enrolled voiceprint is `enrolled_llr`: never below that, and
    at most RAISES_LLR above. What is not a number stays none."""
    if voice.followed is None or not follows(speaker.version) or math.isnan(enrolled_llr):
        return enrolled_llr
    rows = [row for row in voice.followed if near(speaker, row, voice)]
    if len(rows) < LEAST:
        return enrolled_llr
    mean = np.mean(rows, axis=0)
    reference = (mean / np.linalg.norm(mean)).astype(np.float32)
    found = in_noise.llr(speaker, quality, probe, reference) + FOLLOWED_LLR
    mean[:] = reference[:] = 0.0
    return enrolled_llr if math.isnan(found) else max(enrolled_llr, min(found, enrolled_llr + RAISES_LLR))
