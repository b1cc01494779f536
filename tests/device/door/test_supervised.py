"""A door with contacts, its strike and its log, on wires that can be pulled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from device.access.decision import OPENING, Decision, Notice, Outcome, Reason
from device.door.debounce import Level
from device.door.lines import DoorError
from device.door.simulated import SimulatedLines
from device.door.supervised import SupervisedDoor
from device.door.supervision import DoorTiming, Line
from sync.errors import SyncError


def decision(outcome: Outcome, unlock_s: float | None = None) -> Decision:
    return Decision(outcome, Reason.ALL_FACTORS_PASSED, "because", Notice.REFUSED, unlock_s=unlock_s)


class FakeLines:
    """Wires with contacts that bounce; `gone` is the board pulled off."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.level = dict.fromkeys(Line, False)
        self._edges: list[Level] = []
        self.released: bool | None = None
        self.gone = False

    def set(self, line: Line, active: bool, bounces: int = 3) -> None:
        """Close or open a contact, bouncing a few times within 5 ms on the way."""
        at_s = self._now_s()
        for bounce in range(bounces):
            self._edges.append(Level(line, active, at_s + bounce * 0.002))
            self._edges.append(Level(line, not active, at_s + bounce * 0.002 + 0.001))
        self._edges.append(Level(line, active, at_s + bounces * 0.002))
        self.level[line] = active

    def edges(self, timeout_s: float) -> Iterable[Level]:
        self._check()
        told, self._edges = self._edges, []
        return told

    def levels(self) -> Mapping[Line, bool]:
        self._check()
        return dict(self.level)

    def move(self, released: bool) -> None:
        self._check()
        self.released = released

    def close(self) -> None:
        self.released = False if not self.gone else None

    def _check(self) -> None:
        if self.gone:
            raise DoorError("the chip does not answer any more")


class World:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.lines = FakeLines(lambda: self.now_s)
        self.events: list[str] = []
        self.warned: list[Notice] = []
        self.shown: list[str] = []
        self.log_is_full = False
        self.strike_when_noted: list[bool | None] = []
        self.door = SupervisedDoor(
            "pharmacy",
            self._open,
            unlock_s=5.0,
            timing=DoorTiming(),
            debounce_s=0.03,
            now_s=lambda: self.now_s,
            note=self._note,
            warn=self.warned.append,
            show=self.shown.append,
        )
        self.door.look()

    def _open(self) -> FakeLines:
        if self.lines.gone:
            raise DoorError("no such chip")
        return self.lines

    def _note(self, kind: str, reason: str) -> None:
        if self.log_is_full:
            raise SyncError("the disk is full")
        self.events.append(f"{kind} {reason}")
        self.strike_when_noted.append(self.lines.released)

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.door.look()

    def set(self, line: Line, active: bool) -> None:
        self.lines.set(line, active)
        self.later(0.01)
        self.later(0.05)


@pytest.fixture
def world() -> World:
    return World()


def test_a_door_starts_locked(world: World) -> None:
    assert world.door.is_locked
    assert world.lines.released is False


@pytest.mark.parametrize("outcome", sorted(OPENING - {Outcome.EMERGENCY_RELEASE}))
def test_a_decision_that_opens_releases_the_strike_and_it_locks_again(world: World, outcome: Outcome) -> None:
    world.door.obey(decision(outcome))
    assert world.lines.released
    world.later(5.0)
    assert world.lines.released is False


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - OPENING))
def test_no_other_decision_moves_the_strike(world: World, outcome: Outcome) -> None:
    world.door.obey(decision(outcome))
    assert world.lines.released is False


def test_duress_looks_like_a_grant_at_the_door() -> None:
    granted, forced = World(), World()
    granted.door.obey(decision(Outcome.GRANTED))
    forced.door.obey(decision(Outcome.DURESS))
    assert granted.shown == forced.shown


def test_somebody_whom_the_rules_give_longer_has_longer(world: World) -> None:
    world.door.obey(decision(Outcome.GRANTED, unlock_s=20.0))
    world.later(19.0)
    assert world.lines.released
    world.later(1.0)
    assert world.lines.released is False


def test_a_passage_is_two_events_however_the_contact_bounces_and_the_strike_locks_behind_it(
    world: World,
) -> None:
    world.door.obey(decision(Outcome.GRANTED))
    world.set(Line.CONTACT, True)
    world.set(Line.CONTACT, False)
    assert world.events == ["DOOR_OPENED none", "DOOR_CLOSED none"]
    assert world.lines.released is False


