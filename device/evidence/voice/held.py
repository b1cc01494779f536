"""What an attempt's voice is held against: one voiceprint, and which speaker models decide. Values only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.evidence.voice.phrases import CALIBRATED_BY

Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """One template, and by which of the judge's speaker models."""

    vector: Embedding
    model: str
    grows: bool = False
    """Whether the newer model should hear this person too: a voiceprint of its own is growing."""
    grown: Voice | None = None
    """The same person's by the newer model, made of granted attempts. The lower of both scores counts."""
    door: Embedding | None = None
    """The door vector; None in voiceprints that have none, or one of another making."""
    phrases: int = CALIBRATED_BY
    """Of how many it was made."""
    follows: bool = False
    """Whether what is heard now may be kept for it to follow ..."""
    followed: Embedding | None = None
    """... and what it follows: rows (n, size); None where there is nothing, or it does not count here."""


@dataclass(frozen=True, slots=True)
class Generations:
    """Names of the speaker models that decide: `older` is None where nobody comes over to another."""

    older: str | None
    newer: str


def lower_llr(enrolled: float, grown: float) -> float:
    """Of two models' scores for one person the lower: never above that of the voiceprint enrolled in person.

    NaN where one of them is.
    """
    return float(np.minimum(enrolled, grown))
