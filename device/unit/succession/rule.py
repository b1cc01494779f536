"""The rule by which a voiceprint grows for the next speaker model, from somebody's own granted attempts.

The model in use decides. Of an attempt that passed well, the next model's embedding is kept beside the
voiceprint: one a day, from three days, each of which must fit the others. Somebody who got in once with
another voice has added one of three, which fits no other, and all are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from device.access.decision import Decision, Factor, Outcome, Reason
from device.models.speaker import MIN_ENROLMENT
from device.secure_store import Growing

MARGIN_LLR = 2.0
"""How far above its threshold each factor has to be."""
FITS_LLR = 3.0
"""Of each day's voice against the mean of the other days, by the next model: as at a door."""
WITHIN_DAYS = 60
"""Older days are dropped: a voice changes, and so does a microphone."""
NEEDED = frozenset({Factor.PHRASE, Factor.VOICE, Factor.LIVE})

Embedding = npt.NDArray[np.float32]
Llr = Callable[[Embedding, Embedding], float]


class Step(StrEnum):
    """What an attempt did to a growing voiceprint."""

    NOTHING = "nothing"
    HEARD = "heard"
    READY = "ready"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Grown:
    step: Step
    growing: Growing | None


def well_inside(decision: Decision) -> bool:
    """Whether this opened on every factor, each well above its threshold, at the first phrase, at a door that
    asks for phrase, voice and a live human.
    """
    own = [finding for finding in decision.findings if not finding.part]
    return (
        decision.outcome is Outcome.GRANTED
        and decision.code is Reason.ALL_FACTORS_PASSED
        and {finding.factor for finding in own} >= NEEDED
        and all(finding.passed and not finding.before_llr for finding in decision.findings)
        and all(finding.llr >= finding.threshold_llr + MARGIN_LLR for finding in own)
    )


def with_another(before: Growing | None, model: str, day: int, heard: Embedding, llr: Llr) -> Grown:
    """The growing voiceprint once `heard`, a unit embedding by `model`, is added on `day` (UTC, since 1970).

    Pure. 1. Another model's is dropped, and so are old days. 2. One a day, and none before the last.
    3. From three on each must fit the others, or all are dropped.
    """
    days: tuple[int, ...] = ()
    rows: list[Embedding] = []
    if before is not None and before.model == model:  # 1
        if before.ready or day <= before.days[-1]:  # 2
            return Grown(Step.NOTHING, before)
        for at, row in zip(before.days, before.vectors, strict=True):
            if day - at <= WITHIN_DAYS:
                days, rows = (*days, at), [*rows, row]
    days, vectors = (*days, day), np.stack([*rows, heard]).astype(np.float32)
    if len(days) < MIN_ENROLMENT:
        return Grown(Step.HEARD, Growing(model, days, vectors))
    for number in range(len(days)):  # 3
        others = np.delete(vectors, number, axis=0).mean(axis=0)
        others /= np.linalg.norm(others)
        if not llr(vectors[number], others.astype(np.float32)) >= FITS_LLR:
            vectors[:] = 0.0
            return Grown(Step.DROPPED, None)
    return Grown(Step.READY, Growing(model, days, vectors, ready=True))
