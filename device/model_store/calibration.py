"""From a raw score to a log-likelihood ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass

LLR_LIMIT = 12.0
"""No set of the size we fit on supports stronger evidence than this, for or against (natural log)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Affine calibration, llr = scale * score + offset, in natural-log units (Brümmer 2010, ch. 6)."""

    scale: float
    offset: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale > 0):
            raise ValueError("a calibration needs a finite offset and a finite scale above zero")

    def llr(self, score: float) -> float:
        """The clipped LLR of one score; raises ValueError when the score is not a number."""
        if not math.isfinite(score):
            raise ValueError("a score must be finite")
        return max(-LLR_LIMIT, min(LLR_LIMIT, self.scale * score + self.offset))
