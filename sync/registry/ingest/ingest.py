"""Ingest of batches: verifies them without the database, then places and stores them in one transaction."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection

from sync.cose import peek1
from sync.errors import MalformedError, ProofError
from sync.event_form import EventFields
from sync.events import Signer, UnitId
from sync.proofs.bundle import Gap
from sync.proofs.heads import Head
from sync.proofs.retention import MAX_ACCOUNT, RetentionRecord
from sync.registry.clock import BelievedClock
from sync.registry.database.store import Store, UnitRow
from sync.registry.ingest.answers import Answers
from sync.registry.ingest.keys import KnownKeys
from sync.registry.verification import (
    REPLAY_GRACE_MS,
    Alarm,
    CheckedBatch,
    Position,
    check_events,
    check_head,
    place,
    read_batch,
    worker_clock,
)
from sync.transport.messages import BatchMessage, Receipt, ReceiptStatus
from sync.transport.topics import unit_of

EARLY_WAIT_S = 1.0
EARLY_EVERY_S = 0.03
ASKED_S = 3.0
"""How long a unit may take to send again what is missing here, before that counts as a gap."""
MAX_EARLY = 1000
WORKER_CLOCK_TOLERANCE_MS = 10_000

Given = TypeVar("Given")
Made = TypeVar("Made")
_Sent = tuple[UnitId, bytes, Given]
"""Whose message it is, the message, and what became of it so far."""


@dataclass(slots=True)
class IngestCounts:
    """Metrics of one worker."""

    messages: int = 0
    stored_events: int = 0
    stored_batches: int = 0
    duplicates: int = 0
    early: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Round:
    """What one transaction will write and say."""

    alarms: list[Alarm] = field(default_factory=list)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    receipts: dict[UnitId, tuple[Position, ReceiptStatus]] = field(default_factory=dict)
    events: list[tuple[EventFields, bytes, int]] = field(default_factory=list)
    heads: dict[tuple[UnitId, int], bytes] = field(default_factory=dict)
    gaps: list[tuple[UnitId, Gap]] = field(default_factory=list)
    moved: dict[UnitId, tuple[Position, int, int]] = field(default_factory=dict)
    stored_batches: int = 0
    duplicates: int = 0


class Ingest(Answers):
    """One worker's share. Raises StoreError from `process` when nothing could be committed: call again."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        now_ms: Callable[[], int],
        *,
        now_s: Callable[[], float] = time.monotonic,
        replay_grace_ms: int = REPLAY_GRACE_MS,
        clock: BelievedClock | None = None,
    ) -> None:
        """`clock` is where `now_ms` comes from: it hears what time units say it is."""
        super().__init__(store, KnownKeys(store, now_s), now_ms, clock)
        self._signer = signer
        self._now_s = now_s
        self._grace_ms = replay_grace_ms
        self._early: dict[UnitId, list[tuple[float, CheckedBatch]]] = {}
        self._early_at = float("-inf")
        self._asked: dict[UnitId, tuple[int, float]] = {}
        """Who was asked for events that it has receipts for: after which one, and when."""
        self.counts = IngestCounts()

    @property
    def waiting(self) -> bool:
        """Whether batches wait for one that they overtook: call `process` again soon, with nothing."""
        return bool(self._early)

    def drop_waiting(self) -> None:
        """Forget the batches that wait; their units send them again."""
        self._early.clear()

    def process(
        self, messages: Sequence[tuple[str, bytes]], refused: Counter[tuple[str, str]] | None = None
    ) -> list[tuple[UnitId, bytes]]:
        """Store what (topic, payload) messages carry; returns signed receipts, after the commit.

        `refused` is what was refused of other messages of the round: (reason, unit or '') -> how often. It is
        counted in the same transaction, so that a round that is tried again counts it once.
        """
        done = _Round()
        for (reason, unit), times in (refused or {}).items():
            done.refusals[reason, unit if self._keys.of(UnitId(unit)) else ""] += times
        checked = self._check(messages, done)
        for batch in checked:
            self._hear(batch.message.unit, batch.head.time_ms)
        now_s = self._now_s()
        by_unit: dict[UnitId, list[tuple[float, CheckedBatch]]] = defaultdict(list)
        for batch in checked:
            by_unit[batch.message.unit].append((now_s + EARLY_WAIT_S, batch))
        # What waits for another worker's commit is looked at again with news of its unit, or after a while.
        due = now_s >= self._early_at
        if due:
            self._early_at = now_s + EARLY_EVERY_S
        looked_at = {unit for unit in self._early if due or unit in by_unit}
        for unit in looked_at:
            by_unit[unit] += self._early[unit]
        kept = self._store_round(by_unit, done, now_s)
        # Only now is anything true: the commit has happened.
        for unit in looked_at:
            del self._early[unit]
        self._early.update(kept)
        self._count(messages, done)
        return [
            (unit, Receipt(unit, position.size, position.chain, status, self._now_ms()).signed(self._signer))
            for unit, (position, status) in done.receipts.items()
        ]

    def _check(self, messages: Sequence[tuple[str, bytes]], done: _Round) -> list[CheckedBatch]:
        """The batches that are sound in themselves; others are counted, and raise alarms.

        One step for all of the round, then the next: a signature drives all other code out of the
        processor's caches, and what follows it costs twice as much when it is done message by message.
        """
        sent: list[_Sent[bytes]] = []
        for topic, payload in messages:
            try:
                unit, _ = unit_of(topic)
            except MalformedError:
                done.refusals["malformed", ""] += 1
                continue
            if self._keys.of(unit) is not None:
                sent.append((unit, payload, payload))
                continue
            done.refusals["unknown unit", ""] += 1
            evidence = {"topic": topic, "bytes": len(payload)}
            done.alarms.append(Alarm("UNKNOWN_UNIT", "warning", unit, f"UNKNOWN {unit}", evidence))
        read = self._each(read_batch, sent, done)
        signed = self._each(self._signed, read, done)
        return [batch for _, _, batch in self._each(lambda _, both: check_events(*both), signed, done)]

    def _each(
        self, step: Callable[[UnitId, Given], Made], sent: Sequence[_Sent[Given]], done: _Round
    ) -> list[_Sent[Made]]:
        """What a step makes of each message; those that it refuses are counted, and raise alarms."""
        passed: list[_Sent[Made]] = []
        for unit, payload, given in sent:
            try:
                passed.append((unit, payload, step(unit, given)))
            except MalformedError as err:
                oversized = "oversized" in str(err)
                done.refusals["oversized" if oversized else "malformed", unit] += 1
            except ProofError as err:
                reason = "foreign" if str(err) == "foreign" else "bad signature"
                done.refusals[reason, unit] += 1
                evidence = {"why": str(err), "bytes": len(payload)}
                key = f"SIGNATURE {unit} {self._now_ms() // 86_400_000}"
                done.alarms.append(Alarm("BAD_SIGNATURE", "critical", unit, key, evidence))
        return passed

    def _signed(self, unit: UnitId, message: BatchMessage) -> tuple[BatchMessage, Head]:
        key = self._keys.of(unit)
        if key is None:
            raise ProofError("unknown unit")
        try:
            return message, check_head(message, key)
        except ProofError:
            # A readmitted unit may have another key than the one that we know.
            newer = self._keys.of(unit, doubted=True)
            if newer is None or newer == key:
                raise
            return message, check_head(message, newer)

    def _store_round(
        self, by_unit: dict[UnitId, list[tuple[float, CheckedBatch]]], done: _Round, now_s: float
    ) -> dict[UnitId, list[tuple[float, CheckedBatch]]]:
        kept: dict[UnitId, list[tuple[float, CheckedBatch]]] = defaultdict(list)
        if not by_unit and not done.alarms and not done.refusals:
            return kept
        with self._store.transaction() as db:
            rows = self._store.lock_units(db, sorted(by_unit)) if by_unit else {}
            # After the locks: whatever another worker stored of these units before us has an earlier time.
            now_ms = self._now_ms()
            off_ms = self._clock.off_ms if self._clock is not None else 0
            if abs(off_ms) > WORKER_CLOCK_TOLERANCE_MS:
                done.alarms.append(worker_clock({"off_ms": off_ms}, now_ms))
            for unit, batches in by_unit.items():
                row = rows.get(unit)
                if row is None or row.revoked:
                    done.refusals["revoked unit", unit] += len(batches)
                    if row is not None:
                        done.receipts[unit] = (row.position, "refused")
                    continue
                batches.sort(key=lambda item: item[1].message.first)
                for deadline, batch in batches:
                    stored = None
                    if batch.message.last <= row.position.size:
                        # It may have come with this very round and not be in the database yet.
                        head = done.heads.get((unit, batch.head.size))
                        head = head or self._store.head_at(db, unit, batch.head.size)
                        stored = Head.from_bytes(peek1(head)).chain if head else None
                        if head is None and self._store.not_held(db, unit, batch.head.size):
                            # Past its retention, or in a gap: there is nothing to hold it against.
                            stored = batch.head.chain
                    if self._place(db, row, batch, stored, done, now_ms) != "early":
                        row = _moved(row, done)
                    elif any(other.message.head == batch.message.head for _, other in kept[unit]):
                        continue  # the same batch sent again while the first copy waits
                    elif now_s < deadline and len(kept[unit]) < MAX_EARLY:
                        kept[unit].append((deadline, batch))
                    else:
                        done.receipts[unit] = (row.position, "resend")
                if not kept[unit]:
                    del kept[unit]
            self._store.add_events(db, done.events)
            self._store.add_heads(db, done.heads, now_ms)
            self._store.add_gaps(db, self._unexplained(db, done, now_ms), now_ms)
            self._store.save_positions(db, list(done.moved.values()))
            self._store.raise_alarms(db, done.alarms, now_ms)
            self._store.count_refusals(db, dict(done.refusals), now_ms)
        return kept

    def _unexplained(self, db: Connection, done: _Round, now_ms: int) -> list[tuple[UnitId, Gap]]:
        """The gaps, but those before a readmitted unit's first batch: these events are in its earlier log."""
        left = []
        for unit, gap in done.gaps:
            two = self._store.readmitted_by(db, unit) if gap.missing_from == 1 else None
            if two is None:
                left.append((unit, gap))
                continue
            where = f"in an earlier log ({two})"[:MAX_ACCOUNT]
            record = RetentionRecord(unit, 1, gap.first - 1, gap.chain, where, now_ms)
            self._store.begin_after(db, record, record.signed(self._signer))
            done.alarms = [alarm for alarm in done.alarms if alarm.dedupe != f"GAP {unit} {gap.first}"]
        return left

    def _place(
        self,
        db: Connection,
        row: UnitRow,
        batch: CheckedBatch,
        stored: bytes | None,
        done: _Round,
        now_ms: int,
    ) -> str:
        unit = batch.message.unit
        verdict = place(batch, row.position, stored, now_ms, self._grace_ms)
        if verdict.gap is not None and self._may_come(db, unit, row.position.size):
            done.receipts[unit] = (row.position, "resend")
            return "asked"
        done.alarms += verdict.alarms
        if verdict.outcome == "store":
            before = done.moved[unit][1] if unit in done.moved else row.position.size
            # Workers' clocks differ; a unit's arrival times must not go back, or its months would overlap
            # and retention could not end one at a signed head.
            received_ms = max(now_ms, row.seen_ms)
            if received_ms - now_ms > WORKER_CLOCK_TOLERANCE_MS:
                done.alarms.append(worker_clock({"behind_ms": received_ms - now_ms}, now_ms))
            done.moved[unit] = (verdict.position, before, received_ms)
            pairs = zip(batch.records, batch.message.bodies, strict=True)
            done.events += [(record, body, received_ms) for record, body in pairs]
            done.heads[unit, batch.head.size] = batch.message.head
            if verdict.gap is not None:
                done.gaps.append((unit, verdict.gap))
            done.stored_batches += 1
            done.receipts[unit] = (verdict.position, "stored")
        elif verdict.outcome == "duplicate":
            done.duplicates += 1
            if verdict.reason == "replayed":
                done.refusals["replayed", unit] += 1
            done.receipts.setdefault(unit, (row.position, "stored"))
        elif verdict.outcome == "refuse":
            done.refusals[verdict.reason, unit] += 1
            done.receipts[unit] = (row.position, "refused")
        return verdict.outcome

    def _may_come(self, db: Connection, unit: UnitId, size: int) -> bool:
        """Whether the unit may still send what is missing here, as after a restore from a backup."""
        if not size and self._store.readmitted_by(db, unit) is not None:
            return False  # what lies before is in its earlier log
        now_s = self._now_s()
        before = self._asked.get(unit)
        if before is None or before[0] != size:
            self._asked[unit] = (size, now_s)
            return True
        return now_s - before[1] < ASKED_S

    def _count(self, messages: Sequence[tuple[str, bytes]], done: _Round) -> None:
        self.counts.messages += len(messages)
        self.counts.stored_events += len(done.events)
        self.counts.stored_batches += done.stored_batches
        self.counts.duplicates += done.duplicates
        self.counts.early = sum(map(len, self._early.values()))
        for (reason, _), times in done.refusals.items():
            self.counts.refused[reason] += times


def _moved(row: UnitRow, done: _Round) -> UnitRow:
    position = done.moved.get(row.position.unit)
    return UnitRow(position[0], row.public_key, row.revoked, row.seen_ms) if position else row
