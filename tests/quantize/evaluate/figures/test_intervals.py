from __future__ import annotations

import numpy as np
import pytest

from quantize.evaluate.figures.detection import Trials, measure
from quantize.evaluate.figures.intervals import intervals, resampler
from quantize.evaluate.figures.metrics import Costs


def test_an_interval_over_speakers_is_that_of_their_mean() -> None:
    # 200 speakers of one trial each: the bootstrap of a mean must agree with its standard error.
    rng = np.random.default_rng(2)
    values = rng.normal(size=200)
    sampler = resampler([(i,) for i in range(200)], [(i,) for i in range(200)])
    found = intervals(lambda t, _: {"mean": float(np.average(values, weights=t))}, sampler, 2000)["mean"]
    error = values.std() / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_many_trials_of_few_speakers_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(4)
    of_speaker = rng.normal(size=8)
    speakers = np.repeat(np.arange(8), 500)
    sampler = resampler([(s,) for s in speakers], [(s,) for s in speakers])
    values = of_speaker[speakers]
    found = intervals(lambda t, _: {"mean": float(np.average(values, weights=t))}, sampler, 500)["mean"]
    assert found.high - found.low > 0.5 * 2 * 1.96 * of_speaker.std() / np.sqrt(8)


def test_an_impostor_trial_counts_by_both_of_its_speakers() -> None:
    sampler = resampler([("ann",), ("bob",)], [("ann", "bob")])
    for target, nontarget in sampler.draws(20, seed=1):
        assert nontarget.tolist() == [target[0] * target[1]]


def test_the_same_seed_gives_the_same_interval() -> None:
    trials = Trials(
        np.array([2.0, 1.0, 0.0]), np.array([-1.0, 0.5]), [("a",), ("b",), ("c",)], [("a", "b"), ("b", "c")]
    )
    first, second = (measure(trials, Costs(0.05), threshold=0.2, replicates=50) for _ in range(2))
    assert first == second
    assert first.figures["frr"].value == pytest.approx(1 / 3)
    assert first.figures["far"].value == pytest.approx(1 / 2)


def test_raw_scores_have_no_calibration_figures() -> None:
    trials = Trials(np.array([2.0, 1.0]), np.array([0.0]), [("a",), ("b",)], [("a", "b")])
    found = measure(trials, Costs(0.05), llrs=False, replicates=0)
    assert not {"cllr", "act_dcf"} & set(found.figures)
    assert found.reliability == []
