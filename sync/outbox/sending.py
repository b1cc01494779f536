"""The sender's side of the audit log: signs heads, makes batches, obeys receipts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from sync.events import MAX_SEQUENCE, Signer, UnitId
from sync.outbox.file import LogFile
from sync.outbox.parts import REPORTS_RESERVED, Batch, Fill, Held, OutboxError, OutboxLimits, OutboxStatus
from sync.proofs import chain
from sync.proofs.heads import Head, head_hash
from sync.proofs.merkle import Frontier


class Sending:
    """Seals, sends and acknowledges what `Outbox` has appended to the same file. Thread-safe."""

    def __init__(self, file: LogFile, unit: UnitId, limits: OutboxLimits, now_ms: Callable[[], int]) -> None:
        self.unit = unit
        self._file, self._db, self._lock = file, file.db, file.lock
        self._limits, self._now_ms = limits, now_ms
        self._report = self._reserved = 0

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
        """Note that the registry holds everything up to `size`; False when the receipt is not about our log.

        Of those events the newest `keep_events` stay. The last always stays: the next batch starts from its
        chain hash.
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

    def held(self, at_most: int = MAX_SEQUENCE) -> Held | None:
        """Up to `at_most` sealed events that have not left yet, to the last head among them; None for none.

        Raises OutboxError when events before them left under an earlier version, which did not keep what a
        proof of the rest starts from.
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
        """How full the log is."""
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

        One write reserves many numbers, and a disk that takes no write keeps no message back.
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

    def _drop(self, last: int) -> None:
        """Delete the events before `last` and the heads up to it: the next batch starts from that event."""
        if last <= 1:
            return  # so that a log that begins with event 1 has lost nothing, not even its first head
        self._db.execute("DELETE FROM events WHERE sequence < ?", (last,))
        self._db.execute("DELETE FROM heads WHERE size <= ?", (last,))

    def _move_base(self, size: int) -> None:
        """Keep what a proof of the rest starts from, before the events up to `size` go."""
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
