"""Checks a batch before the registry stores it. Pure: position and bytes in, a verdict out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec

from sync.errors import MalformedError, ProofError
from sync.event_form import EventFields, UnitId, read_event
from sync.proofs import chain
from sync.proofs.bundle import Gap
from sync.proofs.heads import NO_HEAD, Head, head_hash, open_head
from sync.proofs.merkle import Frontier
from sync.transport.messages import BatchMessage

CLOCK_TOLERANCE_MS = 5 * 60_000
FUTURE_TOLERANCE_MS = 10 * 60_000
REPLAY_GRACE_MS = 10 * 60_000

Outcome = Literal["store", "duplicate", "early", "refuse"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a unit's log is known."""

    unit: UnitId
    size: int
    chain: bytes
    frontier: bytes | None
    head_hash: bytes = NO_HEAD
    counter: int = 0
    confirmed: int = 0
    confirmed_ms: int = 0
    boot: int = 0
    event_ms: int = 0
    monotonic_ms: int = 0

    @classmethod
    def start(cls, unit: UnitId) -> Position:
        return cls(unit, 0, chain.genesis(unit), Frontier().to_bytes())


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something a person must look at. Open alarms with the same `dedupe` are one that counts up."""

    kind: str
    severity: Literal["info", "warning", "critical"]
    unit: str | None
    dedupe: str
    evidence: dict[str, Any]
    door: str | None = None
    times: int = 1
    lasting: bool = False
    """A state that is reported for as long as it lasts: acknowledged, it is not raised again."""
    site: str | None = None
    """Set where the alarm is about a whole site and no unit."""


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """A batch that holds together in itself: signed by its unit, chained, every event well formed."""

    message: BatchMessage
    head: Head
    records: tuple[EventFields, ...]
    leaves: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on a batch: outcome, new position, alarms."""

    outcome: Outcome
    position: Position
    alarms: Sequence[Alarm] = ()
    reason: str = ""
    gap: Gap | None = None


def read_batch(unit: UnitId, payload: bytes) -> BatchMessage:
    """A batch that came on `unit`'s topic. Raises MalformedError, or ProofError for another unit's."""
    message = BatchMessage.from_bytes(payload)
    if message.unit != unit:
        raise ProofError("foreign")
    return message


def check_head(message: BatchMessage, key: ec.EllipticCurvePublicKey) -> Head:
    """The batch's head, verified. Raises ProofError or MalformedError."""
    # 1. It is this unit's and covers exactly the last event.
    head = open_head(message.head, key, message.unit)
    if head.size != message.last:
        raise ProofError("the signed head does not end where the batch ends")
    return head


def check_events(message: BatchMessage, head: Head) -> CheckedBatch:
    """The batch as its verified head vouches for it. Raises ProofError or MalformedError."""
    # 2. The events hash to what the head signs.
    leaves = tuple(map(chain.leaf_hash, message.bodies))
    link = message.previous_chain
    for leaf in leaves:
        link = chain.link(link, leaf)
    if link != head.chain:
        raise ProofError("the events are not what the unit signed")
    # 3. Every event is well formed and in its place.
    records = tuple(map(read_event, message.bodies))
    for sequence, record in enumerate(records, start=message.first):
        if record.unit != message.unit or record.sequence != sequence:
            raise MalformedError("an event is not in its place")
    return CheckedBatch(message, head, records, leaves)


