"""What contacts and strike mean together."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from device.door.supervision import (
    EXIT_STUCK_S,
    FORCED_GRACE_S,
    SETTLE_S,
    DoorState,
    DoorTiming,
    Happening,
    Line,
    emergency,
    granted,
    held,
    locked,
    passed,
    sensed,
)

TIMING = DoorTiming(held_open_s=30.0, pre_alarm_s=10.0, exit_s=8.0)
LONGER_S = 25.0
"""What some people have more than others."""


class Scene:
    """A door whose contact was read as closed."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.state = DoorState(TIMING)
        self.told: list[Happening] = []
        self.contact(False)

    def take(self, step: tuple[DoorState, tuple[Happening, ...]]) -> None:
        self.state, told = step
        self.told += told

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.take(passed(self.state, self.now_s))

    def contact(self, opened: bool) -> None:
        self.take(sensed(self.state, Line.CONTACT, opened, self.now_s))

    def exit(self, pressed: bool) -> None:
        self.take(sensed(self.state, Line.EXIT, pressed, self.now_s))

    def grant(self, unlock_s: float = 5.0, extra_s: float = 0.0) -> None:
        self.take(granted(self.state, self.now_s, unlock_s, extra_s))

    @property
    def released(self) -> bool:
        return self.state.strike_released(self.now_s)


def test_the_strike_locks_when_its_time_is_over() -> None:
    scene = Scene()
    scene.grant()
    assert scene.released
    scene.later(5.0)
    assert not scene.released
    assert scene.told == []


def test_the_strike_locks_as_soon_as_the_door_has_closed_behind_somebody() -> None:
    scene = Scene()
    scene.grant(30.0)
    scene.contact(True)
    scene.later(2.0)
    assert scene.released
    scene.contact(False)
    assert not scene.released
    assert scene.told == [Happening.OPENED, Happening.CLOSED]


def test_a_door_that_springs_back_is_no_break_in_and_one_pulled_open_later_is() -> None:
    scene = Scene()
    scene.grant()
    scene.contact(True)
    scene.contact(False)
    scene.later(SETTLE_S / 2)
    scene.contact(True)
    scene.later(1.0)
    scene.contact(False)
    assert Happening.FORCED not in scene.told
    scene.later(SETTLE_S)
    scene.contact(True)
    scene.later(FORCED_GRACE_S)
    assert scene.told[-1] is Happening.FORCED


def test_a_door_opened_without_a_cause_is_forced_once() -> None:
    scene = Scene()
    scene.contact(True)
    assert scene.told == [Happening.OPENED]
    scene.later(FORCED_GRACE_S)
    scene.later(10.0)
    scene.contact(False)
    assert scene.told == [Happening.OPENED, Happening.FORCED, Happening.CLOSED]


def test_a_door_that_was_forced_and_left_open_is_also_held_open() -> None:
    scene = Scene()
    scene.contact(True)
    scene.later(FORCED_GRACE_S)
    scene.later(TIMING.held_open_s - TIMING.pre_alarm_s - FORCED_GRACE_S)
    assert scene.told == [Happening.OPENED, Happening.FORCED, Happening.PRE_ALARM]
    scene.grant()  # somebody who is let in through it has not explained it, and it is open as long as before
    scene.later(TIMING.pre_alarm_s)
    scene.later(3600.0)
    scene.contact(False)
    assert scene.told[3:] == [Happening.HELD_OPEN, Happening.CLOSED]


def test_a_door_forced_and_shut_at_once_is_still_reported() -> None:
    scene = Scene()
    scene.contact(True)
    scene.later(FORCED_GRACE_S / 2)
    scene.contact(False)
    assert scene.told == [Happening.OPENED, Happening.FORCED, Happening.CLOSED]


@pytest.mark.parametrize("late_s", [-5.0, 0.0, FORCED_GRACE_S / 2])
def test_the_exit_button_explains_an_opening_even_when_its_switch_is_late(late_s: float) -> None:
    scene = Scene()
    if late_s <= 0:
        scene.exit(True)
        scene.exit(False)
        scene.later(-late_s)
    scene.contact(True)
    if late_s > 0:
        scene.later(late_s)
        scene.exit(True)
    scene.later(5.0)
    assert Happening.FORCED not in scene.told
    assert Happening.EGRESS in scene.told


def test_leaving_does_not_release_the_entry_side() -> None:
    scene = Scene()
    scene.exit(True)
    assert not scene.released


def test_a_taped_exit_button_is_reported_and_explains_nothing_any_more() -> None:
    scene = Scene()
    scene.exit(True)
    scene.later(EXIT_STUCK_S)
    assert scene.told == [Happening.EGRESS, Happening.EXIT_STUCK]
    scene.contact(True)
    scene.later(FORCED_GRACE_S)
    assert scene.told[-1] is Happening.FORCED


