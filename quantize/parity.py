"""Does the small network decide as the large one does? Every network answers this before it is released.

A network's own module measures, on real speech that no range was chosen on, how far a tensor strays and how
many decisions turn over. `demand` refuses what is beyond its bounds and gives the manifest its metrics.

Decisions are bounded by what the count allows to be said about all others: no flip in 640 pairs says "below
0.5 %", one flip in 640 "below 0.74 %", and a processor that rounds differently moves one into the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from quantize.errors import QuantizeError
from quantize.speech import Clip

MAX_FLIPS_LIMIT = 0.005
"""Five decisions in a thousand at most, with CONFIDENCE, the same for every network."""
CONFIDENCE = 0.95
PIECE_S = 3
"""Parity is judged on pieces of the length that is spoken at a door."""
FLIPS, FLIPS_LIMIT = "parity_decision_flips", "parity_decision_flips_limit"
"""The share of decisions that turned over, and its upper limit."""

_DIGITS = 6


def demand(
    network: str,
    metrics: Mapping[str, float],
    *,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    decides: bool = True,
    most_flips: float = MAX_FLIPS_LIMIT,
) -> dict[str, float]:
    """`metrics` as the manifest states them; raises QuantizeError for the first that is out of its bounds.

    The limit of decision flips must be stated and is always bounded, but for half of a network, which decides
    nothing by itself: `most_flips` is what any network may have, more only where so little speech is compared
    that no network could be proven on it. A metric that is not a number is out of every bound.
    """
    bounds = [(name, low, np.inf) for name, low in (at_least or {}).items()]
    upper = {FLIPS_LIMIT: most_flips} if decides else {}
    bounds += [(name, -np.inf, high) for name, high in {**upper, **(at_most or {})}.items()]
    for name, low, high in bounds:
        value = metrics[name]
        if not low <= value <= high:
            asked = f"at least {low:g}" if high == np.inf else f"at most {high:g}"
            raise QuantizeError(
                f"{network} strays: {name} is {value:.4g}, {asked} is asked; it is not released"
            )
    return {name: round(float(value), _DIGITS) for name, value in metrics.items()}


def decisions(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> dict[str, float]:
    """How many decisions there were, the share that turned over, and the upper limit of that share."""
    flipped = int((before != after).sum())
    return {
        "parity_pairs": float(before.size),
        FLIPS: flipped / before.size,
        FLIPS_LIMIT: upper_limit(flipped, before.size),
    }


def upper_limit(hits: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Clopper and Pearson's one-sided upper limit of a share, of which `hits` in `trials` were seen."""
    if hits >= trials:
        return 1.0
    low, high = hits / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        # The probability of so few hits: it falls as the share rises.
        logs = [
            math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
            + k * math.log(middle) + (trials - k) * math.log1p(-middle)
            for k in range(hits + 1)
        ]  # fmt: skip
        few = math.fsum(math.exp(one) for one in logs)
        low, high = (middle, high) if few > 1.0 - confidence else (low, middle)
    return high


def embedding_parity(
    network: str,
    exact: npt.NDArray[Any],
    small: npt.NDArray[Any],
    at: float,
    least_cosine: float,
    most_flips: float = MAX_FLIPS_LIMIT,
) -> dict[str, float]:
    """Metrics of two sets of unit embeddings (pieces, size) of the same speech; raises QuantizeError.

    Every pair of different pieces is a decision: the same voice when their cosine is above `at`.
    """
    cosines = (exact * small).sum(axis=1)
    pairs = np.triu_indices(len(exact), 1)
    before, after = (exact @ exact.T)[pairs], (small @ small.T)[pairs]
    metrics = {
        "parity_pieces": float(len(exact)),
        "parity_cosine_min": float(cosines.min()),
        "parity_cosine_mean": float(cosines.mean()),
        "parity_score_drift_max": float(np.abs(before - after).max()),
        **decisions(before > at, after > at),
    }
    return demand(network, metrics, at_least={"parity_cosine_min": least_cosine}, most_flips=most_flips)


def pieces(clip: Clip) -> list[Wave]:
    """`clip` cut into pieces of PIECE_S; a shorter one is one piece."""
    size = PIECE_S * SAMPLE_RATE_HZ
    whole = max(1, len(clip.wave) // size)
    return [clip.wave[i * size : (i + 1) * size] for i in range(whole)]
