"""The unit's durable queue: an event is on the disk before `append` returns, and leaves only on a receipt.

One SQLite file in WAL mode with `synchronous=FULL`. The door process appends; the sync process, which has
the network, seals, sends and acknowledges. Both may be killed at any instruction.
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

from sync.events import AuditEvent, Counter, Record, SequencedEvent, Signer, UnitId, unit_id
from sync.outbox.file import LogFile, cannot_open
from sync.outbox.parts import (
    REPORTS_RESERVED,
    Batch,
    Fill,
    Held,
    OutboxError,
    OutboxFullError,
    OutboxLimits,
    OutboxRollbackError,
    OutboxStatus,
    Risk,
)
from sync.outbox.unit_events import in_present_start
from sync.proofs import chain
from sync.proofs.heads import Head, head_hash, open_head
from sync.proofs.merkle import Frontier


class Outbox:
    """One unit's log. Thread-safe; open it in as many processes as needed, append in one.

    `now_ms` is the wall clock (UTC), used for the heads' times only. `doors` are the configured
    doors: an event that names another is refused, so no free text enters that way. `counter` lies outside
    the disk (TPM NV); with it a disk put back from a backup, or a log that was removed, is refused at open.
    `never_used` is the counter's value on a unit that never had a log. Who appends beside the door looks at
    the counter and leaves it as it is (`advances` false).
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
    ) -> None:
        self.unit: UnitId = unit_id(unit)
        self._doors = frozenset(doors)
        self._now_ms = now_ms
        self._limits = limits or OutboxLimits()
        self._report = self._reserved = 0
        self._file = LogFile(path, self.unit, self._limits.ballast_bytes)
        self._db, self._lock = self._file.db, self._file.lock
        try:
            self._check_counter(counter, never_used, advances)
        except OutboxRollbackError:
            self.close()
            raise
        except (sqlite3.Error, OSError) as err:
            raise cannot_open(path, err) from err

    # -- the door's side

    def append(
        self, event: AuditEvent, *, risk: Risk = "high", other_process: bool = False
    ) -> SequencedEvent | None:
        """Put `event` on the disk and return it in its place, or raise: then nothing may move.

        When the log is full, `risk="high"` raises OutboxFullError. `risk="low"` returns None once the
        overflow itself is durable; the first append after there is room again records how many went
        uncounted, in an OUTBOX_OVERFLOW event. `other_process`: another process than the door's has written
        the event, so it takes its boot and monotonic time from the log.
        """
        if event.door not in self._doors:
            raise OutboxError("the event names a door that is not configured on this unit")
        with self._lock:
            try:
                return self._append(event, risk, other_process)
            except sqlite3.Error as err:
                if not _disk_full(err):
                    raise OutboxError(
                        f"the audit log cannot be written ({err}); the door stays locked"
                    ) from err
            self._overflow(event, risk, "disk_full")
            return None

    def next_boot(self) -> int:
        """Count a start of the unit and return its number; call once per boot."""
        with self._file.transaction():
            self._db.execute("UPDATE state SET boot = boot + 1")
            return int(self._db.execute("SELECT boot FROM state").fetchone()[0])

    # -- the sender's side

    def seal(self, signer: Signer) -> Head | None:
        """Sign heads over everything appended since the last one; None when there was nothing new.

        A signature may take a hardware TPM 100 ms: appends go on meanwhile, they belong to the next head.
        """
        head: Head | None = None
        while True:
            rows, state = self._unsealed()
            if not rows:
                return head
            frontier = Frontier.from_bytes(state[0]).extended(chain.leaf_hash(body) for _, _, body in rows)
            head = Head(
                unit=self.unit,
                size=frontier.size,
                chain=rows[-1][1],
                root=frontier.root(),
                time_ms=self._now_ms(),
                boot=state[1],
                counter=state[2],
                previous=state[3],
            )
            signed = head.signed(signer)
            with self._file.transaction():
                changed = self._db.execute(
                    "UPDATE state SET sealed = ?, frontier = ?, head_hash = ? WHERE sealed = ?",
                    (head.size, frontier.to_bytes(), head_hash(signed), rows[0][0] - 1),
                ).rowcount
                if changed == 1:
                    self._db.execute("INSERT INTO heads VALUES (?, ?)", (head.size, signed))

    def batch_after(self, sequence: int) -> Batch | None:
        """The next sealed events after `sequence`, up to the next head; None when there are none."""
        with self._lock, self._file.reading():
            head = self._db.execute(
                "SELECT size, cose FROM heads WHERE size > ? ORDER BY size LIMIT 1", (sequence,)
            ).fetchone()
            if head is None:
                return None
            rows = self._db.execute(
                "SELECT sequence, chain, body FROM events WHERE sequence BETWEEN ? AND ? ORDER BY sequence",
                (sequence, head[0]),
            ).fetchall()
        if rows and rows[0][0] == sequence:
            previous = rows.pop(0)[1]
        elif sequence == 0:
            previous = chain.genesis(self.unit)
        else:
            raise OutboxError("events are missing from the audit log; keep this disk and tell the operator")
        if [row[0] for row in rows] != list(range(sequence + 1, head[0] + 1)):
            raise OutboxError("events are missing from the audit log; keep this disk and tell the operator")
        return Batch(sequence + 1, previous, tuple(row[2] for row in rows), head[1], head[0])

    def acknowledge(self, size: int, chain_hash: bytes) -> bool:
        """The registry holds everything up to `size`; False when the receipt is not about our log.

        What is older than the newest `keep_events` of them leaves. The last one always stays, because the
        next batch starts from its chain hash.
        """
        with self._file.transaction():
            ours = self._db.execute("SELECT chain FROM events WHERE sequence = ?", (size,)).fetchone()
            if ours is None:
                # Already acknowledged further than this: harmless. Never appended: not our log.
                return size <= int(self._db.execute("SELECT acknowledged FROM state").fetchone()[0])
            if ours[0] != chain_hash:
                return False
            self._move_base(size)
            self._db.execute("UPDATE state SET acknowledged = max(acknowledged, ?)", (size,))
            self._drop(size - self._limits.keep_events)
        return True

    def kept_from(self) -> int:
        """Everything after this event can be sent again; what has no receipt is always among it."""
        with self._lock, self._file.reading():
            (acknowledged,) = self._db.execute("SELECT acknowledged FROM state").fetchone()
            (first,) = self._db.execute("SELECT min(sequence) FROM events").fetchone()
        return int(acknowledged) if first is None else 0 if first == 1 else min(first, acknowledged)

    def held(self, at_most: int = 50_000) -> Held | None:
        """Up to `at_most` sealed events that have not left yet, to the last head among them.

        None when there is nothing sealed. Raises OutboxError when events before them left under an earlier
        version, which did not keep what a proof of the rest starts from.
        """
        with self._lock, self._file.reading():
            (acknowledged,) = self._db.execute("SELECT acknowledged FROM state").fetchone()
            frontier, base_head = self._db.execute("SELECT frontier, head FROM base").fetchone()
            heads = self._db.execute(
                "SELECT size, cose FROM heads WHERE size > ? AND size <= ? ORDER BY size",
                (acknowledged, acknowledged + at_most),
            ).fetchall()
            if not heads:
                return None
            rows = self._db.execute(
                "SELECT sequence, chain, body FROM events WHERE sequence BETWEEN ? AND ? ORDER BY sequence",
                (acknowledged, heads[-1][0]),
            ).fetchall()
        previous = rows.pop(0)[1] if acknowledged and rows else chain.genesis(self.unit)
        if [row[0] for row in rows] != list(range(acknowledged + 1, heads[-1][0] + 1)):
            raise OutboxError("events are missing from the audit log; keep this disk and tell the operator")
        if acknowledged and (not base_head or Frontier.from_bytes(frontier).size != acknowledged):
            raise OutboxError(
                "the events before these left under an earlier version of this program; export the log from "
                "the registry"
            )
        return Held(
            self.unit,
            acknowledged + 1,
            previous,
            frontier,
            base_head,
            tuple(row[2] for row in rows),
            tuple(head[1] for head in heads),
            rows[-1][1],
        )

    def fill(self) -> Fill:
        """How full the log is, so that somebody can act long before it is."""
        with self._lock, self._file.reading():
            sequence, acknowledged = self._db.execute("SELECT sequence, acknowledged FROM state").fetchone()
            used = self._file.used_bytes()
        limits, free = self._limits, self._file.free_bytes()
        # A disk is half full in this sense at four times what is kept free, and full at that.
        room = 2 * limits.ballast_bytes
        disk = min(1.0, room / free) if free > 0 else 1.0
        return Fill((sequence - acknowledged) / limits.max_events, used / limits.max_bytes, disk)

    def status(self) -> OutboxStatus:
        with self._lock, self._file.reading():
            sequence, sealed, acknowledged, overflow = self._db.execute(
                "SELECT sequence, sealed, acknowledged, overflow_count FROM state"
            ).fetchone()
            oldest = self._oldest_ms(acknowledged)
        return OutboxStatus(sequence, sealed, acknowledged, sequence - acknowledged, oldest, overflow)

    def next_report(self) -> int:
        """A number for a health message: higher than every one before, also after a restart.

        Numbers are reserved many at a time, so few messages cost a write; and a disk that takes none does not
        keep the unit from saying so.
        """
        if self._report >= self._reserved:
            with contextlib.suppress(OutboxError), self._file.transaction():
                (known,) = self._db.execute("SELECT reserved FROM reports").fetchone()
                # A log that started over goes on above the old one's numbers.
                self._report = max(self._report, known, self._now_ms() // 1000)
                self._reserved = self._report + REPORTS_RESERVED
                self._db.execute("UPDATE reports SET reserved = ?", (self._reserved,))
        self._report += 1
        return self._report

    def last_head(self, signer: Signer) -> Head | None:
        """The newest head without a receipt, verified with our own key; None when everything has one."""
        with self._lock, self._file.reading():
            row = self._db.execute(
                "SELECT cose FROM heads WHERE size > (SELECT acknowledged FROM state)"
                " ORDER BY size DESC LIMIT 1"
            ).fetchone()
        return open_head(row[0], signer.public_key(), self.unit) if row else None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """The newest event; it stays here until a later one is acknowledged."""
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

    def _drop(self, last: int) -> None:
        """Everything up to `last` but that event itself, which what follows starts from."""
        if last <= 1:
            return  # so that a log that begins with event 1 has lost nothing, not even its first head
        self._db.execute("DELETE FROM events WHERE sequence < ?", (last,))
        self._db.execute("DELETE FROM heads WHERE size <= ?", (last,))

    def _move_base(self, size: int) -> None:
        """Before events up to `size` go: keep what a proof of the rest starts from."""
        (frontier,) = self._db.execute("SELECT frontier FROM base").fetchone()
        head = self._db.execute("SELECT cose FROM heads WHERE size = ?", (size,)).fetchone()
        before = Frontier.from_bytes(frontier)
        if size <= before.size:
            return
        leaving = self._db.execute(
            "SELECT body FROM events WHERE sequence > ? AND sequence <= ? ORDER BY sequence",
            (before.size, size),
        )
        after = before.extended(chain.leaf_hash(body) for (body,) in leaving)
        # Logs of earlier versions kept no base: then nothing is known here, and `held` says so.
        if after.size == size:
            signed = head[0] if head else b""
            self._db.execute("UPDATE base SET frontier = ?, head = ?", (after.to_bytes(), signed))

    def _oldest_ms(self, acknowledged: int) -> int | None:
        row = self._db.execute(
            "SELECT time_ms FROM events WHERE sequence > ? ORDER BY sequence LIMIT 1", (acknowledged,)
        ).fetchone()
        return int(row[0]) if row else None

    def _unsealed(self) -> tuple[list[tuple[int, bytes, bytes]], tuple[bytes, int, int, bytes]]:
        with self._lock, self._file.reading():
            frontier, boot, counter, previous, sealed = self._db.execute(
                "SELECT frontier, boot, counter, head_hash, sealed FROM state"
            ).fetchone()
            rows = self._db.execute(
                "SELECT sequence, chain, body FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
                (sealed, self._limits.batch_events),
            ).fetchall()
        return rows, (frontier, boot, counter, previous)

    def _check_counter(self, counter: Counter | None, never_used: int, advances: bool) -> None:
        if counter is None:
            return
        (stored,) = self._db.execute("SELECT counter FROM state").fetchone()
        value = counter.value()
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
