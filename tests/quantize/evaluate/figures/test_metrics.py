"""The metrics against closed forms and against brute force written from the definitions."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.evaluate.figures.metrics import (
    AdcfCosts,
    Costs,
    Ranked,
    a_dcf,
    act_dcf,
    cllr,
    det_points,
    eer,
    eer_threshold,
    frr_at_far,
    min_dcf,
)
from quantize.evaluate.figures.pav import hull_eer, isotonic, min_cllr

PRIORS = Costs(target_prior=0.01)


def gaussian_llrs(spread: float, count: int = 20_001) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of perfectly calibrated LLRs: N(+m, 2m) for targets and N(-m, 2m) for the others."""
    steps = (np.arange(count) + 0.5) / count
    unit = np.array([NormalDist().inv_cdf(step) for step in steps])
    return spread + math.sqrt(2 * spread) * unit, -spread + math.sqrt(2 * spread) * unit


def integrated_cllr(mean: float) -> float:
    grid = np.linspace(mean - 60, mean + 60, 200_001)
    density = np.exp(-((grid - mean) ** 2) / (4 * mean)) / math.sqrt(4 * math.pi * mean)
    cost = density * np.logaddexp(0, -grid) / math.log(2)
    return float((cost[1:] + cost[:-1]) @ np.diff(grid) / 2)


def stepwise_rates(targets: list[float], nontargets: list[float]) -> list[tuple[float, float, float]]:
    rates = []
    for threshold in [*sorted({*targets, *nontargets}), math.inf]:
        frr = sum(score < threshold for score in targets) / len(targets)
        far = sum(score >= threshold for score in nontargets) / len(nontargets)
        rates.append((threshold, frr, far))
    return rates


scores = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=12)


@pytest.mark.parametrize("mean", [0.5, 2.0, 6.0])
def test_equal_error_rate_of_two_gaussians_is_the_closed_form(mean: float) -> None:
    targets, nontargets = gaussian_llrs(mean)
    expected = NormalDist().cdf(-math.sqrt(mean / 2))
    ranked = Ranked(targets, nontargets)
    assert eer(ranked.curve()) == pytest.approx(expected, abs=1e-4)
    assert hull_eer(ranked) == pytest.approx(expected, abs=2e-4)
    assert eer_threshold(ranked.curve()) == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("mean", [0.5, 2.0, 6.0])
def test_cllr_of_calibrated_gaussians_is_the_integral_and_equals_its_minimum(mean: float) -> None:
    targets, nontargets = gaussian_llrs(mean)
    assert cllr(targets, nontargets) == pytest.approx(integrated_cllr(mean), abs=1e-3)
    assert min_cllr(Ranked(targets, nontargets)) == pytest.approx(integrated_cllr(mean), abs=2e-3)


def test_calibrated_gaussians_lose_nothing_at_the_bayes_threshold() -> None:
    targets, nontargets = gaussian_llrs(4.0)
    curve = Ranked(targets, nontargets).curve()
    assert act_dcf(curve, PRIORS) == pytest.approx(min_dcf(curve, PRIORS), rel=0.01)
    shifted = Ranked(targets - 3.0, nontargets - 3.0).curve()
    assert min_dcf(shifted, PRIORS) == pytest.approx(min_dcf(curve, PRIORS))
    assert act_dcf(shifted, PRIORS) > 1.1 * min_dcf(shifted, PRIORS)


def test_scores_that_say_nothing_cost_one_bit_and_half_the_attempts() -> None:
    assert cllr([0.0, 0.0], [0.0]) == pytest.approx(1.0)
    assert min_cllr(Ranked([0.0, 0.0], [0.0])) == pytest.approx(1.0)
    assert eer(Ranked([0.0], [0.0]).curve()) == pytest.approx(0.5)
    assert min_dcf(Ranked([0.0], [0.0]).curve(), PRIORS) == pytest.approx(1.0)


def test_separated_scores_cost_nothing() -> None:
    ranked = Ranked([2.0, 3.0], [0.0, 1.0])
    assert eer(ranked.curve()) == 0.0
    assert hull_eer(ranked) == 0.0
    assert min_cllr(ranked) == 0.0
    assert frr_at_far(ranked.curve(), 0.0) == 0.0


def test_reversed_scores_are_wrong_every_time() -> None:
    assert eer(Ranked([0.0, 1.0], [2.0, 3.0]).curve()) == 1.0
    assert hull_eer(Ranked([0.0, 1.0], [2.0, 3.0])) == pytest.approx(0.5)


