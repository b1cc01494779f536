"""A start that fails leaves a note, and the next one that succeeds makes events of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from device.access.memory.history import HistoryBusyError, HistoryRollbackError
from device.access.rules import default_rules
from device.access.rules.load import RulesError
from device.clock import Now
from device.model_store.manifest import BundleError
from device.secure_store import RollbackError, SealPolicyError, StoreError, TpmBusyError, TpmLockedError
from device.secure_store.errors import StoreUnavailableError
from device.unit.audit import AuditTrail, EventContext
from device.unit.failed_starts import NAME, FailedStarts, reason
from sync.events import Record
from sync.outbox import Outbox, OutboxError
from tests.sync.parts import SoftwareSigner

BEGAN = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)


class Unit:
    """A state folder, a clock that is set by hand, and a real log."""

    def __init__(self, folder: Path) -> None:
        self.now = BEGAN
        self.folder = folder
        self.starts = FailedStarts(folder, self.clock)
        self.log = Outbox(folder / "audit.db", unit="site-1/unit-1", doors={"door-1"}, now_ms=self.now_ms)
        context = EventContext(self.log.next_boot(), 0.0, b"k" * 32, "software")
        rules = replace(default_rules("door-1"), version=1)
        self.trail = AuditTrail(self.log, context, lambda: rules, self.clock)

    def clock(self) -> Now:
        return Now(self.now, 10.0)

    def now_ms(self) -> int:
        return int(self.now.timestamp() * 1000)

    def fails(self, err: Exception) -> None:
        @contextmanager
        def opening() -> Iterator[None]:
            raise err
            yield

        with pytest.raises(type(err)), self.starts.noting(opening()):
            pass

    def told(self) -> list[tuple[str, str, int | None]]:
        self.starts.tell(self.trail, "door-1")
        self.log.seal(SoftwareSigner())
        batch = self.log.batch_after(0)
        events = [Record.from_bytes(body).event for body in batch.bodies] if batch else []
        return [(event.kind, event.reason, event.count) for event in events]


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    made = Unit(tmp_path)
    yield made
    made.log.close()


def test_a_tpm_that_was_away_is_an_event_of_the_next_start_with_the_minutes_since_it_was_missed(
    unit: Unit,
) -> None:
    unit.fails(TpmBusyError("no TPM answers"))
    unit.now += timedelta(minutes=30)
    unit.fails(TpmBusyError("no TPM answers"))  # the first one counts
    unit.now += timedelta(minutes=61)
    assert unit.told() == [("FAULT", "tpm_fault", 91)]
    assert unit.told() == [("FAULT", "tpm_fault", 91)], "an event was written twice"
    assert not (unit.folder / NAME).exists()


def test_however_often_a_start_is_tried_the_note_is_written_once_for_each_kind_of_fault(unit: Unit) -> None:
    unit.fails(TpmBusyError("no TPM answers"))
    written = (unit.folder / NAME).stat().st_ino
    for _ in range(5):
        unit.fails(TpmBusyError("no TPM answers"))
    assert (unit.folder / NAME).stat().st_ino == written
    unit.fails(SealPolicyError("another TPM"))
    assert unit.told() == [("FAULT", "tpm_fault", 0), ("FAULT", "tpm_refused", 0)]


@pytest.mark.parametrize(
    ("err", "word"),
    [
        (TpmBusyError("x"), "tpm_fault"),
        (TpmLockedError("x"), "tpm_locked"),
        (SealPolicyError("x"), "tpm_refused"),
        (RollbackError("x"), "rollback_refused"),
        (HistoryRollbackError("x"), "rollback_refused"),
        (StoreError("x"), "store_fault"),
        (BundleError("x"), "model_fault"),
        (RulesError("x"), "rules_refused"),
        (StoreUnavailableError("x"), ""),
        (HistoryBusyError("x"), ""),
        (RuntimeError("x"), ""),
    ],
)
def test_every_reason_for_which_a_unit_does_not_start_has_a_word(err: Exception, word: str) -> None:
    assert reason(err) == word


def test_a_second_process_beside_a_unit_at_work_is_no_fault(unit: Unit) -> None:
    unit.fails(HistoryBusyError("another process"))
    assert not (unit.folder / NAME).exists()
    assert unit.told() == []


@pytest.mark.parametrize("moved", [timedelta(days=-1), timedelta(days=20_000)])
def test_a_clock_that_was_set_between_gives_no_number(unit: Unit, moved: timedelta) -> None:
    unit.fails(TpmBusyError("no TPM answers"))
    unit.now += moved
    assert unit.told() == [("FAULT", "tpm_fault", None)]


@pytest.mark.parametrize(
    "note",
    [b"", b"{", b"[]", b"[" * 4096, b'{"tpm_fault": "soon"}', b'{"tpm_fault": true}', b'{"GRANTED": 1}',
     b"\xff\xfe", b'{"tpm_fault": 1' + b"0" * 5000 + b"}"],
)  # fmt: skip
def test_a_note_that_somebody_wrote_by_hand_hinders_no_start_and_makes_no_event(
    unit: Unit, note: bytes
) -> None:
    (unit.folder / NAME).write_bytes(note)
    assert unit.told() == []
    assert not (unit.folder / NAME).exists()
    unit.fails(TpmBusyError("no TPM answers"))
    assert unit.told() == [("FAULT", "tpm_fault", 0)]


class BrokenLog:
    """A log that takes nothing."""

    def append(self, *_: object, **__: object) -> None:
        raise OutboxError("the log is broken")


def test_a_note_that_the_log_has_no_room_for_stays_for_the_next_start(unit: Unit) -> None:
    unit.fails(TpmBusyError("no TPM answers"))
    unit.starts.tell(replace(unit.trail, log=cast(Outbox, BrokenLog())), "door-1")
    assert (unit.folder / NAME).exists()
    assert unit.told() == [("FAULT", "tpm_fault", 0)]


def test_a_folder_that_cannot_be_written_keeps_the_true_error(tmp_path: Path) -> None:
    starts = FailedStarts(tmp_path / "missing", lambda: Now(BEGAN, 1.0))

    @contextmanager
    def opening() -> Iterator[None]:
        raise TpmBusyError("no TPM answers")
        yield

    with pytest.raises(TpmBusyError), starts.noting(opening()):
        pass


def test_an_error_while_the_unit_is_at_work_is_no_failed_start(unit: Unit) -> None:
    @contextmanager
    def opening() -> Iterator[int]:
        yield 7

    def works() -> None:
        with unit.starts.noting(opening()):
            raise TpmBusyError("at work")

    with pytest.raises(TpmBusyError):
        works()
    assert not (unit.folder / NAME).exists()
