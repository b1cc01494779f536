from __future__ import annotations

import math
from dataclasses import replace

import pytest

from device.liveness.timing import LIMIT_LLR, MAX_SEEN, MIN_SEEN, NO_HABIT, Habit, Timing, timing
from device.liveness.weights import shipped

USUAL = Timing(0.9, 13.0)
WEIGHTS = shipped().timing


def habit(count: int, usual: Timing = USUAL) -> Habit:
    found = NO_HABIT
    for n in range(count):
        wobble = 1.0 + 0.05 * math.sin(n)
        found = found.with_(Timing(usual.to_speech_s * wobble, usual.letters_per_s / wobble))
    return found


def test_somebody_new_is_neither_usual_nor_unusual() -> None:
    assert habit(MIN_SEEN - 1).llr(Timing(10.0, 3.0), WEIGHTS) == 0.0


def test_the_usual_speaks_for_the_person_and_the_unusual_against() -> None:
    known = habit(MIN_SEEN)
    assert known.llr(USUAL, WEIGHTS) > 1.0
    assert known.llr(Timing(6.0, 6.0), WEIGHTS) < -1.0


def test_however_unusual_the_weight_is_bounded() -> None:
    assert habit(MAX_SEEN).llr(Timing(200.0, 0.1), WEIGHTS) == -LIMIT_LLR
    assert habit(MAX_SEEN).llr(USUAL, WEIGHTS) <= LIMIT_LLR


def test_one_slow_day_does_not_change_a_habit() -> None:
    known = habit(MAX_SEEN)
    after = known.with_(Timing(20.0, 2.0))
    assert after.llr(USUAL, WEIGHTS) == pytest.approx(known.llr(USUAL, WEIGHTS), abs=0.3)


def test_only_the_latest_are_kept() -> None:
    assert len(habit(3 * MAX_SEEN).seen) == MAX_SEEN


def test_a_habit_survives_being_written() -> None:
    known = habit(MAX_SEEN)
    again = Habit.from_bytes(known.to_bytes())
    assert again.llr(USUAL, WEIGHTS) == pytest.approx(known.llr(USUAL, WEIGHTS), abs=1e-3)


@pytest.mark.parametrize("body", [b"", b"\x02", b"\x01abc", b"\x01" + bytes(8), b"\x01" + bytes(8 * 40)])
def test_a_habit_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        Habit.from_bytes(body)


@pytest.mark.parametrize(
    ("to_speech_s", "phrase", "speech_s"),
    [(1.0, "five words", 0.0), (math.nan, "five words", 2.0), (1.0, "", 2.0), (1e9, "five words", 2.0)],
)
def test_times_that_no_human_takes_are_no_timing(to_speech_s: float, phrase: str, speech_s: float) -> None:
    assert timing(to_speech_s, phrase, speech_s) is None


def test_pace_counts_letters_not_blanks() -> None:
    found = timing(0.5, "ten of clubs", 2.0)
    assert found is not None
    assert found.letters_per_s == pytest.approx(5.0)


@pytest.mark.parametrize("phrase", ["1 2 3 4 5 6", "C A D D Y", "4 7 B 1"])
def test_a_spelled_phrase_has_no_timing(phrase: str) -> None:
    assert timing(1.0, phrase, 3.0) is None


def test_the_pause_before_speaking_weighs_nothing_until_somebody_measured_it() -> None:
    known = habit(MIN_SEEN)
    late = Timing(20.0, USUAL.letters_per_s)
    assert known.llr(late, WEIGHTS) == known.llr(USUAL, WEIGHTS)
    assert known.llr(late, replace(WEIGHTS, start=1.0)) < known.llr(USUAL, replace(WEIGHTS, start=1.0))


def test_the_usual_pace_of_others_speaks_against() -> None:
    known = habit(MIN_SEEN)
    assert known.llr(Timing(0.9, 8.1), WEIGHTS) < 0.0
