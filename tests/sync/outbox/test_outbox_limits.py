"""The outbox at its limits: the last event that it takes, the first that it does not, and what it says."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sync.events import AuditEvent, Record
from sync.outbox import (
    REPORTS_RESERVED,
    Outbox,
    OutboxError,
    OutboxFullError,
    OutboxLimits,
    OutboxRollbackError,
    Risk,
)
from sync.proofs import chain
from sync.proofs.heads import open_head
from tests.sync.disks import CAN_MOUNT, Disk
from tests.sync.outbox.test_outbox import FileCounter
from tests.sync.parts import DOORS, START_MS, UNIT, Clock, SoftwareSigner, event

SIGNER = SoftwareSigner()
BALLAST = 1 << 16
BLOCK = 4096
Open = Callable[..., Outbox]


OWN = ("max_events", "max_bytes", "batch_events")


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """`opened(max_events=3, counter=...)` opens the same log, with these limits."""

    def made(**changes: object) -> Outbox:
        limits = {n: changes.pop(n) for n in (*OWN, "keep_events") if n in changes}
        rest = {"ballast_bytes": changes.pop("ballast_bytes", 0), "keep_events": 0, **limits}
        clock = changes.pop("now_ms", Clock())
        return Outbox(
            tmp_path / "audit.db", unit=UNIT, doors=DOORS, now_ms=clock,
            limits=OutboxLimits(**rest), **changes,  # type: ignore[arg-type]
        )  # fmt: skip

    return made


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many bytes the disk says it has left for us."""

    def left(size: int) -> None:
        monkeypatch.setattr(
            os, "statvfs", lambda _: SimpleNamespace(f_bavail=size, f_frsize=1, f_bfree=1 << 40)
        )

    return left


def acknowledge(box: Outbox, size: int) -> None:
    """The registry holds everything up to `size`, where a head must be."""
    position = 0
    while batch := box.batch_after(position):
        position = batch.size
        if position == size:
            assert box.acknowledge(size, open_head(batch.head, SIGNER.public_key(), box.unit).chain)
            return
    raise AssertionError("no head there")


def told_before(box: Outbox, sequence: int) -> AuditEvent:
    """The event before `sequence`, as it is sent."""
    box.seal(SIGNER)
    batch = box.batch_after(sequence - 2)
    assert batch is not None
    return Record.from_bytes(batch.bodies[0]).event


def test_events_that_left_make_room_for_as_many(opened: Open) -> None:
    with opened(max_events=3, batch_events=2) as box:
        for number in range(3):
            assert box.append(event(number)) is not None
            assert box.fill().events == pytest.approx((number + 1) / 3)
        with pytest.raises(OutboxFullError, match="backlog too large"):
            box.append(event(3))
        box.seal(SIGNER)
        acknowledge(box, 2)
        assert box.fill().events == pytest.approx(1 / 3)
        assert [box.append(event(n)) is not None for n in (3, 4)] == [True, True]
        with pytest.raises(OutboxFullError):
            box.append(event(5))


def test_the_size_of_the_log_is_a_limit_of_its_own(opened: Open) -> None:
    with opened() as box:
        box.append(event(0))
        used = round(box.fill().size * (1 << 30))
    assert used > BLOCK
    with opened(max_bytes=used + 1) as box:
        assert box.fill().size == pytest.approx(used / (used + 1))
        assert box.append(event(1)) is not None
    with opened(max_bytes=used) as box:
        assert box.fill().reason == "backlog_too_large"
        with pytest.raises(OutboxFullError, match="backlog too large"):
            box.append(event(2))