def test_a_door_held_open_asks_to_be_closed_first_and_is_reported_once() -> None:
    scene = Scene()
    scene.grant()
    scene.contact(True)
    scene.later(20.0)
    assert scene.told == [Happening.OPENED, Happening.PRE_ALARM]
    scene.later(9.9)
    assert scene.told[-1] is Happening.PRE_ALARM
    scene.later(0.1)
    scene.later(3600.0)
    assert scene.told == [Happening.OPENED, Happening.PRE_ALARM, Happening.HELD_OPEN]


def test_somebody_who_needs_longer_has_longer_before_the_door_asks() -> None:
    scene = Scene()
    scene.grant(25.0, extra_s=20.0)
    scene.later(24.0)
    assert scene.released
    scene.contact(True)
    scene.later(39.0)
    assert Happening.PRE_ALARM not in scene.told
    scene.later(11.0)
    assert scene.told[-1] is Happening.HELD_OPEN


def test_the_next_person_through_an_open_door_starts_its_time_anew() -> None:
    scene = Scene()
    scene.grant()
    scene.contact(True)
    scene.later(25.0)
    scene.grant()
    scene.later(19.0)
    assert Happening.HELD_OPEN not in scene.told
    scene.later(11.0)
    assert scene.told[-1] is Happening.HELD_OPEN


def test_a_door_found_open_after_a_power_cut_is_timed_and_not_called_forced() -> None:
    scene = Scene()
    scene.state = DoorState(TIMING)
    scene.told.clear()
    scene.contact(True)
    scene.later(30.0)
    assert scene.told == [Happening.OPENED, Happening.PRE_ALARM, Happening.HELD_OPEN]


def test_in_an_emergency_the_door_may_stand_open_and_is_timed_from_the_alarms_end() -> None:
    scene = Scene()
    scene.take(emergency(scene.state, scene.now_s))
    scene.contact(True)
    scene.later(3600.0)
    scene.contact(False)
    scene.contact(True)
    assert scene.released
    assert Happening.HELD_OPEN not in scene.told
    scene.take(locked(scene.state, scene.now_s))
    assert not scene.released
    assert scene.told[-1] is Happening.RELOCKED
    scene.later(29.0)
    assert Happening.HELD_OPEN not in scene.told
    scene.later(1.0)
    assert scene.told[-1] is Happening.HELD_OPEN


def test_an_order_to_lock_takes_back_a_grant() -> None:
    scene = Scene()
    scene.grant(30.0)
    scene.take(locked(scene.state, scene.now_s))
    scene.contact(True)
    scene.later(FORCED_GRACE_S)
    assert not scene.released
    assert scene.told == [Happening.RELOCKED, Happening.OPENED, Happening.FORCED]


def test_an_opened_case_is_reported_once_and_its_closing_too() -> None:
    scene = Scene()
    for active in (True, True, False, False, True):
        scene.take(sensed(scene.state, Line.TAMPER, active, scene.now_s))
    assert scene.told == [Happening.TAMPERED, Happening.UNTAMPERED, Happening.TAMPERED]


def test_a_pre_alarm_not_shorter_than_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="pre_alarm_s"):
        DoorTiming(held_open_s=10.0, pre_alarm_s=10.0)


