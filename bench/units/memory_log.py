"""A simulated unit's log: a real chain and real signatures, in memory; its batches wait for receipts."""

from __future__ import annotations

import random
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from sync.dashboard.demo.demo_log import DemoLog
from sync.events import AuditEvent, EventTimings, Signer, UnitId, pseudonym
from sync.outbox import Batch, OutboxStatus
from sync.proofs.heads import Head

_KINDS = (
    *[("GRANTED", "all_factors_passed")] * 17,
    ("DENIED_VOICE", "other_voice"),
    ("DENIED_PHRASE", "wrong_words"),
    ("DENIED_SPOOF", "not_live"),
)


@dataclass(slots=True)
class MemoryLog:
    """`sync.transport.agent.Log` in memory. Sealed batches wait in order until their receipt."""

    unit: UnitId
    now_s: Callable[[], float]
    time_ms: Callable[[], int]
    sealed: int = 0
    acknowledged: int = 0
    reports: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """From append to receipt, one per event."""
    _batches: deque[tuple[Batch, bytes]] = field(default_factory=deque)
    _born: deque[float] = field(default_factory=deque)
    _log: DemoLog = field(init=False)

    def __post_init__(self) -> None:
        self._log = DemoLog(self.unit, self.time_ms)

    @property
    def sequence(self) -> int:
        return self._log.sequence

    def append(self, event: AuditEvent) -> None:
        self._log.append(event)
        self._born.append(self.now_s())

    def seal(self, signer: Signer) -> Head | None:
        newest: Head | None = None
        for batch, newest in self._log.seal(signer):
            self._batches.append((batch, newest.chain))
            self.sealed = newest.size
        return newest

    def batch_after(self, sequence: int) -> Batch | None:
        if sequence >= self.sealed:
            return None
        return next((batch for batch, _ in self._batches if batch.first == sequence + 1), None)

    def kept_from(self) -> int:
        return self.acknowledged

    def acknowledge(self, size: int, chain_hash: bytes) -> bool:
        if size <= self.acknowledged:
            return True
        known = {batch.size: link for batch, link in self._batches}
        if known.get(size) != chain_hash:
            return False
        while self._batches and self._batches[0][0].size <= size:
            self._batches.popleft()
        now = self.now_s()
        for _ in range(size - self.acknowledged):
            self.latencies_s.append(now - self._born.popleft())
        self.acknowledged = size
        return True

    def next_report(self) -> int:
        self.reports += 1
        return self.reports

    def status(self) -> OutboxStatus:
        pending = self.sequence - self.acknowledged
        return OutboxStatus(self.sequence, self.sealed, self.acknowledged, pending, None, 0)


def simulated_event(dice: random.Random, tenant_key: bytes, time_ms: int, monotonic_ms: int) -> AuditEvent:
    """One attempt as a busy door would see it."""
    kind, reason = dice.choice(_KINDS)
    granted = kind == "GRANTED"
    return AuditEvent(
        event_id=uuid.UUID(int=dice.getrandbits(128), version=4),
        time_ms=time_ms,
        boot=1,
        monotonic_ms=monotonic_ms,
        door="door-1",
        kind=kind,
        reason=reason,
        attempt=uuid.UUID(int=dice.getrandbits(128), version=4),
        person=pseudonym(tenant_key, f"simulated-{dice.randrange(200)}"),
        phrase_llr=round(dice.gauss(6.0 if granted else 1.0, 2.0), 3),
        speaker_llr=round(dice.gauss(8.0 if granted else 0.0, 2.0), 3),
        spoof_llr=round(dice.gauss(3.0 if granted else -1.0, 1.0), 3),
        models=("simulated-1", "simulated-2"),
        policy="simulated-1",
        timings=EventTimings(280, 110, 20, 25, dice.randint(120, 400)),
    )
