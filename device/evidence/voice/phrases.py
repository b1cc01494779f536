"""What more phrases at an enrolment do to scores: a voiceprint of more is nearer to everybody.

It is much nearer to its owner. It is a little nearer to strangers, too, and what is taken off here lets in as
many of them as voiceprints of three phrases do, by which the voice check was calibrated (docs/adr/0070).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from device.evidence.voice.in_noise import FITTED_ON
from device.model_store.calibration import LLR_LIMIT

CALIBRATED_BY = 3
"""Phrases. A voiceprint of fewer, or of another speaker model, is held as it is."""
MOST = 5
"""Of more than these nothing was measured: it counts as one of so many."""
EACH_LLR, EACH_DOOR_LLR = -0.2, -0.05
"""Of each phrase beyond the third: against the vector as enrolled, and against the door vector."""


@dataclass(frozen=True, slots=True)
class Shift:
    """What is added to the LLR against one voiceprint."""

    enrolled: float = 0.0
    """Against the vector as enrolled ..."""
    door: float = 0.0
    """... and against the door vector."""


def shift_of(model: str, phrases: int) -> Shift:
    """Of a voiceprint of that speaker model, made of so many phrases."""
    more = min(max(phrases, CALIBRATED_BY), MOST) - CALIBRATED_BY
    return Shift(EACH_LLR * more, EACH_DOOR_LLR * more) if more and model == FITTED_ON else Shift()


def shifted(llr: float, shift: float) -> float:
    """`llr` moved by `shift`, within the limits of every LLR. What is not a number stays none."""
    if not shift or math.isnan(llr):
        return llr
    return max(-LLR_LIMIT, min(LLR_LIMIT, llr + shift))
