"""What moves and stretches the live check's scores by place is fitted on people alone, and reads back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device.access.rules.levels import LEVELS
from device.evidence.conditioned import ByPlace, Conditioned
from research.fits.conditions import BARS_LLR, QUARTER, REFUSED, Fit, Heard, low_quantile, refused, table
from tests.device.door_world import GOOD


def test_as_many_lie_below_each_bar_at_a_desk_and_in_a_lively_room_that_draws_people_together() -> None:
    rng = np.random.default_rng(1)
    heard = [
        Heard(str(n), place, float(rng.normal(*among)), replace(GOOD, snr_db=30.0, decay_db_s=decay_db_s))
        for n in range(3_000)
        for place, decay_db_s, among in (("clean", 220.0, (2.5, 1.0)), ("far", 100.0, (1.0, 0.4)))
    ]
    llrs = Fit.of(heard).llrs(heard)
    for place in ("clean", "far"):
        there = llrs[[one.place == place for one in heard]]
        assert np.mean(there < 0.0) == pytest.approx(REFUSED, abs=0.006)
        assert np.mean(there < np.log(QUARTER / REFUSED)) == pytest.approx(QUARTER, abs=0.02)


def test_as_many_are_refused_in_each_place_as_were_asked_for() -> None:
    rng = np.random.default_rng(2)
    noise = rng.random(20_000)
    x = np.stack([np.ones(len(noise)), noise, rng.random(len(noise))], axis=1)
    llrs = rng.normal(2.0 - noise, 1.0)
    moved = llrs - x @ low_quantile(x, llrs, 0.025)
    for part in (noise < 0.3, noise > 0.7):
        assert np.mean(moved[part] < 0) == pytest.approx(0.025, abs=0.008)


def test_what_is_written_is_what_the_door_reads() -> None:
    fit = Fit(np.array([-0.5, 0.25, 1.0]), np.array([0.8, 0.1, -0.3]))
    text = table(fit, {"bpcer_1": -1.0, "bpcer_3": 0.1}, "d-1", "made here")
    found = Conditioned.from_text(text)
    assert found.shift == ByPlace(-0.5, 0.25, 1.0)
    assert found.spread == ByPlace(0.8, 0.1, -0.3)
    assert found.points("d-1", {"bpcer_1": 9.0}) == {"bpcer_1": -1.0, "bpcer_3": 0.1}


def test_who_is_refused_is_told_by_place_at_what_the_levels_ask_for() -> None:
    assert {risk.thresholds.live_llr for risk in LEVELS.values()} == set(BARS_LLR)
    heard = [Heard(str(n), place, 0.0, GOOD) for n in range(2) for place in ("clean", "room")]
    llrs = np.array([0.5, 2.5, 1.5, 2.5])
    assert refused(heard, llrs, 1.0)["clean"] == "50.0% of 2"
    assert refused(heard, llrs, 2.0)["clean"] == "100.0% of 2"
    assert refused(heard, llrs, 2.0)["room"] == "0.0% of 2"