def test_what_has_a_receipt_stays_for_a_while_from_a_signed_head_on(opened: Open) -> None:
    with opened(batch_events=2, keep_events=3) as box:
        assert box.kept_from() == 0
        for number in range(10):
            box.append(event(number))
        box.seal(SIGNER)
        whole = [box.batch_after(after) for after in (0, 2, 4, 6, 8)]
        acknowledge(box, 2)
        assert (box.kept_from(), box.batch_after(0)) == (0, whole[0]), "fewer than are kept"
        acknowledge(box, 8)
        assert (box.kept_from(), box.status().pending) == (5, 2)
        assert [box.batch_after(after) for after in (6, 8)] == whole[3:]
        odd = box.batch_after(5)
        assert odd is not None, "what is left of the head before goes out too"
        assert (odd.first, odd.head) == (6, whole[2].head if whole[2] else b"")
        held = box.held()
        assert held is not None
        assert (held.first, len(held.bodies)) == (9, 2), "an export begins behind the last receipt"


def test_what_has_a_receipt_gives_way_before_the_log_is_full(opened: Open) -> None:
    with opened(batch_events=2, keep_events=1000) as box:
        for number in range(400):
            box.append(event(number))
        box.seal(SIGNER)
        acknowledge(box, 398)
        assert box.kept_from() == 0
        used = round(box.fill().size * (1 << 30))
    with opened(keep_events=1000, max_bytes=used) as box:
        assert box.append(event(400)) is not None
        assert box.kept_from() == 398
        assert box.status().pending == 3


def test_a_disk_with_twice_the_ballast_left_takes_an_event_and_with_a_byte_less_none(
    opened: Open, free: Callable[[int], None]
) -> None:
    with opened(ballast_bytes=BALLAST) as box:
        free(2 * BALLAST)
        assert box.append(event(0)) is not None
        free(2 * BALLAST - 1)
        with pytest.raises(OutboxFullError, match="disk full"):
            box.append(event(1))
        assert box.append(event(1), risk="low") is None


@pytest.mark.parametrize(
    ("left", "share"),
    [(8 * BALLAST, 0.25), (4 * BALLAST, 0.5), (2 * BALLAST, 1.0), (BALLAST, 1.0), (1, 1.0), (0, 1.0)],
)
def test_how_full_the_disk_is_counts_from_what_is_kept_free(
    opened: Open, free: Callable[[int], None], left: int, share: float
) -> None:
    with opened(ballast_bytes=BALLAST) as box:
        free(left)
        assert box.fill().disk == pytest.approx(share)
        assert box.fill().share == pytest.approx(share)
        assert box.fill().reason == "disk_full"


def test_what_went_uncounted_is_told_in_the_place_of_the_first_and_in_the_words_of_the_next(
    opened: Open, free: Callable[[int], None]
) -> None:
    with opened(ballast_bytes=BALLAST) as box:
        for first, count in ((1, 2), (10, 3)):
            free(BALLAST)
            assert [box.append(event(first + n), risk="low") for n in range(count)] == [None] * count
            assert box.status().overflow_count == count
            free(1 << 30)
            after = event(first + 5, boot=7, keystore="tpm")
            stored = box.append(after)
            assert stored is not None
            box.seal(SIGNER)
            batch = box.batch_after(stored.sequence - 2)
            assert batch is not None
            told = Record.from_bytes(batch.bodies[0])
            made = told.event
            assert told.sequence == stored.sequence - 1
            assert (made.kind, made.reason, made.count) == ("OUTBOX_OVERFLOW", "disk_full", count)
            assert made.time_ms == event(first).time_ms
            assert (made.boot, made.monotonic_ms, made.door, made.keystore) == (
                7, after.monotonic_ms, after.door, "tpm",
            )  # fmt: skip
            assert made.event_id == uuid.uuid5(after.event_id, "overflow")
            assert box.status().overflow_count == 0


def test_the_status_tells_what_waits_since_when(opened: Open) -> None:
    with opened(batch_events=2) as box:
        assert (box.status().oldest_ms, box.status().pending) == (None, 0)
        for number in range(5):
            box.append(event(number))
        assert box.status().oldest_ms == event(0).time_ms
        head = box.seal(SIGNER)
        assert head is not None
        assert head.time_ms == START_MS
        assert (box.status().sequence, box.status().sealed, box.status().acknowledged) == (5, 5, 0)
        acknowledge(box, 2)
        assert box.status().oldest_ms == event(2).time_ms
        assert box.acknowledge(head.size, head.chain)
        status = box.status()
        assert (status.oldest_ms, status.pending, status.acknowledged) == (None, 0, 5)


