"""Contacts that bounce."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from device.door.debounce import Debounce, Level
from device.door.supervision import Line


def feed(debounce: Debounce, *levels: tuple[bool, float]) -> list[bool]:
    return [
        settled.active
        for active, at_s in levels
        for settled in debounce.feed(Level(Line.CONTACT, active, at_s))
    ]


def test_the_first_level_counts_at_once() -> None:
    assert feed(Debounce(0.03), (True, 5.0)) == [True]


def test_a_bouncing_contact_is_one_change_when_it_has_come_to_rest() -> None:
    debounce = Debounce(0.03)
    told = feed(
        debounce, (False, 0.0), (True, 1.0), (False, 1.002), (True, 1.004), (False, 1.005), (True, 1.01)
    )
    assert told == [False]
    assert list(debounce.settled(1.039)) == []
    assert debounce.due_s == 1.04
    assert [level.active for level in debounce.settled(1.04)] == [True]
    assert list(debounce.settled(9.0)) == []


def test_a_short_press_told_late_in_one_burst_is_not_lost() -> None:
    debounce = Debounce(0.03)
    assert feed(debounce, (False, 0.0), (True, 1.0), (False, 1.2)) == [False, True]
    assert [level.active for level in debounce.settled(2.0)] == [False]


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 0.029)), max_size=30))
def test_no_burst_of_short_pulses_is_ever_a_change(pulses: list[tuple[bool, float]]) -> None:
    debounce, now_s = Debounce(0.03), 1.0
    told = feed(debounce, (False, 0.0))
    for _, gap_s in pulses:
        told += feed(debounce, (True, now_s))
        now_s += gap_s
        told += feed(debounce, (False, now_s))
        now_s += 0.001
    assert told == [False]
