"""One detector on one set of trials, measured: figures with intervals, and the points of its plots."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from quantize.evaluate.figures.intervals import Estimate, intervals, resampler
from quantize.evaluate.figures.metrics import (
    Array,
    Costs,
    Ranked,
    act_dcf,
    cllr,
    det_points,
    eer,
    eer_threshold,
    frr_at_far,
    min_dcf,
)
from quantize.evaluate.figures.pav import hull_eer, min_cllr, optimal_llrs

FAR_POINTS = {"frr_at_far_1e-2": 1e-2, "frr_at_far_1e-3": 1e-3, "frr_at_far_1e-4": 1e-4}
HISTOGRAM_BINS = 48


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Scores of both classes, and for each the units (speakers, systems, files) it depends on."""

    targets: Array
    nontargets: Array
    target_units: Sequence[tuple[Hashable, ...]]
    nontarget_units: Sequence[tuple[Hashable, ...]]

    @property
    def usable(self) -> bool:
        return len(self.targets) > 0 and len(self.nontargets) > 0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Share of each class by score: `edges` has one more element than the shares."""

    edges: list[float]
    targets: list[float]
    nontargets: list[float]


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found. `figures` are rates or costs by name; `det` is a list of (FAR, FRR).

    `reliability` holds (claimed LLR, LLR that the data support); empty where scores are not LLRs.
    """

    targets: int
    nontargets: int
    units: int
    figures: dict[str, Estimate]
    eer_threshold: float
    det: list[tuple[float, float]]
    histogram: Histogram
    reliability: list[tuple[float, float]] = field(default_factory=list)


def measure(
    trials: Trials,
    costs: Costs,
    threshold: float | None = None,
    llrs: bool = True,
    replicates: int = 300,
) -> Detection:
    """Every figure of `trials`. `threshold` is the deployed one: adds `frr` and `far` there.

    With `llrs` false the scores are uncalibrated: actDCF and Cllr would mean nothing and are left out.
    Raises ValueError when a class has no trial or a score is not finite.
    """
    ranked = Ranked(trials.targets, trials.nontargets)

    def statistics(target_weights: Array | None, nontarget_weights: Array | None) -> dict[str, float]:
        curve = ranked.curve(target_weights, nontarget_weights)
        figures = {"eer": eer(curve), "min_dcf": min_dcf(curve, costs)}
        figures |= {name: frr_at_far(curve, far) for name, far in FAR_POINTS.items()}
        if llrs:
            figures["act_dcf"] = act_dcf(curve, costs)
            figures["cllr"] = cllr(ranked.targets, ranked.nontargets, target_weights, nontarget_weights)
        if threshold is not None:
            figures["frr"], figures["far"] = curve.at(threshold)
        return figures

    sampler = resampler(trials.target_units, trials.nontarget_units)
    figures = intervals(statistics, sampler, replicates)
    for name, value in (("eer_hull", hull_eer(ranked)), ("min_cllr", min_cllr(ranked))):
        figures[name] = Estimate(value, value, value)
    curve = ranked.curve()
    return Detection(
        targets=len(trials.targets),
        nontargets=len(trials.nontargets),
        units=sampler.units,
        figures=figures,
        eer_threshold=eer_threshold(curve),
        det=det_points(curve),
        histogram=_histogram(ranked),
        reliability=_reliability(ranked) if llrs else [],
    )


def _histogram(ranked: Ranked) -> Histogram:
    edges = np.linspace(ranked.values[0], ranked.values[-1] + 1e-9, HISTOGRAM_BINS + 1)
    targets, _ = np.histogram(ranked.targets, edges)
    nontargets, _ = np.histogram(ranked.nontargets, edges)
    return Histogram(
        edges=[round(float(edge), 5) for edge in edges],
        targets=[round(float(count) / len(ranked.targets), 6) for count in targets],
        nontargets=[round(float(count) / len(ranked.nontargets), 6) for count in nontargets],
    )


def _reliability(ranked: Ranked) -> list[tuple[float, float]]:
    supported, _ = optimal_llrs(ranked)
    # Beyond the overlap of the classes the data support any LLR: only the finite part says something.
    finite = np.flatnonzero(np.isfinite(supported))
    steps = [i for i in finite if i == finite[0] or i == finite[-1] or supported[i] != supported[i - 1]]
    return [(round(float(ranked.values[i]), 4), round(float(supported[i]), 4)) for i in steps]
