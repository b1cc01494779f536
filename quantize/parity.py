"""Does the small network decide as the large one does? Every network answers this before it is kept.

A network's own module measures, on real speech that no range was chosen on, how far a tensor strays and how
many decisions turn over. `demand` refuses what is beyond its bounds and gives the manifest its metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import ParityError
from quantize.speech import RATE_HZ, Clip

MAX_DECISION_FLIPS = 0.001
"""One decision in a thousand, the same for every network."""
PIECE_S = 3
"""Parity is judged on pieces of the length that is spoken at a door."""
FLIPS = "parity_decision_flips"

Wave = npt.NDArray[np.float32]
_DIGITS = 6


def demand(
    network: str,
    metrics: Mapping[str, float],
    *,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """`metrics` as the manifest states them; raises ParityError for the first that is out of its bounds.

    Decision flips must be stated and are always bounded. A metric that is not a number is out of every bound.
    """
    bounds = [(name, low, np.inf) for name, low in (at_least or {}).items()]
    bounds += [(name, -np.inf, high) for name, high in {FLIPS: MAX_DECISION_FLIPS, **(at_most or {})}.items()]
    for name, low, high in bounds:
        value = metrics[name]
        if not low <= value <= high:
            asked = f"at least {low:g}" if high == np.inf else f"at most {high:g}"
            raise ParityError(f"{network} strays: {name} is {value:.4g}, {asked} is asked; it was not kept")
    return {name: round(float(value), _DIGITS) for name, value in metrics.items()}


def decision_flips(before: npt.NDArray[Any], after: npt.NDArray[Any], at: float) -> float:
    """The share of scores that lie on the other side of `at` afterwards."""
    return float(((before > at) != (after > at)).mean())


def embedding_parity(
    network: str, exact: npt.NDArray[Any], small: npt.NDArray[Any], at: float, least_cosine: float
) -> dict[str, float]:
    """Metrics of two sets of unit embeddings (pieces, size) of the same speech; raises ParityError.

    Every pair of different pieces is a decision: the same voice when their cosine is above `at`.
    """
    cosines = (exact * small).sum(axis=1)
    pairs = np.triu_indices(len(exact), 1)
    before, after = (exact @ exact.T)[pairs], (small @ small.T)[pairs]
    metrics = {
        "parity_pieces": float(len(exact)),
        "parity_cosine_min": float(cosines.min()),
        "parity_cosine_mean": float(cosines.mean()),
        "parity_pairs": float(len(before)),
        "parity_score_drift_max": float(np.abs(before - after).max()),
        FLIPS: decision_flips(before, after, at),
    }
    return demand(network, metrics, at_least={"parity_cosine_min": least_cosine})


def pieces(clip: Clip) -> list[Wave]:
    """`clip` cut into pieces of PIECE_S; a shorter one is one piece."""
    size = PIECE_S * RATE_HZ
    whole = max(1, len(clip.wave) // size)
    return [clip.wave[i * size : (i + 1) * size] for i in range(whole)]