class DoorMachine(RuleBasedStateMachine):
    """Every order of grants, contacts, buttons, alarms and waits, against promises that need no model of the
    code: they speak of what was done and what was told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 50.0
        self.state = DoorState(TIMING)
        self.told: list[tuple[float, Happening]] = []
        self.granted_until_s = -math.inf
        self.alarm = False
        self.opened = False
        self.take(sensed(self.state, Line.CONTACT, False, self.now_s))
        self.timed_from_s = math.inf

    def take(self, step: tuple[DoorState, tuple[Happening, ...]]) -> None:
        self.state, told = step
        self.told += [(self.now_s, happening) for happening in told]

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.4, 1.0, 5.0, 9.0, 25.0, 61.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.take(passed(self.state, self.now_s))

    @rule(unlock_s=st.sampled_from([1.0, 5.0, 30.0]), extra_s=st.sampled_from([0.0, LONGER_S]))
    def grant(self, unlock_s: float, extra_s: float) -> None:
        self.take(granted(self.state, self.now_s, unlock_s, extra_s))
        self.granted_until_s = max(self.granted_until_s, self.now_s + unlock_s)
        self.timed_from_s = self.now_s

    @rule()
    def fire(self) -> None:
        self.take(emergency(self.state, self.now_s))
        self.alarm = True

    @rule()
    def lock(self) -> None:
        self.take(locked(self.state, self.now_s))
        self.granted_until_s, self.alarm = -math.inf, False
        self.timed_from_s = self.now_s

    @rule()
    def open(self) -> None:
        self.take(sensed(self.state, Line.CONTACT, True, self.now_s))
        if not self.opened:
            self.opened, self.timed_from_s = True, self.now_s

    @rule()
    def close(self) -> None:
        was_open, self.opened = self.opened, False
        self.take(sensed(self.state, Line.CONTACT, False, self.now_s))
        if was_open:
            self.granted_until_s = -math.inf

    @rule(pressed=st.booleans())
    def exit(self, pressed: bool) -> None:
        self.take(sensed(self.state, Line.EXIT, pressed, self.now_s))

    @rule(active=st.booleans())
    def tamper(self, active: bool) -> None:
        self.take(sensed(self.state, Line.TAMPER, active, self.now_s))

    @precondition(lambda self: not self.opened)
    @rule(bounces=st.integers(1, 6))
    def slam_open_without_cause(self, bounces: int) -> None:
        """After long quiet, with nothing that excuses it, however the contact bounces."""
        self.take(locked(self.state, self.now_s))
        self.granted_until_s, self.alarm = -math.inf, False
        self.take(sensed(self.state, Line.EXIT, False, self.now_s))
        self.wait(100.0)
        before = sum(h is Happening.FORCED for _, h in self.told)
        for _ in range(bounces):
            self.take(sensed(self.state, Line.CONTACT, True, self.now_s))
            self.now_s += 0.002
            self.take(sensed(self.state, Line.CONTACT, False, self.now_s))
        self.take(sensed(self.state, Line.CONTACT, True, self.now_s))
        self.opened, self.timed_from_s = True, self.now_s
        self.wait(FORCED_GRACE_S)
        assert sum(h is Happening.FORCED for _, h in self.told) > before

    @invariant()
    def the_strike_is_released_only_for_a_grant_or_an_alarm(self) -> None:
        released = self.state.strike_released(self.now_s)
        assert released == (self.alarm or self.now_s < self.granted_until_s)

    @invariant()
    def openings_and_closings_alternate(self) -> None:
        moves = [h for _, h in self.told if h in (Happening.OPENED, Happening.CLOSED)]
        assert all(h is (Happening.CLOSED if at % 2 else Happening.OPENED) for at, h in enumerate(moves))
        assert bool(self.state.is_open) == self.opened == bool(len(moves) % 2)

    @invariant()
    def nothing_is_reported_held_open_before_its_time_or_without_a_pre_alarm(self) -> None:
        for at, (told_s, happening) in enumerate(self.told):
            if happening is Happening.HELD_OPEN:
                before = [(s, h) for s, h in self.told[:at] if h is not Happening.TAMPERED]
                last_opened_s = max(s for s, h in before if h is Happening.OPENED)
                assert told_s - last_opened_s >= TIMING.held_open_s
                assert Happening.PRE_ALARM in {h for s, h in before if s >= last_opened_s}

    @invariant()
    def whatever_stands_open_too_long_is_reported_also_when_it_was_forced(self) -> None:
        open_s = self.now_s - self.timed_from_s
        if self.opened and not self.alarm and open_s >= TIMING.held_open_s + LONGER_S:
            last_opened = max(at for at, (_, h) in enumerate(self.told) if h is Happening.OPENED)
            assert Happening.HELD_OPEN in {h for _, h in self.told[last_opened:]}

    @invariant()
    def what_is_due_is_never_in_the_past(self) -> None:
        assert self.state.due_s > self.now_s


DoorMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestDoorMachine = DoorMachine.TestCase


def test_a_held_door_opens_and_shuts_at_will_and_is_timed_from_the_end() -> None:
    scene = Scene()
    scene.take(held(scene.state, scene.now_s, 600.0))
    for _ in range(3):
        scene.contact(True)
        scene.later(60.0)
        scene.contact(False)
        assert scene.released
    scene.contact(True)
    scene.later(419.0)
    assert scene.told.count(Happening.OPENED) == 4
    assert not {Happening.FORCED, Happening.HELD_OPEN, Happening.PRE_ALARM} & set(scene.told)
    scene.later(2.0)  # the hold ends, and nobody had to say so
    assert not scene.released
    assert scene.told[-1] is Happening.RELOCKED
    scene.later(TIMING.held_open_s)
    assert scene.told[-2:] == [Happening.PRE_ALARM, Happening.HELD_OPEN]


def test_a_hold_that_is_ended_leaves_somebody_their_time_and_a_lock_ends_both() -> None:
    scene = Scene()
    scene.take(held(scene.state, scene.now_s, 600.0))
    scene.grant()
    scene.take(held(scene.state, scene.now_s, 0.0))
    assert scene.released
    assert Happening.RELOCKED not in scene.told
    scene.take(held(scene.state, scene.now_s, 600.0))
    scene.take(locked(scene.state, scene.now_s))
    assert not scene.released
    assert scene.told[-1] is Happening.RELOCKED
    scene.contact(True)
    scene.later(FORCED_GRACE_S)
    assert scene.told[-1] is Happening.FORCED