def test_what_is_held_ends_at_a_head_and_starts_where_the_last_receipt_ended(opened: Open) -> None:
    with opened(batch_events=2) as box:
        assert box.held() is None
        stored = [box.append(event(number)) for number in range(7)]
        bodies = [one.body for one in stored if one]
        box.seal(SIGNER)
        assert box.held(1) is None
        for most, last in ((2, 2), (3, 2), (4, 4), (6, 6), (7, 7), (50, 7)):
            held = box.held(most)
            assert held is not None
            assert (held.first, held.last, held.base_head) == (1, last, b"")
            assert held.bodies == tuple(bodies[:last])
            assert held.chain == chain.genesis(box.unit)
            assert held.last_chain == chain.extend(held.chain, held.bodies)
            assert len(held.heads) == (last + 1) // 2
        acknowledge(box, 4)
        for most, last in ((2, 6), (3, 7)):
            held = box.held(most)
            assert held is not None
            assert (held.first, held.last) == (5, last)
            assert open_head(held.base_head, SIGNER.public_key(), box.unit).size == 4
            assert held.chain == chain.extend(chain.genesis(box.unit), bodies[:4])
        assert box.held(1) is None


def test_a_batch_is_asked_for_where_the_log_still_is(opened: Open) -> None:
    with opened(batch_events=2) as box:
        for number in range(6):
            box.append(event(number))
        box.seal(SIGNER)
        middle = box.batch_after(1)
        assert middle is not None
        assert (middle.first, middle.size, len(middle.bodies)) == (2, 2, 1)
        acknowledge(box, 4)
        for gone in (0, 1, 2, 3):
            with pytest.raises(OutboxError, match="missing"):
                box.batch_after(gone)
        rest = box.batch_after(4)
        assert rest is not None
        assert (rest.first, rest.size) == (5, 6)
        assert box.batch_after(6) is None


def test_a_receipt_for_what_left_before_is_harmless_and_one_for_what_never_was_is_not_ours(
    opened: Open,
) -> None:
    with opened(batch_events=2) as box:
        for number in range(4):
            box.append(event(number))
        box.seal(SIGNER)
        acknowledge(box, 2)
        assert [box.acknowledge(size, bytes(32)) for size in (0, 1, 2, 3, 4, 5)] == [
            True, True, False, False, False, False,
        ]  # fmt: skip
        assert box.status().acknowledged == 2


def test_numbers_of_health_messages_start_at_the_clock_and_go_on_above_what_was_reserved(
    opened: Open,
) -> None:
    clock = Clock()
    second = START_MS // 1000
    with opened(now_ms=clock) as box:
        assert [box.next_report() for _ in range(3)] == [second + 1, second + 2, second + 3]
    with opened(now_ms=clock) as box:
        assert box.next_report() == second + REPORTS_RESERVED + 1
        numbers = [box.next_report() for _ in range(REPORTS_RESERVED)]
        assert numbers[-1] == second + 2 * REPORTS_RESERVED + 1
    clock.now_ms += 10_000_000
    with opened(now_ms=clock) as box:
        assert box.next_report() == second + 10_000 + 1


def test_a_log_may_be_one_start_ahead_of_its_counter_and_never_behind(opened: Open) -> None:
    counter = FileCounter()
    for _ in range(3):
        opened(counter=counter).close()
    assert counter.now == 3
    counter.now -= 1  # the plug was pulled after the log was written and before the counter moved
    opened(counter=counter).close()
    counter.now += 1
    with pytest.raises(OutboxRollbackError, match="older"):
        opened(counter=counter)


class OvertakenCounter(FileCounter):
    """While one process asks the TPM for its counter, the door's starts, and is answered first."""

    def __init__(self, starts: Callable[[], None]) -> None:
        super().__init__()
        self._starts = starts

    def value(self) -> int:
        self._starts()
        return super().value()


