"""The unit's durable queue: an event is on the disk before `append` returns, and leaves only on a receipt.

One SQLite file in WAL mode with `synchronous=FULL`. The door process appends, here; the sync process, which
has the network, seals, sends and acknowledges (`sending.py`). Both may be killed at any instruction.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from sync.events import AuditEvent, Counter, Record, SequencedEvent, unit_id
from sync.outbox.file import BUSY_TIMEOUT_S, LogFile, cannot_open
from sync.outbox.parts import (
    OutboxError,
    OutboxFullError,
    OutboxLimits,
    OutboxRollbackError,
    Risk,
)
from sync.outbox.sending import Sending
from sync.outbox.unit_events import in_present_start
from sync.plain_words import why
from sync.proofs import chain


class Outbox(Sending):
    """One unit's log. Thread-safe; open it in as many processes as needed, append in one.

    `now_ms` is the wall clock (UTC), for the times of heads only. An event that names a door outside `doors`
    is refused, so that no free text enters. `counter` lies outside the disk (TPM NV): with it a log that was
    removed, or put back from a backup, is refused at open. `never_used` is its value on a unit that never had
    a log; a process beside the door's leaves it as it is (`advances` false). A file that another process
    holds is waited for, `busy_s` each time: so long a door may wait.
    """

    def __init__(
        self,
        path: Path,
        *,
        unit: str,
        doors: Collection[str],
        now_ms: Callable[[], int],
        limits: OutboxLimits | None = None,
        counter: Counter | None = None,
        never_used: int = 0,
        advances: bool = True,
        busy_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        name, limits = unit_id(unit), limits or OutboxLimits()
        super().__init__(LogFile(path, name, limits.ballast_bytes, busy_s), name, limits, now_ms)
        self._doors = frozenset(doors)
        try:
            self._check_counter(counter, never_used, advances)
        except OutboxRollbackError:
            self.close()
            raise
        except (sqlite3.Error, OSError) as err:
            raise cannot_open(path, err) from err

    def append(
        self, event: AuditEvent, *, risk: Risk = "high", other_process: bool = False
    ) -> SequencedEvent | None:
        """Put `event` on the disk and return it in its place. Raises OutboxError: then nothing may move.

        A full log raises OutboxFullError at `risk="high"`. At `risk="low"` it returns None once the overflow
        is counted on the disk; the first append with room again records the count in an OUTBOX_OVERFLOW
        event. An event of another process than the door's (`other_process`) takes boot and monotonic time
        from the log.
        """
        if event.door not in self._doors:
            raise OutboxError("the event names a door that is not configured on this unit")
        with self._lock:
            try:
                return self._append(event, risk, other_process)
            except sqlite3.Error as err:
                if not _disk_full(err):
                    raise OutboxError(
                        f"the audit log cannot be written ({why(err)}); the door stays locked"
                    ) from err
            self._overflow(event, risk, "disk_full")
            return None

    def next_boot(self) -> int:
        """Count a start of the unit and return its number; call once per boot."""
        with self._file.transaction():
            self._db.execute("UPDATE state SET boot = boot + 1")
            return int(self._db.execute("SELECT boot FROM state").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside

    def _append(self, event: AuditEvent, risk: Risk, other_process: bool) -> SequencedEvent | None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            sequence, chain_hash, acknowledged, overflow, boot = self._db.execute(
                "SELECT sequence, chain, acknowledged, overflow_count, boot FROM state"
            ).fetchone()
            if other_process:
                event = in_present_start(event, self._last_event(), boot)
            why = self._why_full(sequence, acknowledged)
            if why is None:
                if overflow:
                    chain_hash = self._insert(sequence + 1, chain_hash, self._overflow_event(event)).chain
                    sequence += 1
                    self._db.execute("UPDATE state SET overflow_count = 0")
                stored = self._insert(sequence + 1, chain_hash, event)
                self._db.execute("UPDATE state SET sequence = ?, chain = ?", (stored.sequence, stored.chain))
            self._db.execute("COMMIT")
        except BaseException:
            self._file.rollback()
            raise
        if why is not None:
            self._overflow(event, risk, why)
            return None
        return stored

    def _last_event(self) -> AuditEvent | None:
        """The newest event, None in an empty log."""
        row = self._db.execute("SELECT body FROM events ORDER BY sequence DESC LIMIT 1").fetchone()
        return Record.from_bytes(row[0]).event if row else None

    def _insert(self, sequence: int, previous: bytes, event: AuditEvent) -> SequencedEvent:
        record = Record(self.unit, sequence, event)
        body = record.to_bytes()
        chain_hash = chain.link(previous, chain.leaf_hash(body))
        self._db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?)", (sequence, event.time_ms, chain_hash, body)
        )
        return SequencedEvent(record, body, chain_hash)

    def _overflow(self, event: AuditEvent, risk: Risk, why: str) -> None:
        if risk == "high":
            raise OutboxFullError(
                f"the audit log is full ({why.replace('_', ' ')}): this door stays locked until its events "
                "are sent (`ostiary sync`) or put away (`ostiary audit rotate`), and the disk has room"
            )
        try:
            self._count_overflow(event, why)
        except sqlite3.Error:
            # The disk is full to the last block: give up the ballast for this.
            self._file.give_up_ballast()
            try:
                self._count_overflow(event, why)
            except sqlite3.Error as err:
                raise OutboxFullError("not even the overflow can be recorded: the door stays locked") from err

    def _count_overflow(self, event: AuditEvent, why: str) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "UPDATE state SET overflow_reason = ?, overflow_first_ms ="
                " CASE overflow_count WHEN 0 THEN ? ELSE overflow_first_ms END,"
                " overflow_count = overflow_count + 1",
                (why, event.time_ms),
            )
            self._db.execute("COMMIT")
        finally:
            self._file.rollback()

    def _overflow_event(self, following: AuditEvent) -> AuditEvent:
        count, reason, first_ms = self._db.execute(
            "SELECT overflow_count, overflow_reason, overflow_first_ms FROM state"
        ).fetchone()
        return AuditEvent(
            event_id=uuid.uuid5(following.event_id, "overflow"),
            time_ms=first_ms,
            boot=following.boot,
            monotonic_ms=following.monotonic_ms,
            door=following.door,
            kind="OUTBOX_OVERFLOW",
            reason=reason,
            keystore=following.keystore,
            count=count,
        )

    def _why_full(self, sequence: int, acknowledged: int) -> str | None:
        limits = self._limits
        if sequence - acknowledged >= limits.max_events:
            return "backlog_too_large"
        if self._file.used_bytes() >= limits.max_bytes:
            self._drop(acknowledged)  # what has a receipt makes room first
            if self._file.used_bytes() >= limits.max_bytes:
                return "backlog_too_large"
        if self._file.free_bytes() < 2 * limits.ballast_bytes:
            return "disk_full"
        return None

    def _check_counter(self, counter: Counter | None, never_used: int, advances: bool) -> None:
        if counter is None:
            return
        # The counter first: a door that starts meanwhile moves both, and looks neither old nor gone then.
        value = counter.value()
        (stored,) = self._db.execute("SELECT counter FROM state").fetchone()
        if not stored and value > never_used:
            raise OutboxRollbackError(
                "the audit log of this unit is gone, and another is in its place; put it back, or find out "
                "why and then `ostiary audit start-over`"
            )
        # The next value is written before the counter moves, so an honest disk is never behind it.
        if stored and stored < value:
            raise OutboxRollbackError(
                "the audit log is older than this unit's counter: an old copy was put back; put the newest "
                "back, or find out why and then `ostiary audit start-over`"
            )
        if advances:
            self._db.execute("UPDATE state SET counter = ?", (value + 1,))
            counter.advance()


def _disk_full(err: sqlite3.Error) -> bool:
    return getattr(err, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