def place(
    batch: CheckedBatch,
    position: Position,
    stored_chain: bytes | None,
    now_ms: int,
    grace_ms: int = REPLAY_GRACE_MS,
) -> Verdict:
    """Where a checked batch belongs in what is known of its unit.

    `stored_chain` is the chain hash we hold at the batch's last event, when that lies in the past.
    """
    message, unit = batch.message, position.unit
    # 1. Entirely in the past: the same again is harmless, anything else is a second history.
    if message.last <= position.size:
        if stored_chain != batch.head.chain:
            return _second_history("REWRITE", batch, position)
        late = message.last <= position.confirmed and now_ms - position.confirmed_ms > grace_ms
        alarms = [_replay(batch)] if late else []
        return Verdict("duplicate", position, alarms, "replayed" if late else "duplicate")
    alarms = []
    gap: Gap | None = None
    if message.first == position.size + 1:
        # 2. Right behind what we know: it must continue exactly that.
        if message.previous_chain != position.chain or batch.head.previous != position.head_hash:
            return _second_history("FORK", batch, position)
        frontier = _grown(position, batch)
        if frontier is not None and frontier.root() != batch.head.root:
            return _second_history("FORK", batch, position)
    elif message.first <= position.size:
        # 3. Heads never move, and we stop at heads: an overlap is another history.
        return _second_history("FORK", batch, position)
    elif message.oldest <= position.size + 1:
        # 4. It overtook a batch that the unit still holds.
        return Verdict("early", position, (), "early")
    else:
        # 5. The unit has a receipt for events that we do not have: they are gone.
        missing = {"missing_from": position.size + 1, "missing_to": message.first - 1}
        alarms.append(Alarm("GAP", "critical", unit, f"GAP {unit} {message.first}", missing))
        gap = Gap(position.size + 1, message.first, message.previous_chain)
        frontier = None
    if batch.head.counter < position.counter:
        evidence = {"counter": batch.head.counter, "known": position.counter, "size": batch.head.size}
        alarms.append(
            Alarm("COUNTER_ROLLBACK", "critical", unit, f"COUNTER {unit} {batch.head.size}", evidence)
        )
    alarms += _clock(batch, position, now_ms)
    moved_on, last = message.oldest - 1 > position.confirmed, batch.records[-1]
    after = Position(
        unit=unit,
        size=batch.head.size,
        chain=batch.head.chain,
        frontier=frontier.to_bytes() if frontier else None,
        head_hash=head_hash(message.head),
        counter=batch.head.counter,
        confirmed=message.oldest - 1 if moved_on else position.confirmed,
        confirmed_ms=now_ms if moved_on else position.confirmed_ms,
        boot=last.boot,
        event_ms=last.time_ms,
        monotonic_ms=last.monotonic_ms,
    )
    return Verdict("store", after, alarms, gap=gap)


def _grown(position: Position, batch: CheckedBatch) -> Frontier | None:
    if position.frontier is None:
        return None
    return Frontier.from_bytes(position.frontier).extended(batch.leaves)


def _clock(batch: CheckedBatch, position: Position, now_ms: int) -> list[Alarm]:
    """Follow the unit's two clocks through the batch: they must run together within one boot."""
    unit, day = position.unit, now_ms // 86_400_000
    alarms: list[Alarm] = []
    jumps: list[tuple[int, int]] = []
    boot, event_ms, monotonic_ms = position.boot, position.event_ms, position.monotonic_ms
    known = position.size > 0
    for event in batch.records:
        if known and event.boot == boot:
            jump = (event.time_ms - event_ms) - (event.monotonic_ms - monotonic_ms)
            if abs(jump) > CLOCK_TOLERANCE_MS:
                jumps.append((event.sequence, jump))
        elif known and event.boot < boot:
            evidence = {"sequence": event.sequence, "boot": event.boot, "known": boot}
            alarms.append(Alarm("BOOT_ROLLBACK", "critical", unit, f"BOOT {unit} {day}", evidence))
        known, boot, event_ms, monotonic_ms = True, event.boot, event.time_ms, event.monotonic_ms
    if jumps:
        # One alarm a unit and day, however often: a clock that jitters must not bury the others.
        sequence, jump = max(jumps, key=lambda found: abs(found[1]))
        evidence = {"sequence": sequence, "jump_ms": jump}
        alarms.append(Alarm("CLOCK_JUMP", "warning", unit, f"CLOCK {unit} {day}", evidence, times=len(jumps)))
    if event_ms - now_ms > FUTURE_TOLERANCE_MS:
        evidence = {"sequence": batch.head.size, "ahead_ms": event_ms - now_ms}
        alarms.append(Alarm("CLOCK_AHEAD", "warning", unit, f"AHEAD {unit} {day}", evidence))
    return alarms


def worker_clock(evidence: dict[str, Any], now_ms: int) -> Alarm:
    """The registry's own clocks are wrong or differ; one alarm an hour for all workers."""
    return Alarm("WORKER_CLOCK", "warning", None, f"WORKER_CLOCK {now_ms // 3_600_000}", evidence)


def _second_history(kind: str, batch: CheckedBatch, position: Position) -> Verdict:
    """The unit signed two different histories. Its signature on both is the evidence."""
    evidence = {
        "first": batch.message.first,
        "last": batch.message.last,
        "known_size": position.size,
        "known_chain": position.chain.hex(),
        "other_head": batch.message.head.hex(),
    }
    alarm = Alarm(kind, "critical", position.unit, f"{kind} {position.unit} {position.size}", evidence)
    return Verdict("refuse", position, (alarm,), kind.lower())


def _replay(batch: CheckedBatch) -> Alarm:
    unit = batch.message.unit
    evidence = {"first": batch.message.first, "last": batch.message.last}
    return Alarm("REPLAY", "warning", unit, f"REPLAY {unit} {batch.message.last}", evidence)
