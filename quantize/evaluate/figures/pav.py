"""Pool-adjacent-violators: the best any monotone calibration could do, and the ROC convex hull with it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from quantize.evaluate.figures.metrics import Array, Ranked


def isotonic(values: npt.ArrayLike, weights: npt.ArrayLike) -> Array:
    """The non-decreasing sequence nearest to `values` in weighted least squares, same shape (n,)."""
    return _spread(*_pool(np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)))


def _pool(values: Array, weights: Array) -> tuple[list[float], list[int]]:
    means: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, length = value, weight, 1
        while means and means[-1] >= mean:
            total = masses[-1] + mass
            mean = (means[-1] * masses[-1] + mean * mass) / total if total > 0 else mean
            mass = total
            length += lengths[-1]
            for stack in (means, masses, lengths):
                stack.pop()
        means.append(mean)
        masses.append(mass)
        lengths.append(length)
    return means, lengths


def _spread(means: list[float], lengths: list[int]) -> Array:
    return np.repeat(np.asarray(means, dtype=np.float64), lengths)


def optimal_llrs(ranked: Ranked) -> tuple[Array, Array]:
    """(LLR of each distinct score, target mass) after the best monotone calibration; ±inf are allowed.

    Both classes weigh the same, as Cllr has them (Brümmer & du Preez 2006, section 7).
    """
    target_mass, nontarget_mass = ranked.histograms()
    posterior = isotonic(target_mass / (target_mass + nontarget_mass), target_mass + nontarget_mass)
    with np.errstate(divide="ignore"):
        return np.log(posterior) - np.log1p(-posterior), target_mass


def min_cllr(ranked: Ranked) -> float:
    """Cllr after the best monotone calibration: what discrimination alone costs, in bits."""
    llrs, _ = optimal_llrs(ranked)
    target_mass, nontarget_mass = ranked.histograms()
    # A score without mass on one side may have an infinite LLR there: 0 * inf must count as 0.
    hit, other = target_mass > 0, nontarget_mass > 0
    miss = np.sum(target_mass[hit] * np.logaddexp(0.0, -llrs[hit]))
    false_accept = np.sum(nontarget_mass[other] * np.logaddexp(0.0, llrs[other]))
    return float((miss + false_accept) / (2 * math.log(2)))


def hull_eer(ranked: Ranked) -> float:
    """Equal error rate on the convex hull of the ROC (ROCCH-EER)."""
    target_mass, nontarget_mass = ranked.histograms()
    _, lengths = _pool(target_mass / (target_mass + nontarget_mass), target_mass + nontarget_mass)
    ends = np.cumsum(lengths)
    frr = np.concatenate([[0.0], np.cumsum(target_mass)[ends - 1]])
    far = np.concatenate([[1.0], 1.0 - np.cumsum(nontarget_mass)[ends - 1]])
    here = int(np.argmax(frr >= far))
    gap_0, gap_1 = far[here - 1] - frr[here - 1], frr[here] - far[here]
    return float(frr[here - 1] + gap_0 / (gap_0 + gap_1) * (frr[here] - frr[here - 1]))
