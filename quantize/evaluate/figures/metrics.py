"""Detection error metrics over weighted scores: the field's definitions, numpy only.

A higher score speaks for the target class (right voice, bona fide, right phrase). A trial is accepted
when its score is at or above the threshold. Rates are fractions in [0, 1]; LLRs are natural-log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Costs:
    """What an application pays: the prior of a target trial, and the price of each error."""

    target_prior: float
    miss: float = 1.0
    false_accept: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.target_prior < 1.0 or min(self.miss, self.false_accept) <= 0.0:
            raise ValueError("a prior lies strictly between 0 and 1, and errors cost more than nothing")

    @property
    def bayes_threshold(self) -> float:
        """The LLR threshold that is optimal if scores are what they claim to be (Brümmer 2010, 2.3)."""
        return math.log(self.false_accept * (1 - self.target_prior)) - math.log(self.miss * self.target_prior)

    def normalised(self, frr: Array, far: Array) -> Array:
        """Expected cost over that of the better of always accepting and always refusing (NIST SRE)."""
        cost = self.miss * self.target_prior * frr + self.false_accept * (1 - self.target_prior) * far
        blind = min(self.miss * self.target_prior, self.false_accept * (1 - self.target_prior))
        return np.asarray(cost / blind, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Every operating point of a detector, by rising threshold: from accept-all to reject-all.

    All three arrays have shape (points,); the last threshold is +inf.
    """

    thresholds: Array
    frr: Array
    far: Array

    def at(self, threshold: float) -> tuple[float, float]:
        """(FRR, FAR) when scores at or above `threshold` are accepted."""
        index = int(np.searchsorted(self.thresholds, threshold, side="left"))
        index = min(index, len(self.thresholds) - 1)
        return float(self.frr[index]), float(self.far[index])


class Ranked:
    """Scores sorted once, so that a thousand reweightings (a bootstrap) cost no further sort.

    Raises ValueError when either class is empty or a score is not finite.
    """

    def __init__(self, targets: npt.ArrayLike, nontargets: npt.ArrayLike) -> None:
        self.targets = _scores(targets, "target")
        self.nontargets = _scores(nontargets, "non-target")
        both = np.concatenate([self.targets, self.nontargets])
        self.values, place = np.unique(both, return_inverse=True)
        self._target_place = place[: len(self.targets)]
        self._nontarget_place = place[len(self.targets) :]

    def histograms(
        self, target_weights: Array | None = None, nontarget_weights: Array | None = None
    ) -> tuple[Array, Array]:
        """Target and non-target mass at each distinct score, each summing to 1."""
        return (
            _mass(self._target_place, target_weights, len(self.values)),
            _mass(self._nontarget_place, nontarget_weights, len(self.values)),
        )

    def curve(self, target_weights: Array | None = None, nontarget_weights: Array | None = None) -> Curve:
        """All operating points under the given trial weights (equal weights when None)."""
        target_mass, nontarget_mass = self.histograms(target_weights, nontarget_weights)
        zero = np.zeros(1)
        below_target = np.concatenate([zero, np.cumsum(target_mass)])
        below_nontarget = np.concatenate([zero, np.cumsum(nontarget_mass)])
        return Curve(
            thresholds=np.append(self.values, np.inf),
            frr=np.clip(below_target, 0.0, 1.0),
            far=np.clip(1.0 - below_nontarget, 0.0, 1.0),
        )


def eer(curve: Curve) -> float:
    """Equal error rate: where FRR = FAR on the empirical curve, linear between its points.

    The convex-hull variant (`pav.hull_eer`) is never higher; reports show both.
    """
    here = _first_crossed(curve)
    if here == 0:
        return float(curve.far[0])
    frr_0, frr_1 = float(curve.frr[here - 1]), float(curve.frr[here])
    far_0, far_1 = float(curve.far[here - 1]), float(curve.far[here])
    share = (far_0 - frr_0) / ((far_0 - frr_0) + (frr_1 - far_1))
    return frr_0 + share * (frr_1 - frr_0)


def eer_threshold(curve: Curve) -> float:
    """The lowest score threshold at which FRR is no longer below FAR."""
    return float(curve.thresholds[_first_crossed(curve)])


def frr_at_far(curve: Curve, far: float) -> float:
    """The lowest FRR among operating points whose FAR is at most `far`: nothing is interpolated."""
    return float(curve.frr[_first_within(curve, far)])


def min_dcf(curve: Curve, costs: Costs) -> float:
    """Normalised detection cost at the best threshold in hindsight."""
    return float(np.min(costs.normalised(curve.frr, curve.far)))