@given(targets=scores, nontargets=scores)
@settings(max_examples=150, deadline=None)
def test_operating_points_agree_with_counting(targets: list[float], nontargets: list[float]) -> None:
    curve = Ranked(targets, nontargets).curve()
    counted = stepwise_rates(targets, nontargets)
    assert np.allclose(np.column_stack([curve.thresholds, curve.frr, curve.far])[:-1], counted[:-1])
    best = min(
        (PRIORS.target_prior * frr + (1 - PRIORS.target_prior) * far) / PRIORS.target_prior
        for _, frr, far in counted
    )
    assert min_dcf(curve, PRIORS) == pytest.approx(best)
    for limit in (0.5, 0.1, 0.0):
        assert frr_at_far(curve, limit) == pytest.approx(min(r for _, r, a in counted if a <= limit))
    # The crossing lies between the best step on each side of it.
    assert min(max(r, a) for _, r, a in counted) >= eer(curve) - 1e-12
    assert max(min(r, a) for _, r, a in counted) <= eer(curve) + 1e-12


@given(targets=scores, nontargets=scores)
@settings(max_examples=150, deadline=None)
def test_hull_error_rate_is_the_bayes_error_at_its_hardest_prior(
    targets: list[float], nontargets: list[float]
) -> None:
    # Brümmer 2010, 7.3: ROCCH-EER = max over priors of the least achievable error probability.
    counted = stepwise_rates(targets, nontargets)
    priors = np.linspace(0.0, 1.0, 2001)
    hardest = max(min(p * frr + (1 - p) * far for _, frr, far in counted) for p in priors)
    ranked = Ranked(targets, nontargets)
    assert hull_eer(ranked) == pytest.approx(hardest, abs=1e-3)
    assert hull_eer(ranked) <= eer(ranked.curve()) + 1e-12


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_isotonic_regression_agrees_with_the_min_max_formula(values: list[float]) -> None:
    count = len(values)
    expected = [
        max(min(np.mean(values[j : k + 1]) for k in range(i, count)) for j in range(i + 1))
        for i in range(count)
    ]
    assert np.allclose(isotonic(values, np.ones(count)), expected)


@given(targets=scores, nontargets=scores)
@settings(max_examples=60, deadline=None)
def test_no_affine_map_beats_the_minimum_cllr(targets: list[float], nontargets: list[float]) -> None:
    least = min_cllr(Ranked(targets, nontargets))
    for scale in (0.1, 0.5, 1.0, 3.0):
        for offset in (-2.0, 0.0, 2.0):
            mapped = cllr(scale * np.array(targets) + offset, scale * np.array(nontargets) + offset)
            assert least <= mapped + 1e-9


def test_weights_count_like_repeated_trials() -> None:
    targets, nontargets = [0.0, 1.0, 2.0], [-1.0, 1.5]
    weighted = Ranked(targets, nontargets).curve(np.array([3.0, 1.0, 0.0]), np.array([2.0, 1.0]))
    repeated = Ranked([0.0, 0.0, 0.0, 1.0], [-1.0, -1.0, 1.5]).curve()
    assert eer(weighted) == pytest.approx(eer(repeated))
    assert min_dcf(weighted, PRIORS) == pytest.approx(min_dcf(repeated, PRIORS))


@given(targets=scores, nontargets=scores, spoofs=scores)
@settings(max_examples=100, deadline=None)
def test_spoof_aware_cost_agrees_with_its_definition(
    targets: list[float], nontargets: list[float], spoofs: list[float]
) -> None:
    costs = AdcfCosts()

    def cost(threshold: float) -> float:
        miss = sum(s < threshold for s in targets) / len(targets)
        impostor = sum(s >= threshold for s in nontargets) / len(nontargets)
        spoof = sum(s >= threshold for s in spoofs) / len(spoofs)
        total = 0.9405 * miss + 10 * 0.0095 * impostor + 10 * 0.05 * spoof
        return total / min(0.9405, 10 * 0.0095 + 10 * 0.05)

    thresholds = [*targets, *nontargets, *spoofs, math.inf]
    assert a_dcf(targets, nontargets, spoofs, costs) == pytest.approx(min(map(cost, thresholds)))
    assert a_dcf(targets, nontargets, spoofs, costs, 0.5) == pytest.approx(cost(0.5))


def test_a_door_that_refuses_everyone_costs_one() -> None:
    assert a_dcf([1.0], [0.0], [0.0], AdcfCosts(), math.inf) == pytest.approx(0.9405 / 0.595)
    assert a_dcf([0.0], [0.0], [0.0]) == pytest.approx(1.0)


def test_det_points_keep_the_corners_and_stay_within_the_limit() -> None:
    targets, nontargets = gaussian_llrs(1.0, 2001)
    points = det_points(Ranked(targets, nontargets).curve(), limit=100)
    assert points[0] == (1.0, 0.0)
    assert points[-1][0] == pytest.approx(0.0, abs=1e-9)
    assert len(points) <= 100


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf]])
def test_missing_or_infinite_scores_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError):
        Ranked(bad, [0.0])
    with pytest.raises(ValueError):
        cllr([0.0], bad)
