"""Fits score -> log-likelihood ratio on some speakers and proves it on the others."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantize.errors import QuantizeError
from quantize.evaluate.figures.metrics import Array

RIDGE = 1e-6
STEPS = 100


def fits(speaker: str) -> bool:
    """Whether a speaker belongs to the half that calibrations are fitted on; the others judge them."""
    return int(hashlib.sha256(speaker.encode()).hexdigest(), 16) % 2 == 0


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """llr = weights . features + offset. With one feature (the score) this is an affine calibration."""

    weights: Array
    offset: float

    def llr(self, features: npt.ArrayLike) -> Array:
        """LLRs of shape (n,) from features of shape (n, k) or, with one feature, (n,)."""
        columns = _columns(features)
        return np.asarray(columns @ self.weights + self.offset, dtype=np.float64)


def fit(targets: npt.ArrayLike, nontargets: npt.ArrayLike, prior: float = 0.05) -> Linear:
    """Prior-weighted logistic regression by Newton's method (Brümmer & Doddington 2013).

    Features have shape (n,) or (n, k), the score first. `prior` puts the effort where the threshold will be:
    at an LLR of ln((1 - prior) / prior). Raises QuantizeError when a class is empty or higher scores do
    not speak for the target.
    """
    hit, miss = _columns(targets), _columns(nontargets)
    if len(hit) == 0 or len(miss) == 0:
        raise QuantizeError("calibration needs scores of both kinds; give a larger manifest")
    features = np.concatenate([hit, miss])
    centre, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    design = np.column_stack([(features - centre) / spread, np.ones(len(features))])
    labels = np.concatenate([np.ones(len(hit)), np.zeros(len(miss))])
    weights = np.where(labels == 1, prior / len(hit), (1 - prior) / len(miss))
    solution = _newton(design, labels, weights, math.log(prior / (1 - prior)))
    slopes = solution[:-1] / spread
    if not np.all(np.isfinite(solution)) or slopes[0] <= 0:
        raise QuantizeError("higher scores do not speak for the target: nothing to calibrate")
    return Linear(slopes, float(solution[-1] - slopes @ centre))


def _newton(design: Array, labels: Array, weights: Array, log_odds: float) -> Array:
    solution = np.zeros(design.shape[1])
    # Perfectly separated classes have no finite optimum; the ridge keeps the slopes finite, not the offset.
    ridge = np.full(design.shape[1], RIDGE)
    ridge[-1] = 0.0
    for _ in range(STEPS):
        posterior = 1.0 / (1.0 + np.exp(-np.clip(design @ solution + log_odds, -60, 60)))
        gradient = design.T @ (weights * (posterior - labels)) + ridge * solution
        curvature = weights * posterior * (1 - posterior)
        hessian = (design * curvature[:, None]).T @ design + np.diag(ridge + 1e-12)
        step = np.linalg.solve(hessian, gradient)
        # Far from the optimum the logistic is flat and a full step would overshoot.
        solution = solution - step * min(1.0, 4.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(solution, dtype=np.float64)


def _columns(features: npt.ArrayLike) -> Array:
    columns = np.asarray(features, dtype=np.float64)
    return columns[:, None] if columns.ndim == 1 else columns
