from __future__ import annotations

import math

import pytest

from device.liveness.timing import LIMIT_LLR, MAX_SEEN, MIN_SEEN, NO_HABIT, Habit, Timing, timing

USUAL = Timing(0.9, 13.0)


def habit(count: int, usual: Timing = USUAL) -> Habit:
    found = NO_HABIT
    for n in range(count):
        wobble = 1.0 + 0.05 * math.sin(n)
        found = found.with_(Timing(usual.to_speech_s * wobble, usual.letters_per_s / wobble))
    return found


def test_somebody_new_is_neither_usual_nor_unusual() -> None:
    assert habit(MIN_SEEN - 1).llr(Timing(10.0, 3.0)) == 0.0


def test_the_usual_speaks_for_the_person_and_the_unusual_against() -> None:
    known = habit(MIN_SEEN)
    assert known.llr(USUAL) > 1.0
    assert known.llr(Timing(6.0, 6.0)) < -1.0


def test_however_unusual_the_weight_is_bounded() -> None:
    assert habit(MAX_SEEN).llr(Timing(200.0, 0.1)) == -LIMIT_LLR
    assert habit(MAX_SEEN).llr(USUAL) <= LIMIT_LLR


def test_one_slow_day_does_not_change_a_habit() -> None:
    known = habit(MAX_SEEN)
    after = known.with_(Timing(20.0, 2.0))
    assert after.llr(USUAL) == pytest.approx(known.llr(USUAL), abs=0.3)


def test_only_the_latest_are_kept() -> None:
    assert len(habit(3 * MAX_SEEN).seen) == MAX_SEEN


def test_a_habit_survives_being_written() -> None:
    known = habit(MAX_SEEN)
    again = Habit.from_bytes(known.to_bytes())
    assert again.llr(USUAL) == pytest.approx(known.llr(USUAL), abs=1e-3)


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
