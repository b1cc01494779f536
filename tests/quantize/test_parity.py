"""What strays is refused by name, and what is within its bounds is stated."""

from __future__ import annotations

import numpy as np
import pytest

from quantize.errors import QuantizeError
from quantize.parity import (
    FLIPS,
    FLIPS_LIMIT,
    MAX_FLIPS_LIMIT,
    decisions,
    demand,
    embedding_parity,
    pieces,
    upper_limit,
)
from quantize.speech import Clip, packaged_speech, parity_speech

RNG = np.random.default_rng(6)


def units(count: int, size: int = 32) -> np.ndarray:
    vectors = RNG.standard_normal((count, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_metrics_within_their_bounds_are_stated() -> None:
    given = {FLIPS_LIMIT: 0.0, "drift": 0.12345678}
    assert demand("a network", given, at_most={"drift": 0.2}) == {FLIPS_LIMIT: 0.0, "drift": 0.123457}


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({FLIPS_LIMIT: 2 * MAX_FLIPS_LIMIT, "drift": 0.0}, "flips_limit is 0.01, at most 0.005"),
        ({FLIPS_LIMIT: 0.0, "drift": 0.3}, "drift is 0.3, at most 0.2"),
        ({FLIPS_LIMIT: float("nan"), "drift": 0.0}, "flips_limit is nan"),
    ],
)
def test_a_metric_out_of_its_bounds_is_named(metrics: dict[str, float], said: str) -> None:
    with pytest.raises(QuantizeError, match=said):
        demand("a network", metrics, at_most={"drift": 0.2})


def test_a_network_that_states_no_limit_of_flips_cannot_pass() -> None:
    with pytest.raises(KeyError):
        demand("a network", {"drift": 0.0})


def test_a_flip_is_a_score_on_the_other_side() -> None:
    before, after = np.asarray([0.1, 0.4, 0.6, 0.9]), np.asarray([0.2, 0.6, 0.55, 0.4])
    found = decisions(before > 0.5, after > 0.5)
    assert found["parity_pairs"] == 4.0
    assert found[FLIPS] == 0.5
    assert found[FLIPS_LIMIT] > 0.5


@pytest.mark.parametrize(
    ("hits", "trials", "limit"),
    # Of R's binom.test(..., alternative = "less", conf.level = 0.95).
    [(0, 640, 0.004670), (1, 640, 0.007391), (0, 2850, 0.001051), (3, 3000, 0.002583), (5, 5, 1.0)],
)
def test_the_limit_of_a_share_is_clopper_and_pearsons(hits: int, trials: int, limit: float) -> None:
    assert upper_limit(hits, trials) == pytest.approx(limit, rel=2e-3)


def test_one_flip_among_few_decisions_is_no_proof_nor_is_none_among_fewer() -> None:
    for flips, count in ((1, 640), (0, 590)):
        before = np.zeros(count)
        after = before.copy()
        after[:flips] = 1
        with pytest.raises(QuantizeError, match="flips_limit"):
            demand("a network", decisions(before, after))


def test_embeddings_that_turn_away_are_refused() -> None:
    exact = units(50)
    metrics = embedding_parity("a network", exact, exact, 0.5, 0.99)
    assert metrics[FLIPS] == 0.0
    assert metrics["parity_pairs"] == 1225.0
    assert metrics["parity_cosine_min"] == 1.0
    turned = exact.copy()
    turned[3] = units(1)
    with pytest.raises(QuantizeError, match="parity_cosine_min"):
        embedding_parity("a network", exact, turned, 0.5, 0.99)


def test_pieces_are_three_seconds_and_a_short_recording_is_one() -> None:
    def lengths(seconds: float) -> list[int]:
        clip = Clip("x", "y", np.zeros(round(16_000 * seconds), np.float32))
        return [len(piece) for piece in pieces(clip)]

    assert lengths(7.0) == [48_000, 48_000]
    assert lengths(1.0) == [16_000]


def test_no_range_is_chosen_on_what_parity_is_judged_on() -> None:
    chosen = {path for _, path in packaged_speech().files[::2]}
    judged = {path for _, path in parity_speech().files}
    assert not chosen & judged
    assert len(judged) > 40