def act_dcf(curve: Curve, costs: Costs) -> float:
    """Normalised detection cost at the Bayes threshold: the curve's scores must be LLRs."""
    frr, far = curve.at(costs.bayes_threshold)
    return float(costs.normalised(np.array([frr]), np.array([far]))[0])


def cllr(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    target_weights: Array | None = None,
    nontarget_weights: Array | None = None,
) -> float:
    """Cost of log-likelihood ratios in bits (Brümmer & du Preez 2006): 0 is perfect, 1 tells nothing."""
    target_scores, nontarget_scores = _scores(targets, "target"), _scores(nontargets, "non-target")
    miss = np.average(np.logaddexp(0.0, -target_scores), weights=target_weights)
    false_accept = np.average(np.logaddexp(0.0, nontarget_scores), weights=nontarget_weights)
    return float((miss + false_accept) / (2 * math.log(2)))


@dataclass(frozen=True, slots=True)
class AdcfCosts:
    """Priors and prices of the three kinds of attempt (Shim et al. 2024; ASVspoof 5, track 2)."""

    target_prior: float = 0.9405
    nontarget_prior: float = 0.0095
    spoof_prior: float = 0.05
    miss: float = 1.0
    false_accept_nontarget: float = 10.0
    false_accept_spoof: float = 10.0


def a_dcf(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    spoofs: npt.ArrayLike,
    costs: AdcfCosts | None = None,
    threshold: float | None = None,
) -> float:
    """Normalised architecture-agnostic detection cost of one spoof-aware verification score.

    At `threshold`, or at the best one in hindsight when None. 1.0 is the better of always and never opening.
    """
    costs = costs or AdcfCosts()
    target_scores = np.sort(_scores(targets, "target"))
    nontarget_scores = np.sort(_scores(nontargets, "non-target"))
    spoof_scores = np.sort(_scores(spoofs, "spoof"))
    if threshold is None:
        thresholds = np.unique(np.concatenate([target_scores, nontarget_scores, spoof_scores, [np.inf]]))
    else:
        thresholds = np.array([threshold])
    miss = costs.miss * costs.target_prior
    impostor = costs.false_accept_nontarget * costs.nontarget_prior
    spoof = costs.false_accept_spoof * costs.spoof_prior
    cost = (
        miss * _below(target_scores, thresholds)
        + impostor * (1 - _below(nontarget_scores, thresholds))
        + spoof * (1 - _below(spoof_scores, thresholds))
    )
    return float(np.min(cost) / min(miss, impostor + spoof))


def det_points(curve: Curve, limit: int = 400) -> list[tuple[float, float]]:
    """(FAR, FRR) pairs for a DET plot, thinned to the corners and at most about `limit` points."""
    pairs = np.column_stack([curve.far, curve.frr])
    moved = np.any(np.diff(pairs, axis=0) != 0.0, axis=1)
    pairs = pairs[np.concatenate([[True], moved])]
    turns = np.ones(len(pairs), dtype=bool)
    steps = np.diff(pairs, axis=0)
    # A point inside a straight run (only FAR moves, or only FRR) is not a corner.
    turns[1:-1] = (steps[:-1, 0] != 0.0) != (steps[1:, 0] != 0.0)
    corners = pairs[turns]
    if len(corners) > limit:
        corners = corners[np.unique(np.linspace(0, len(corners) - 1, limit).astype(int))]
    return [(float(far), float(frr)) for far, frr in corners]


def _first_crossed(curve: Curve) -> int:
    return int(np.argmax(curve.frr >= curve.far))


def _first_within(curve: Curve, far: float) -> int:
    # Sums of weights leave rounding dust; without the slack a FAR of exactly 1 % can read as more.
    return int(np.argmax(curve.far <= far + 1e-12))


def _below(ordered: Array, thresholds: Array) -> Array:
    return np.searchsorted(ordered, thresholds, side="left") / len(ordered)


def _mass(place: npt.NDArray[np.intp], weights: Array | None, bins: int) -> Array:
    counts = np.bincount(place, weights=weights, minlength=bins).astype(np.float64)
    total = counts.sum()
    if total <= 0.0:
        raise ValueError("weights must sum to more than nothing")
    return np.asarray(counts / total, dtype=np.float64)


def _scores(values: npt.ArrayLike, kind: str) -> Array:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"there are no {kind} scores")
    if not np.all(np.isfinite(scores)):
        raise ValueError(f"a {kind} score is not finite")
    return scores
