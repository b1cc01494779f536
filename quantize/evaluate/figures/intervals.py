"""95 % intervals: Wilson's for a share, and bootstrap over speakers where trials depend on each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantize.evaluate.figures.metrics import Array

Units = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Resampler:
    """Draws speakers with replacement; a trial weighs the product of its speakers' counts.

    `targets` and `nontargets` hold, for every trial, the index of each unit it depends on: shape
    (trials, 1) or (trials, 2). An impostor trial depends on the enrolled speaker and on the impostor.
    """

    targets: Units
    nontargets: Units
    units: int

    def draws(self, replicates: int, seed: int) -> Iterator[tuple[Array, Array]]:
        """(target weights, non-target weights) of every replicate that still has both kinds of trial."""
        rng = np.random.default_rng(seed)
        for _ in range(replicates):
            drawn = rng.integers(self.units, size=self.units)
            counts = np.bincount(drawn, minlength=self.units).astype(np.float64)
            target, nontarget = counts[self.targets].prod(axis=1), counts[self.nontargets].prod(axis=1)
            if target.any() and nontarget.any():
                yield target, nontarget


def resampler(
    targets: Sequence[tuple[Hashable, ...]], nontargets: Sequence[tuple[Hashable, ...]]
) -> Resampler:
    """A resampler from the names of the units (usually speakers) behind each trial."""
    names = {
        name: index for index, name in enumerate(dict.fromkeys(n for t in (*targets, *nontargets) for n in t))
    }
    return Resampler(_indices(targets, names), _indices(nontargets, names), len(names))


def _indices(trials: Sequence[tuple[Hashable, ...]], names: dict[Hashable, int]) -> Units:
    return np.array([[names[name] for name in trial] for trial in trials], dtype=np.intp)


Statistics = Callable[[Array | None, Array | None], dict[str, float]]
"""Figures by name from (target weights, non-target weights); None weighs every trial alike."""


def intervals(
    statistics: Statistics, sampler: Resampler, replicates: int = 300, seed: int = 1
) -> dict[str, Estimate]:
    """Every figure on all trials, with its 2.5 and 97.5 percentiles over the replicates."""
    values = statistics(None, None)
    spread: dict[str, list[float]] = {name: [value] for name, value in values.items()}
    for target, nontarget in sampler.draws(replicates, seed):
        for name, value in statistics(target, nontarget).items():
            spread[name].append(value)
    estimates = {}
    for name, value in values.items():
        low, high = np.percentile(spread[name], [2.5, 97.5])
        estimates[name] = Estimate(value, float(low), float(high))
    return estimates


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with the 95 % Wilson interval."""

    hits: int
    of: int

    def interval(self) -> tuple[float, float]:
        """Both ends; `of` must not be 0."""
        z, n, k = 1.96, self.of, self.hits
        centre = (k + z * z / 2) / (n + z * z)
        half = z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        if not self.of:
            return "-"
        low, high = self.interval()
        return f"{self.hits / self.of:.1%} ({low:.0%} - {high:.0%})"
