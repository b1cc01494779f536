from __future__ import annotations

import math

import numpy as np
import pytest

from quantize.errors import QuantizeError
from quantize.evaluate.figures.calibrate import fit, fits
from quantize.evaluate.figures.metrics import Ranked, cllr
from quantize.evaluate.figures.pav import min_cllr


def scores(seed: int = 3, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose true LLR is 20 * score - 6: Gaussians of one spread, means 0.6 and 0.0."""
    rng = np.random.default_rng(seed)
    spread = math.sqrt(0.6 / 20)
    return rng.normal(0.6, spread, count), rng.normal(0.0, spread, count)


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_the_true_affine_map_of_gaussian_scores_is_found(prior: float) -> None:
    targets, nontargets = scores(count=60_000)
    fitted = fit(targets, nontargets, prior)
    assert fitted.weights[0] == pytest.approx(20.0, rel=0.05)
    assert fitted.offset == pytest.approx(-6.0, rel=0.06)


def test_a_fit_at_even_odds_is_the_affine_map_of_least_cllr() -> None:
    targets, nontargets = scores()
    fitted = fit(targets, nontargets, prior=0.5)
    best = cllr(fitted.llr(targets), fitted.llr(nontargets))
    assert best >= min_cllr(Ranked(targets, nontargets))
    for scale in (0.98, 1.02):
        for shift in (-0.1, 0.1):
            moved = [scale * fitted.llr(side) + shift for side in (targets, nontargets)]
            assert best <= cllr(*moved)


def test_a_measure_that_shifts_scores_is_compensated() -> None:
    targets, nontargets = scores()
    rng = np.random.default_rng(5)
    noise_t, noise_n = rng.uniform(0, 1, len(targets)), rng.uniform(0, 1, len(nontargets))
    degraded = targets - 0.3 * noise_t, nontargets - 0.3 * noise_n
    aware = fit(np.column_stack([degraded[0], noise_t]), np.column_stack([degraded[1], noise_n]))
    assert aware.weights[1] / aware.weights[0] == pytest.approx(0.3, abs=0.03)


def test_separated_scores_still_give_a_finite_map() -> None:
    fitted = fit([0.9, 0.8], [0.1, 0.2])
    assert np.isfinite(fitted.weights).all()
    assert math.isfinite(fitted.offset)


@pytest.mark.parametrize(("targets", "nontargets"), [([], [0.1]), ([0.1], []), ([0.1, 0.2], [0.8, 0.9])])
def test_scores_that_cannot_be_calibrated_are_refused(targets: list[float], nontargets: list[float]) -> None:
    with pytest.raises(QuantizeError):
        fit(targets, nontargets)


def test_a_speaker_stays_on_one_side_for_ever() -> None:
    fitted_on = [number for number in range(16) if fits(f"speaker-{number}")]
    assert fitted_on == [1, 2, 4, 7, 10, 11, 12, 14, 15]
    assert 30 < sum(fits(f"speaker-{number}") for number in range(100)) < 70
