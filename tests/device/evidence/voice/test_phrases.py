"""How many phrases enrolled somebody moves the LLR, for a claim and in a search alike."""

from __future__ import annotations

import math

import numpy as np
import pytest

from device.audio import Quality
from device.evidence.gallery import Gallery
from device.evidence.voice import at_the_door
from device.evidence.voice.held import Voice
from device.evidence.voice.phrases import Shift, shift_of, shifted
from device.model_store.calibration import LLR_LIMIT
from tests.device.evidence.voice.test_at_the_door import (
    DESK,
    DOOR,
    FITTED_ON,
    LIVELY,
    PROBE,
    QUIET,
    Another,
    Cosine,
)


@pytest.mark.parametrize(
    ("phrases", "enrolled", "door"), [(1, 0, 0), (3, 0, 0), (4, -0.2, -0.05), (5, -0.4, -0.1)]
)
def test_each_phrase_beyond_the_third_takes_something_off(phrases: int, enrolled: float, door: float) -> None:
    found = shift_of(FITTED_ON, phrases)
    assert (found.enrolled, found.door) == pytest.approx((enrolled, door))


def test_beyond_five_nothing_was_measured_and_another_model_has_no_shift() -> None:
    assert shift_of(FITTED_ON, 10) == shift_of(FITTED_ON, 5)
    assert shift_of(Another.version, 5) == Shift()


@pytest.mark.parametrize(("place", "less"), [(QUIET, 0.4), (LIVELY[0], 0.1)])
def test_a_claim_is_held_less_that_much(place: Quality, less: float) -> None:
    three, five = (
        at_the_door.llr(Cosine(), place, PROBE, Voice(DESK, FITTED_ON, door=DOOR, phrases=phrases))
        for phrases in (3, 5)
    )
    assert three - five == pytest.approx(less)


@pytest.mark.parametrize("place", [QUIET, *LIVELY])
def test_a_search_holds_everybody_against_what_a_claim_would(place: Quality) -> None:
    """Two people as near as each other, of three and of five phrases: the one of three is found."""
    speaker, phrases = Cosine(), {"ANNA": 5, "BRUNO": 3, "CARLA": 4, "DORA": 5}
    vectors = {uid: DESK if uid != "DORA" else np.roll(DESK, 5) for uid in phrases}
    doors = {"ANNA": DOOR, "BRUNO": DOOR}
    shifts = {uid: shift_of(FITTED_ON, count) for uid, count in phrases.items()}
    by_claim = {
        uid: at_the_door.llr(
            speaker,
            place,
            PROBE,
            Voice(vectors[uid], FITTED_ON, door=doors.get(uid), phrases=count),
        )
        for uid, count in phrases.items()
    }
    found = Gallery(vectors, doors, shifts).identify(PROBE, *at_the_door.compared(speaker, place))
    best, runner_up = sorted(by_claim, key=lambda uid: -by_claim[uid])[:2]
    assert found is not None
    assert best == "BRUNO"
    assert (found.uid, found.among) == (best, 4)
    assert (found.llr, found.runner_up_llr) == pytest.approx((by_claim[best], by_claim[runner_up]))


def test_a_shift_keeps_within_the_limits_and_what_is_no_number_stays_none() -> None:
    assert shifted(-LLR_LIMIT, -0.4) == -LLR_LIMIT
    assert math.isnan(shifted(math.nan, -0.4))
    assert shifted(1.25, 0.0) == 1.25
