"""What moves and stretches the live check's scores by place is fitted on people alone, and reads back."""

from __future__ import annotations

import numpy as np
import pytest

from device.access.rules.levels import LEVELS
from device.evidence.conditioned import Conditioned
from research.fits.conditions import BARS_LLR, Heard, low_quantile, refused, stretch, table
from tests.device.door_world import GOOD


def test_people_become_rare_by_e_for_each_unit_of_a_stretched_score() -> None:
    llrs = 3.0 - np.random.default_rng(1).exponential(1 / 1.7, 100_000)
    assert stretch(llrs) == pytest.approx(1.7, rel=0.05)
    assert stretch(stretch(llrs) * llrs) == pytest.approx(1.0, rel=0.01)


def test_as_many_are_refused_in_each_place_as_were_asked_for() -> None:
    rng = np.random.default_rng(2)
    noise = rng.random(20_000)
    x = np.stack([np.ones(len(noise)), noise, rng.random(len(noise))], axis=1)
    llrs = rng.normal(2.0 - noise, 1.0)
    moved = llrs - x @ low_quantile(x, llrs, 0.025)
    for part in (noise < 0.3, noise > 0.7):
        assert np.mean(moved[part] < 0) == pytest.approx(0.025, abs=0.008)


def test_what_is_written_is_what_the_door_reads() -> None:
    text = table(np.array([-0.5, 0.25, 1.0]), 1.5, {"bpcer_1": -1.0, "bpcer_3": 0.1}, "d-1", "made here")
    found = Conditioned.from_text(text)
    assert (found.always, found.noise, found.echo, found.stretch) == (-0.5, 0.25, 1.0, 1.5)
    assert found.points("d-1", {"bpcer_1": 9.0}) == {"bpcer_1": -1.0, "bpcer_3": 0.1}


def test_who_is_refused_is_told_by_place_at_what_the_levels_ask_for() -> None:
    assert tuple(LEVELS[name].thresholds.live_llr for name in ("drugs", "max")) == BARS_LLR
    heard = [Heard(str(n), place, 0.0, GOOD) for n in range(2) for place in ("clean", "room")]
    llrs = np.array([0.5, 2.5, 1.5, 2.5])
    assert refused(heard, llrs, 1.0)["clean"] == "50.0% of 2"
    assert refused(heard, llrs, 2.0)["clean"] == "100.0% of 2"
    assert refused(heard, llrs, 2.0)["room"] == "0.0% of 2"
