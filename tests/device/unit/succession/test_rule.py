"""By which attempts a voiceprint grows for the next speaker model, and why one intrusion seeds none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device.access.decision import DEFAULT_FACTORS, Decision, Factor, Outcome
from device.access.policy import Thresholds, decide
from device.evidence.judge import Evidence
from device.secure_store import Growing
from device.unit.succession.rule import FITS_LLR, WITHIN_DAYS, Embedding, Step, well_inside, with_another
from tests.device.door_world import evidence

HISTORIES = 1000
"""For each likeness."""
MODEL, SIZE = "next-256@1", 256
SCALE, OFFSET = 30.0, -14.0
"""Of a calibration like that of the models here: an LLR of 3 at a cosine of 0.57."""


def llr(a: Embedding, b: Embedding) -> float:
    return float(np.clip(SCALE * float(a @ b) + OFFSET, -12.0, 12.0))


def unit(vector: np.ndarray) -> Embedding:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def heard(person: np.ndarray, dice: np.random.Generator, spread: float = 0.7) -> Embedding:
    """One utterance of a person: cosines to others of theirs of about 1 / (1 + spread ** 2)."""
    return unit(person + spread * unit(dice.standard_normal(SIZE)))


def decided(found: Evidence, factors: frozenset[Factor] = DEFAULT_FACTORS) -> Decision:
    return decide(found, Thresholds(), required=factors, claimed=True)


def test_only_an_attempt_well_inside_every_threshold_is_heard() -> None:
    assert well_inside(decided(evidence(8.0, 8.0, 4.0)))
    for scores in ((3.9, 8.0, 4.0), (8.0, 4.9, 4.0), (8.0, 8.0, 1.9)):
        assert decided(evidence(*scores)).opens
        assert not well_inside(decided(evidence(*scores))), "it opens, and no more"
    assert not well_inside(decided(evidence(8.0, 1.0, 4.0)))


def test_a_door_that_asks_for_less_grows_nobody() -> None:
    lenient = frozenset({Factor.CLAIM, Factor.VOICE, Factor.LIVE})
    assert decided(evidence(), lenient).opens
    assert not well_inside(decided(evidence(), lenient)), (
        "a recording says no fresh phrase, and none was asked"
    )


def test_who_opens_under_duress_or_at_a_second_phrase_grows_nothing() -> None:
    good = decided(evidence())
    assert not well_inside(replace(good, outcome=Outcome.DURESS))
    carried = tuple(replace(finding, before_llr=1.0) for finding in good.findings)
    assert not well_inside(replace(good, findings=carried))


def test_three_days_make_it_ready_and_nothing_is_added_then() -> None:
    dice = np.random.default_rng(1)
    person = unit(dice.standard_normal(SIZE))
    growing: Growing | None = None
    for day, step in (
        (5, Step.HEARD),
        (5, Step.NOTHING),
        (4, Step.NOTHING),
        (9, Step.HEARD),
        (10, Step.READY),
    ):
        found = with_another(growing, MODEL, day, heard(person, dice), llr)
        assert found.step is step
        growing = found.growing
    assert growing is not None
    assert (growing.ready, growing.days) == (True, (5, 9, 10))
    assert with_another(growing, MODEL, 11, heard(person, dice), llr).step is Step.NOTHING
    assert llr(growing.template().vector, person) > FITS_LLR


def test_days_that_lie_far_back_and_those_of_another_model_do_not_count() -> None:
    dice = np.random.default_rng(2)
    person = unit(dice.standard_normal(SIZE))
    first = with_another(None, MODEL, 1, heard(person, dice), llr).growing
    second = with_another(first, MODEL, 2, heard(person, dice), llr).growing
    late = with_another(second, MODEL, 2 + WITHIN_DAYS, heard(person, dice), llr)
    assert late.growing is not None
    assert (late.step, late.growing.days) == (Step.HEARD, (2, 2 + WITHIN_DAYS))
    other = with_another(second, "other@1", 3, heard(person, dice), llr)
    assert other.growing is not None
    assert other.growing.days == (3,)


def test_a_voice_that_does_not_fit_drops_everything_that_has_grown() -> None:
    dice = np.random.default_rng(3)
    person, stranger = (unit(dice.standard_normal(SIZE)) for _ in range(2))
    growing = None
    for day, who in enumerate((person, stranger), 1):
        growing = with_another(growing, MODEL, day, heard(who, dice), llr).growing
    found = with_another(growing, MODEL, 3, heard(person, dice), llr)
    assert (found.step, found.growing) == (Step.DROPPED, None)


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.5])
def test_a_person_who_gets_in_once_seeds_no_voiceprint_in_thousands_of_histories(alike: float) -> None:
    """An attacker whose voice is `alike` (cosine) to the person's passes the old model once, on any day.

    With 0.5 the next model itself gives them an LLR of about 1 against the person, still a refusal. What
    counts is whether the attacker opens by the voiceprint that grows and would not have opened by one that
    grew without them.
    """
    dice = np.random.default_rng(int(100 * alike) + 7)
    opened, seeded, ready = 0, 0, 0
    for _ in range(HISTORIES):
        person = unit(dice.standard_normal(SIZE))
        apart = dice.standard_normal(SIZE)
        apart = unit(apart - (apart @ person) * person)
        attacker = unit(alike * person + np.sqrt(1 - alike**2) * apart)
        when = int(dice.integers(0, 5))
        growing: Growing | None = None
        for day in range(12):
            who = attacker if day == when else person
            growing = with_another(growing, MODEL, day, heard(who, dice), llr).growing
            if growing is not None and growing.ready:
                break
        assert growing is not None, "the person comes over all the same"
        ready += growing.ready
        mine = growing.template().vector
        seeded += when in growing.days
        clean = unit(np.mean([heard(person, dice) for _ in growing.days], axis=0))
        tries = [heard(attacker, dice) for _ in range(3)]
        opened += max(llr(t, mine) for t in tries) >= 3.0 > max(llr(t, clean) for t in tries)
    assert ready == HISTORIES
    assert seeded <= HISTORIES * 0.01, "one voice in three fits no other"
    assert opened <= HISTORIES * 0.005
