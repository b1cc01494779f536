"""Likelihood ratios in words, on the scale that European forensic institutes use (ENFSI guideline, 2015)."""

from __future__ import annotations

import math

STEPS = (
    (math.log(2.0), "no support either way"),
    (math.log(10.0), "weak support"),
    (math.log(100.0), "moderate support"),
    (math.log(1_000.0), "moderately strong support"),
    (math.log(10_000.0), "strong support"),
    (math.inf, "very strong support"),
)
"""Up to which natural-log ratio, and what it is called. The guideline goes on to a million; our ratios are
bounded at e^12 = 160,000, since nothing was fitted on enough speech to claim more."""
LIMITS = (
    "A ratio says how many times more likely this sound is if the first statement is true than if the second "
    "is. It is not the chance that the first is true: that also depends on everything else that is known.",
    "The ratios were fitted on read speech of some hundred people in quiet and simulated rooms. In other "
    "conditions they may be too strong or too weak; docs/evaluation/attacks.md says how well they held where "
    "tried.",
    "Evidence by kinds is not independent: ratios of two kinds must not be multiplied.",
)


def in_words(llr: float, first: str, second: str) -> str:
    """Such as "strong support for FIRST over SECOND", of a natural-log likelihood ratio."""
    size, name = abs(llr), support(llr)
    if size < STEPS[0][0]:
        return f"{name}: {first}, or {second}"
    favoured, other = (first, second) if llr > 0 else (second, first)
    return f"{name} for {favoured} over {other} (about {_times(math.exp(size))} times as likely)"


def support(llr: float) -> str:
    """Such as "strong support": what the scale calls a ratio of this size, for whichever side."""
    return next(name for most, name in STEPS if abs(llr) < most or most == math.inf)


def _times(ratio: float) -> str:
    """Two significant digits: more would claim more than is known."""
    digits = max(0, math.floor(math.log10(ratio)) - 1)
    return f"{round(ratio, -digits):,.0f}" if ratio >= 10 else f"{ratio:.1f}"
