"""The simulated strike: released for a moment by a decision that opens, by nothing else."""

from __future__ import annotations

import pytest

from device.access.decision import OPENING, Decision, Notice, Outcome, Reason
from device.door import SimulatedDoor


def decision(outcome: Outcome) -> Decision:
    return Decision(outcome, Reason.ALL_FACTORS_PASSED, "because", Notice.REFUSED)


class World:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.shown: list[str] = []
        self.door = SimulatedDoor("pharmacy", 5.0, lambda: self.now_s, self.shown.append)


def test_a_door_starts_locked() -> None:
    assert World().door.is_locked


@pytest.mark.parametrize("outcome", sorted(OPENING - {Outcome.EMERGENCY_RELEASE}))
def test_a_decision_that_opens_releases_the_strike_and_it_locks_again_by_itself(outcome: Outcome) -> None:
    world = World()
    world.door.obey(decision(outcome))
    assert not world.door.is_locked
    world.now_s += 5.0
    assert world.door.is_locked


def test_an_emergency_release_holds_until_the_alarm_ends_whatever_else_is_decided() -> None:
    world = World()
    world.door.obey(decision(Outcome.EMERGENCY_RELEASE))
    world.door.obey(decision(Outcome.GRANTED))
    world.door.obey(decision(Outcome.DENIED_VOICE))
    world.now_s += 3600.0
    assert not world.door.is_locked
    world.door.lock()
    assert world.door.is_locked


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - OPENING))
def test_no_other_decision_moves_the_strike(outcome: Outcome) -> None:
    world = World()
    world.door.obey(decision(outcome))
    assert world.door.is_locked


def test_closing_locks_at_once() -> None:
    world = World()
    world.door.obey(decision(Outcome.GRANTED))
    world.door.close()
    assert world.door.is_locked


def test_duress_looks_like_a_grant_at_the_door() -> None:
    granted, forced = World(), World()
    granted.door.obey(decision(Outcome.GRANTED))
    forced.door.obey(decision(Outcome.DURESS))
    assert granted.shown == forced.shown