def test_a_forced_door_and_an_opened_case_are_written_down(world: World) -> None:
    world.set(Line.TAMPER, True)
    world.set(Line.CONTACT, True)
    world.later(1.0)
    assert world.events == ["TAMPER case_opened", "DOOR_OPENED none", "DOOR_FORCED_OPEN forced"]


def test_a_door_held_open_is_asked_to_be_closed_and_then_written_down(world: World) -> None:
    world.set(Line.EXIT, True)
    world.set(Line.CONTACT, True)
    world.set(Line.EXIT, False)
    world.later(25.0)
    assert world.warned == [Notice.CLOSE_DOOR]
    world.later(10.0)
    assert world.events == ["EGRESS request_to_exit", "DOOR_OPENED none", "DOOR_OPEN_TOO_LONG held_open"]


def test_a_fire_releases_before_anything_is_written_and_until_it_is_locked(world: World) -> None:
    world.set(Line.FIRE, True)
    assert world.door.fire()
    world.log_is_full = True
    world.door.obey(decision(Outcome.EMERGENCY_RELEASE))
    world.later(3600.0)
    assert world.lines.released
    world.door.lock()
    assert world.lines.released is False


def test_events_that_the_log_cannot_take_are_written_later_in_their_order(world: World) -> None:
    world.log_is_full = True
    world.set(Line.TAMPER, True)
    world.set(Line.TAMPER, False)
    assert world.events == []
    world.log_is_full = False
    world.later(0.1)
    assert world.events == ["TAMPER case_opened", "TAMPER_ENDED case_closed"]


def test_a_board_that_is_pulled_off_is_one_fault_locks_and_comes_back_without_a_restart(world: World) -> None:
    world.set(Line.FIRE, True)
    world.door.obey(decision(Outcome.GRANTED))
    world.lines.gone = True
    world.later(0.3)
    world.later(0.3)
    assert world.events == ["FAULT door_fault"]
    assert "chip" in world.door.trouble()
    assert not world.door.fire(), "what cannot be read is no alarm"
    world.lines.gone = False
    world.later(0.3)
    assert world.lines.released is False, "a grant does not outlive the hardware"
    assert world.door.trouble() == ""
    world.door.obey(decision(Outcome.GRANTED))
    assert world.lines.released


def test_a_strike_that_cannot_be_moved_is_said(world: World) -> None:
    world.lines.gone = True
    world.door.obey(decision(Outcome.GRANTED))
    assert world.shown == ["pharmacy: the strike cannot be moved"]
    assert world.door.is_locked


def test_an_alarm_outlives_the_hardware(world: World) -> None:
    world.door.obey(decision(Outcome.EMERGENCY_RELEASE))
    world.lines.gone = True
    world.later(0.3)
    world.lines.gone = False
    world.later(0.3)
    assert world.lines.released


def test_an_edge_that_the_kernel_dropped_is_noticed_by_the_level(world: World) -> None:
    world.lines.level[Line.TAMPER] = True
    world.later(0.3)
    world.later(0.1)
    assert world.events == ["TAMPER case_opened"]


def wait_for(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 180
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen within a minute"
        time.sleep(0.01)


def test_a_door_of_files_is_watched_by_a_thread_and_locked_on_the_way_out(tmp_path: Path) -> None:
    events: list[str] = []
    door = SupervisedDoor(
        "door-1",
        lambda: SimulatedLines(tmp_path, time.monotonic),
        unlock_s=60.0,
        timing=DoorTiming(),
        debounce_s=0.03,
        now_s=time.monotonic,
        note=lambda kind, reason: events.append(f"{kind} {reason}"),
        warn=lambda _: None,
        show=lambda _: None,
    )
    with door:
        door.obey(decision(Outcome.GRANTED))
        assert (tmp_path / "strike").read_text() == "1"
        for name, level, event in (
            ("contact", "1", "DOOR_OPENED none"),
            ("contact", "0", "DOOR_CLOSED none"),
            ("tamper", "1", "TAMPER case_opened"),
            ("request_to_exit", "1", "EGRESS request_to_exit"),
        ):
            (tmp_path / name).write_text(level)
            wait_for(lambda event=event: events[-1:] == [event])  # type: ignore[misc]
        (tmp_path / "fire").write_text("1")
        wait_for(door.fire)
        (tmp_path / "fire").write_text("yes")
        wait_for(lambda: not door.fire())
        door.obey(decision(Outcome.GRANTED))
    assert (tmp_path / "strike").read_text() == "0"
    assert not door.stuck()
