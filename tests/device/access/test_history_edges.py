"""The history at its bounds, and everything that it keeps, byte for byte across a restart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device.access.memory.history import (
    MAX_AHEAD,
    MAX_FILE_BYTES,
    History,
    HistoryError,
    HistoryRollbackError,
    recall,
)
from device.access.memory.remembered import AttemptLimits, First, Position, Remembered, normal
from device.access.memory.timekeeping import TimeSeen
from device.access.memory.visits import Visit, from_text
from tests.device.access.test_history import NvCounter, mac

WARD = Position("ward", datetime(2026, 1, 1, tzinfo=UTC))
LIMITS = AttemptLimits(free_failures=2, first_wait_s=30.0, longest_wait_s=100.0, disable_after=6)
Open = Callable[..., History]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    counter = NvCounter()

    def made(**named: object) -> History:
        return History(tmp_path / "history", counter, mac, **{"opened_s": 0.0, **named})  # type: ignore[arg-type]

    return made


def written_at(path: Path, epoch: int) -> None:
    """A history of this start."""
    counter = NvCounter(epoch - 1)
    history = History(path, counter, mac, opened_s=0.0, never_used=epoch)
    assert history.begin() == epoch
    history.close()


@pytest.mark.parametrize("behind", [0, 1, MAX_AHEAD])
def test_a_file_that_is_ahead_by_power_cuts_is_taken_and_the_counter_follows(
    tmp_path: Path, behind: int
) -> None:
    written_at(tmp_path / "history", 100)
    counter = NvCounter(100 - behind)
    history = History(tmp_path / "history", counter, mac, opened_s=0.0)
    assert history.begin() == 101
    assert counter.value() == 101
    history.close()


@pytest.mark.parametrize("counted", [101, 100 - MAX_AHEAD - 1])
def test_a_file_that_is_behind_or_too_far_ahead_is_an_old_copy(tmp_path: Path, counted: int) -> None:
    written_at(tmp_path / "history", 100)
    with pytest.raises(HistoryRollbackError, match=f"of start 100, the counter says {counted}"):
        History(tmp_path / "history", NvCounter(counted), mac, opened_s=0.0)


@pytest.mark.parametrize(("counted", "gone"), [(7, False), (6, False), (8, True)])
def test_a_unit_without_a_file_is_new_only_where_its_counter_was_never_used(
    tmp_path: Path, counted: int, gone: bool
) -> None:
    if gone:
        with pytest.raises(HistoryRollbackError, match="is gone"):
            recall(tmp_path / "history", NvCounter(counted), mac, never_used=7)
    else:
        found = recall(tmp_path / "history", NvCounter(counted), mac, never_used=7)
        assert found == Remembered(epoch=counted)


def test_a_counter_that_does_not_count_by_one_stops_the_unit(tmp_path: Path) -> None:
    class Leaps(NvCounter):
        def advance(self) -> int:
            self.now += 2
            return self.now

    class Stands(NvCounter):
        def advance(self) -> int:
            self.writes += 1
            return self.now

    for counter in (Leaps(), Stands()):
        history = History(tmp_path / type(counter).__name__, counter, mac, opened_s=0.0)
        with pytest.raises(HistoryError, match="does not advance by one"):
            history.charge("person:A", 0.0)
        history.close()
    assert counter.writes == 2 * MAX_AHEAD


def test_all_that_is_remembered_outlives_a_restart_but_for_waits_and_who_waited(opened: Open) -> None:
    history = opened(opened_s=5.0)
    history.charge("person:ANNA", 7.0)
    history.charge("door:ward", 8.0)
    history.settle((), {"ANNA": WARD, "BRUNO": WARD}, {"ward": First("CLARA", 90.0, True), "lab": None})
    history.lock_down("pharmacy", True)
    history.remember(b"12345678")
    history.memory_reached(9)
    history.saw_time(TimeSeen(11.0, 12.0))
    history.keep()
    assert history.waiting_doors == ("ward",)
    assert history.waiting("ward", 90.0) == First("CLARA", 90.0, True)
    assert history.waiting("ward", 90.1) is None
    assert history.waiting("lab", 1.0) is None
    history.close()
    again = opened(opened_s=50.0)
    assert again.failing() == {"person:ANNA": 1, "door:ward": 1}
    assert (again.position("ANNA"), again.position("bruno"), again.position("CLARA")) == (WARD, WARD, None)
    assert [again.locked_down(door) for door in ("pharmacy", "ward", "*")] == [True, False, False]
    assert [again.shown_before(digest) for digest in (b"12345678", b"87654321")] == [True, False]
    assert (again.memory_version, again.time_seen) == (9, TimeSeen(11.0, 12.0))
    assert again.waiting_doors == ()
    again.close()


def test_a_success_takes_a_person_out_of_a_zone_and_a_waiting_one_away_from_a_door(opened: Open) -> None:
    history = opened()
    history.settle((), {"ANNA": WARD, "BRUNO": WARD}, {"ward": First("ANNA", 9.0, False)})
    history.settle(("person:ANNA",), {"anna": None}, {"ward": None})
    assert (history.position("ANNA"), history.position("BRUNO"), history.waiting_doors) == (None, WARD, ())
    history.settle(("person:BRUNO",))
    assert history.position("BRUNO") == WARD
    history.close()


@pytest.mark.parametrize(
    ("failures", "wait_s", "disabled"),
    [(0, 0, False), (1, 0, False), (2, 30, False), (3, 60, False), (4, 100, False), (5, 100, False),
     (6, 100, True), (7, 100, True)],
)  # fmt: skip
def test_waits_double_up_to_the_longest_and_end_in_a_claim_that_only_an_admin_enables(
    opened: Open, failures: int, wait_s: float, disabled: bool
) -> None:
    history = opened()
    for _ in range(failures):
        history.charge("person:ANNA", 10.0)
    standing = history.standing("person:anna", LIMITS, 10.0)
    assert (standing.failures, standing.wait_s, standing.disabled) == (failures, wait_s, disabled)
    assert history.standing("person:ANNA", LIMITS, 10.0 + wait_s).may_try is not disabled
    if wait_s:
        almost = history.standing("person:ANNA", LIMITS, 9.5 + wait_s)
        assert (almost.wait_s, almost.may_try) == (0.5, False)
    assert history.standing("person:BRUNO", LIMITS, 10.0).may_try
    history.close()


@pytest.mark.parametrize(
    "good",
    [
        {"free_failures": 1}, {"free_failures": 49}, {"disable_after": 100}, {"disable_after": 6},
        {"longest_wait_s": 30.0}, {"longest_wait_s": 86_400.0}, {"first_wait_s": 3_600.0},
    ],
)  # fmt: skip
def test_limits_as_lax_as_the_standard_allows_are_taken(good: dict[str, float]) -> None:
    AttemptLimits(**good)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        {"free_failures": 50}, {"disable_after": 5}, {"first_wait_s": 29.9}, {"longest_wait_s": 29.9},
        {"longest_wait_s": 86_400.1}, {"first_wait_s": 3_600.1},
    ],
)  # fmt: skip
def test_limits_a_little_laxer_are_not(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wait"):
        AttemptLimits(**bad)  # type: ignore[arg-type]


def test_a_pardon_erases_failures_and_place_of_one_person_and_says_whether_there_was_anything(
    opened: Open,
) -> None:
    history = opened()
    history.charge("person:ANNA", 0.0)
    history.charge("door:ward", 0.0)
    history.settle((), {"BRUNO": WARD, "CLARA": WARD})
    assert history.pardon("person:BRUNO"), "only a place was held"
    assert history.position("BRUNO") is None
    assert history.pardon("person:ANNA"), "only failures were held"
    assert history.failing() == {"door:ward": 1}
    assert history.pardon("door:ward")
    assert not history.pardon("door:ward")
    assert not history.pardon("person:NOBODY")
    assert history.position("CLARA") == WARD
    history.close()


def test_who_is_forgotten_waits_nowhere_and_the_others_stay(opened: Open) -> None:
    history = opened()
    for uid in ("ANNA", "BRUNO"):
        history.charge(f"person:{uid}", 0.0)
    history.settle(
        (),
        {"ANNA": WARD, "BRUNO": WARD},
        {"ward": First("anna", 9.0, False), "lab": First("BRUNO", 9.0, False)},
    )
    assert history.forget("anna")
    assert (history.failing(), history.waiting_doors) == ({"person:BRUNO": 1}, ("lab",))
    history.keep_only(["CLARA"])
    assert (history.failing(), history.waiting_doors, history.position("BRUNO")) == ({}, (), None)
    history.close()


def test_who_only_waits_or_only_is_somewhere_is_somebody_too(opened: Open) -> None:
    history = opened()
    history.settle((), {"ANNA": WARD}, {"ward": First("bruno", 9.0, False)})
    history.keep_only(["BRUNO"])
    assert (history.position("ANNA"), history.waiting_doors) == (None, ("ward",))
    history.keep_only([])
    assert history.waiting_doors == ()
    history.close()


def test_a_door_that_is_unlocked_by_name_stays_locked_while_all_are(opened: Open) -> None:
    history = opened()
    history.lock_down("*", True)
    history.lock_down("ward", True)
    history.lock_down("ward", False)
    assert history.locked_down("ward")
    history.lock_down("*", False)
    assert not history.locked_down("ward")
    history.close()


def test_five_hundred_and_twelve_phrases_are_remembered_unless_told_otherwise(opened: Open) -> None:
    history = opened()
    digests = [number.to_bytes(8, "big") for number in range(513)]
    for digest in digests:
        history.remember(digest)
    assert [history.shown_before(d) for d in (digests[0], digests[1], digests[512])] == [False, True, True]
    history.close()


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("person:ab-12", "person:AB12"),
        ("ab-12", "AB12"),
        ("door:ab-12", "door:ab-12"),
        ("", ""),
        ("person:", "person:"),
    ],
)
def test_a_subject_has_one_form(written: str, form: str) -> None:
    assert normal(written) == form


def test_what_is_written_is_read_as_it_was() -> None:
    made = Remembered(
        epoch=3,
        failures={"person:ANNA": 2},
        phrases=("00", "01"),
        positions={"ANNA": WARD},
        locked_down=frozenset({"*", "ward"}),
        memory=4,
        time=TimeSeen(5.0, 6.0),
        since_s={"person:ANNA": 7.0},
        opened_s=8.0,
        first={"ward": First("BRUNO", 9.0, True)},
        boot="this one",
    )
    assert Remembered.from_bytes(made.to_bytes()) == made
    for version in (0, 3):
        with pytest.raises(ValueError, match="neither 1 nor 2"):
            Remembered.from_bytes(made.to_bytes().replace(b'"version":2', f'"version":{version}'.encode()))
    bare = b'{"version":1,"epoch":3,"failures":{},"phrases":[],"positions":{},"locked_down":[]}'
    assert Remembered.from_bytes(bare) == Remembered(epoch=3)


@pytest.mark.parametrize("rest", [b"", b"abc", bytes(12), bytes(20)])
def test_a_file_that_ends_before_its_seal_is_damaged(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "history").write_bytes(b"OSTHIST2" + rest)
    with pytest.raises(HistoryRollbackError, match="damaged"):
        recall(tmp_path / "history", NvCounter(), mac)


@pytest.mark.parametrize(("over", "taken"), [(0, True), (1, False)])
def test_a_file_has_four_mebibytes_at_most(tmp_path: Path, over: int, taken: bool) -> None:
    body = b'{"version":1,"epoch":1,"failures":{},"phrases":[],"positions":{},"locked_down":[]}'
    body += b" " * (MAX_FILE_BYTES - 65 - len(body) + over)
    (tmp_path / "history").write_bytes(mac("attempt-history", body).hex().encode() + b"\n" + body)
    if taken:
        assert recall(tmp_path / "history", NvCounter(), mac) == Remembered(epoch=1)
    else:
        with pytest.raises(HistoryRollbackError, match="damaged"):
            recall(tmp_path / "history", NvCounter(), mac)


def test_a_visit_is_kept_beside_others_replaced_and_dropped_and_survives_a_restart(opened: Open) -> None:
    history = opened()
    one, longer, other = Visit(1.0, 2.0), Visit(1.0, 3.0), Visit(5.0, 6.0)
    history.keep_visit("p1", one)
    history.keep_visit("p2", other)
    history.keep_visit("p1", longer)
    history.close()
    history = opened()
    assert (history.visit("p1"), history.visit("p2"), history.visits) == (longer, other, 2)
    history.keep_visit("p1", None)
    assert (history.visit("p1"), history.visit("p2"), history.visits) == (None, other, 1)
    history.keep_visit("p3", None)
    assert history.visits == 1
    history.close()


def test_a_refund_of_the_only_charge_leaves_nobody_in_the_table_of_failures(opened: Open) -> None:
    history = opened()
    history.charge("person:ANNA", 0.0)
    history.refund("person:ANNA")
    assert history.failing() == {}
    history.charge("person:ANNA", 0.0)
    history.charge("person:ANNA", 0.0)
    history.refund("person:ANNA")
    assert history.failing() == {"person:ANNA": 1}
    history.close()


@pytest.mark.parametrize("line", ["{}  1.000 2.000", "{}\t1.000\t2.000", " {} 1.000 2.000", "{} 1.000"])
def test_an_order_about_a_visit_has_one_space_between_its_parts(line: str) -> None:
    person = "0b0f3c1e-5a52-4c58-9d0a-3f1f5f7c2a11"
    assert from_text(f"{person} 1.000 2.000") == (person, Visit(1.0, 2.0))
    assert from_text(person) == (person, None)
    with pytest.raises(ValueError, match=r"UUID|could not convert|a pseudonym, a beginning"):
        from_text(line.format(person))
