"""What orders and the history file say of holds, visits and time comes back as it was."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device.access.memory import holds, visits
from device.access.memory.history import History, HistoryBusyError
from device.access.memory.holds import LONGEST_S, Hold
from device.access.memory.remembered import First, Position, Remembered
from device.access.memory.timekeeping import BUILT, SETTLED_S, TOLERANCE_S, Timekeeper, TimeSeen
from device.access.memory.visits import Visit
from device.clock import Now
from tests.device.door_world import NvCounter, mac

ANNA = "5d7c0c1e-9a52-5c3e-8b6e-0d5a5a0c1b2a"
SEEN = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("holidays", [False, True])
def test_a_hold_as_a_line_comes_back_as_it_was(first: bool, holidays: bool) -> None:
    hold = Hold(1_800_000_000.0, 1_800_003_600.5, first, holidays)
    line = hold.to_text("ward-3")
    assert holds.from_text(line) == ("ward-3", hold)
    assert line.split(" ")[:3] == ["ward-3", "1800000000.000", "1800003600.500"]
    assert line.split(" ")[3:] == ["first_person"] * first + ["not_on_holidays"] * (not holidays)


@pytest.mark.parametrize(
    "line", ["ward-3", "ward-3 1.0", "ward-3 1.0 2.0 sometimes", "ward-3 2.0 1.0", "ward-3 a b"]
)
def test_a_line_that_is_no_hold_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        holds.from_text(line)


@pytest.mark.parametrize(
    ("begins_s", "ends_s", "good"),
    [
        (0.0, 1.0, True),
        (-0.1, 1.0, False),
        (5.0, 5.0, False),
        (0.0, LONGEST_S, True),
        (0.0, LONGEST_S + 1, False),
    ],
)
def test_a_hold_ends_after_it_begins_and_within_a_day(begins_s: float, ends_s: float, good: bool) -> None:
    if good:
        assert Hold(begins_s, ends_s).to_list() == [begins_s, ends_s, False, True, False]
    else:
        with pytest.raises(ValueError, match="a day later"):
            Hold(begins_s, ends_s)


def test_a_visit_as_a_line_comes_back_as_it_was_and_a_pseudonym_alone_is_its_end() -> None:
    visit = Visit(0.0, 1_800_003_600.5)
    assert visit.to_text(ANNA) == f"{ANNA} 0.000 1800003600.500"
    assert visits.from_text(visit.to_text(ANNA)) == (ANNA, visit)
    assert visits.from_text(ANNA) == (ANNA, None)


@pytest.mark.parametrize(
    "line", [f"{ANNA} 1.0", f"{ANNA} 1.0 2.0 3.0", f"{ANNA.upper()} 1.0 2.0", "ANNA 1.0 2.0"]
)
def test_a_line_that_is_no_visit_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        visits.from_text(line)


@pytest.mark.parametrize(
    ("begins_s", "ends_s", "good"),
    [
        (0.0, 1.0, True), (-0.1, 1.0, False), (2.0, 2.0, False), (3.0, 2.0, False),
        (0.0, 2.0**33 - 1, True), (0.0, 2.0**33, False),
    ],
)  # fmt: skip
def test_a_visit_ends_after_it_begins_and_within_the_times_that_events_can_tell(
    begins_s: float, ends_s: float, good: bool
) -> None:
    if good:
        assert Visit(begins_s, ends_s).ends_s == ends_s
    else:
        with pytest.raises(ValueError, match="ends after it begins"):
            Visit(begins_s, ends_s)


def test_everything_that_is_remembered_comes_back_from_its_bytes() -> None:
    whole = Remembered(
        epoch=7,
        failures={"person:ANNA": 2, "door:ward": 1},
        phrases=("aa", "bb"),
        positions={"ANNA": Position("ward", SEEN)},
        locked_down=frozenset({"lab"}),
        memory=9,
        time=TimeSeen(1_800_000_000.0, 17.5),
        since_s={"person:ANNA": 41.0},
        opened_s=40.0,
        first={"vault": First("BRUNO", 99.0, True)},
        boot="b",
        holds={
            "ward": Hold(1.0, 2.0, first_person=True, on_holidays=False, begun=True),
            "lab": Hold(3.0, 4.0),
        },
        visits={ANNA: Visit(5.0, 6.0)},
    )
    assert Remembered.from_bytes(whole.to_bytes()) == whole
    assert Remembered.from_bytes(Remembered(1).to_bytes()) == Remembered(1)
    old = {"version": 1, "epoch": 3, "failures": {}, "phrases": [], "positions": {}, "locked_down": []}
    assert Remembered.from_bytes(json.dumps(old).encode()) == Remembered(epoch=3)
    for version in (0, 3):
        with pytest.raises(ValueError, match="neither 1 nor 2"):
            Remembered.from_bytes(json.dumps(old | {"version": version}).encode())


def test_what_waits_counts_from_where_it_began_and_begins_anew_in_another_boot() -> None:
    waits = Remembered(1, first={"ward": First("ANNA", 50.0, False)}, boot="b")
    assert waits.waiting("ward", 50.0, "b") == First("ANNA", 50.0, False)
    assert waits.waiting("ward", 50.1, "b") is None
    assert waits.waiting("ward", 10.0, "c") is None
    assert waits.waiting("lab", 10.0, "b") is None


@pytest.mark.parametrize(("late_s", "behind"), [(TOLERANCE_S, False), (TOLERANCE_S + 0.001, True)])
def test_a_clock_is_behind_once_it_lies_further_back_than_a_time_service_puts_right(
    late_s: float, behind: bool
) -> None:
    wall = SEEN - timedelta(seconds=late_s)
    assert TimeSeen(SEEN.timestamp()).behind(wall) is behind
    assert TimeSeen().behind(BUILT - timedelta(seconds=late_s)) is behind


def test_a_clock_that_somebody_trusts_has_proved_nothing_yet() -> None:
    kept: list[TimeSeen] = []
    keeper = Timekeeper(TimeSeen(SEEN.timestamp(), SETTLED_S), kept.append)
    keeper.look(Now(SEEN, 10.0))
    assert keeper.settled()
    keeper.trust(Now(SEEN - timedelta(days=9), 20.0))
    assert kept[-1] == keeper.seen == TimeSeen((SEEN - timedelta(days=9)).timestamp(), 0.0)
    assert not keeper.settled()
    keeper.look(Now(SEEN - timedelta(days=9) + timedelta(seconds=SETTLED_S - 1), 19.0 + SETTLED_S))
    assert not keeper.settled()
    keeper.look(Now(SEEN - timedelta(days=9) + timedelta(seconds=SETTLED_S), 20.0 + SETTLED_S))
    assert keeper.settled()


def test_two_processes_never_hold_one_history_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "state" / "unit" / "history"
    first = History(path, NvCounter(), mac, opened_s=0.0)
    assert path.with_suffix(".lock").exists()
    with pytest.raises(HistoryBusyError):
        History(path, NvCounter(), mac, opened_s=0.0)
    first.close()
    assert oct(path.parent.stat().st_mode & 0o777) == oct(0o700)
    History(path, NvCounter(), mac, opened_s=0.0).close()


def test_a_hold_is_one_doors_and_a_lock_down_ends_those_that_it_covers(tmp_path: Path) -> None:
    history = History(tmp_path / "history", NvCounter(), mac, opened_s=0.0)
    hold = Hold(1.0, 2.0)
    doors = ("ward", "lab", "icu")

    def held() -> set[str]:
        return {door for door in doors if history.held(door) is not None}

    for door in doors:
        history.hold(door, hold)
    assert held() == set(doors)
    history.hold("icu", None)
    assert held() == {"ward", "lab"}
    history.hold("ward", Hold(3.0, 4.0))
    assert (history.held("ward"), history.held("lab")) == (Hold(3.0, 4.0), hold)
    history.lock_down("lab", False)
    assert held() == {"ward", "lab"}
    history.lock_down("lab", True)
    assert held() == {"ward"}
    history.lock_down("*", True)
    assert held() == set()
    history.close()