@pytest.mark.parametrize("starts_before", [0, 2])
def test_a_door_that_starts_beside_a_process_that_looks_at_the_counter_makes_it_refuse_no_log(
    opened: Open, starts_before: int
) -> None:
    doors = FileCounter()
    for _ in range(starts_before):
        opened(counter=doors).close()

    def starts() -> None:
        opened(counter=doors).close()
        counter.now = doors.now

    counter = OvertakenCounter(starts)
    opened(counter=counter, advances=False).close()
    assert doors.now == starts_before + 1


@pytest.mark.parametrize(("value", "refused"), [(5, False), (4, False), (6, True)])
def test_a_new_log_is_taken_on_a_counter_that_was_never_used(opened: Open, value: int, refused: bool) -> None:
    counter = FileCounter()
    counter.now = value
    if refused:
        with pytest.raises(OutboxRollbackError, match="gone"):
            opened(counter=counter, never_used=5)
    else:
        opened(counter=counter, never_used=5).close()
        assert counter.now == value + 1


def test_a_log_that_is_held_by_another_is_no_full_one_and_counts_no_overflow(
    opened: Open, tmp_path: Path
) -> None:
    with opened(busy_s=0.02) as box:
        other = sqlite3.connect(tmp_path / "audit.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        risks: tuple[Risk, ...] = ("high", "low")
        for risk in risks:
            with pytest.raises(OutboxError, match="cannot be written") as told:
                box.append(event(0), risk=risk)
            assert not isinstance(told.value, OutboxFullError)
        other.execute("ROLLBACK")
        other.close()
        assert box.status().overflow_count == 0
    with pytest.raises(OutboxError, match="cannot be written"):
        box.append(event(0))  # closed


@pytest.mark.skipif(not CAN_MOUNT, reason="nobody may make a disk to fill here")
def test_a_disk_that_is_full_to_the_last_page_stops_a_high_risk_door_and_is_counted_at_a_low_risk_one(
    opened: Open, tmp_path: Path, free: Callable[[int], None]
) -> None:
    free(1 << 30)  # something else took the room after we had looked
    disk = Disk(tmp_path, 4)
    try:
        with opened(ballast_bytes=256 << 10) as box:
            box.append(event(0))
            disk.fill()
            with pytest.raises(OutboxFullError, match="disk full"):
                deque(map(box.append, map(event, range(1, 2000))), maxlen=0)
            assert box.append(event(3000), risk="low") is None
            assert box.status().overflow_count == 1
            disk.make_room()
            stored = box.append(event(3001))
            assert stored is not None
            assert (told_before(box, stored.sequence).reason, box.status().overflow_count) == ("disk_full", 0)
    finally:
        disk.remove()


def test_a_log_whose_one_event_has_a_receipt_begins_as_it_did(opened: Open) -> None:
    with opened() as box:
        box.append(event(0))
        box.seal(SIGNER)
        first = box.batch_after(0)
        acknowledge(box, 1)
        assert box.batch_after(0) == first, "not even its first head left"


@pytest.mark.parametrize("size", [0, BALLAST])
def test_room_is_kept_free_where_it_is_asked_for_and_nowhere_else(
    opened: Open, tmp_path: Path, size: int
) -> None:
    opened(ballast_bytes=size).close()
    opened(ballast_bytes=size).close()
    kept = tmp_path / "audit.db.ballast"
    assert (kept.stat().st_size if kept.exists() else 0, kept.exists()) == (size, size > 0)


def test_a_log_is_made_with_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "unit" / "audit.db"
    with Outbox(path, unit=UNIT, doors=DOORS, now_ms=Clock(), limits=OutboxLimits(ballast_bytes=0)) as box:
        assert box.append(event(0)) is not None


def test_what_left_in_the_middle_of_a_head_leaves_nothing_to_prove_the_rest_from(opened: Open) -> None:
    with opened(batch_events=2) as box:
        stored = [box.append(event(number)) for number in range(4)]
        box.seal(SIGNER)
        assert stored[2] is not None
        assert box.acknowledge(3, stored[2].chain)
        with pytest.raises(OutboxError, match="earlier version"):
            box.held()
