"""A start that fails leaves a note, and the next one that succeeds makes events of it."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
from device.unit.failed_starts import LAST_START, NAME, PROBE_BYTES, FailedStarts, reason
from sync.events import Record
from sync.outbox import Outbox, OutboxError
from tests.sync.parts import SoftwareSigner

BEGAN = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)


class Unit:
    """A state folder, a clock that is set by hand, and a real log."""

    def __init__(self, folder: Path, memory: Path | None = None) -> None:
        self.now = BEGAN
        self.folder = folder
        self.starts = FailedStarts(folder, self.clock, memory)
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

    def told(self, power_ups: Callable[[], int | None] = lambda: None) -> list[tuple[str, str, int | None]]:
        """All that the log holds after a start that succeeds."""
        self.starts.tell(self.trail, "door-1", power_ups)
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


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)], check=False
    ).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("word", ["disk_full", "disk_read_only"])
@pytest.mark.parametrize("err", [StoreUnavailableError("x"), StoreError("x"), OSError(5, "x")])
def test_a_disk_that_took_nothing_at_the_start_is_an_event_once_it_does(
    disk: Path, tmp_path: Path, word: str, err: Exception
) -> None:
    memory = tmp_path / "run"
    memory.mkdir()
    unit = Unit(disk, memory)
    unit.log.close()
    fill = disk / "fill"
    if word == "disk_full":
        with suppress(OSError), fill.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    unit.fails(err)
    assert not (disk / NAME).exists()
    noted = (memory / NAME).stat().st_ino
    unit.now += timedelta(minutes=5)
    unit.fails(err)  # the first one counts, and is written once
    assert (memory / NAME).stat().st_ino == noted
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    fill.unlink(missing_ok=True)
    unit = Unit(disk, memory)
    unit.now += timedelta(minutes=12)
    assert unit.told() == [("FAULT", word, 12)]
    assert not (memory / NAME).exists()
    unit.log.close()


def test_what_was_noted_in_both_places_is_told_with_the_earlier_time(unit: Unit, tmp_path: Path) -> None:
    memory = tmp_path / "run"
    memory.mkdir()
    unit.fails(TpmBusyError("no TPM answers"))
    (memory / NAME).write_bytes((unit.folder / NAME).read_bytes())
    unit.now += timedelta(minutes=5)
    (unit.folder / NAME).unlink()
    unit.fails(TpmBusyError("no TPM answers"))
    unit.starts = FailedStarts(unit.folder, unit.clock, memory)
    assert unit.told() == [("FAULT", "tpm_fault", 5)]
    assert not (unit.folder / NAME).exists()
    assert not (memory / NAME).exists()


def test_a_start_that_is_tried_for_days_writes_nothing_to_the_card(unit: Unit) -> None:
    unit.fails(TpmBusyError("no TPM answers"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_oublock
    for _ in range(20):
        unit.fails(TpmBusyError("no TPM answers"))
        unit.fails(StoreUnavailableError("another process holds it"))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_oublock - before) * 512 < 20 * PROBE_BYTES


def test_power_that_came_and_went_without_a_start_that_was_written_down_is_an_event(unit: Unit) -> None:
    assert unit.told(lambda: 7) == []  # the first start has nothing to compare with
    assert unit.told(lambda: 7) == []  # the service was started again
    assert unit.told(lambda: 8) == []  # the board was
    unstarted = ("FAULT", "unrecorded_starts", 2)
    assert unit.told(lambda: 11) == [unstarted]
    assert unit.told(lambda: 11) == [unstarted]  # told once
    assert unit.told(lambda: 12) == [unstarted]
    assert unit.told(lambda: 3) == [unstarted]  # another TPM, or one that was cleared
    assert unit.told(lambda: 4) == [unstarted]


def test_starts_whose_failure_was_written_down_are_not_told_twice(unit: Unit) -> None:
    assert unit.told(lambda: 1) == []
    unit.fails(TpmBusyError("no TPM answers"))
    assert unit.told(lambda: 4) == [("FAULT", "tpm_fault", 0)]
    assert unit.told(lambda: 5) == [("FAULT", "tpm_fault", 0)]


def away() -> int:
    raise TpmBusyError("no TPM answers")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"power_ups": "many"}', b'{"power_ups": true}', b"[" * 3000]
)
def test_a_damaged_count_of_starts_and_a_tpm_that_does_not_answer_hinder_no_start(
    unit: Unit, content: bytes
) -> None:
    (unit.folder / LAST_START).write_bytes(content)
    assert unit.told(away) == []
    assert unit.told(lambda: 9) == []
    assert unit.told(lambda: 11) == [("FAULT", "unrecorded_starts", 1)]
