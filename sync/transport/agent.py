"""The unit's side of MQTT: sends batches in order, lets events go on signed receipts, reports its health.

`step` does one round and never blocks, so one thread drives one unit at a door or a thousand in a simulation.
Killed at any instruction it loses nothing: all that matters is in the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from sync.errors import SyncError
from sync.events import Signer, UnitId
from sync.outbox import Batch, OutboxStatus
from sync.proofs.heads import Head
from sync.service.metrics import Figures
from sync.transport.backoff import Backoff
from sync.transport.health import Facts, check_facts, signed_health, write_health
from sync.transport.messages import BatchMessage, Receipt, open_receipt
from sync.transport.mqtt import Link, Message
from sync.transport.topics import COMMANDS, EVENTS, HEALTH, RECEIPTS, RESULTS, topic, unit_of

MORE_IS_GONE_S = 1.0
"""Between tries to send from the oldest event here, to a registry that asks for older ones."""


class Log(Protocol):
    """The part of an outbox that the agent uses; a simulated unit keeps its log in memory."""

    unit: UnitId

    def seal(self, signer: Signer) -> Head | None: ...

    def batch_after(self, sequence: int) -> Batch | None: ...

    def acknowledge(self, size: int, chain_hash: bytes) -> bool: ...

    def kept_from(self) -> int:
        """Everything after this event can be sent again, receipt or not."""
        ...

    def status(self) -> OutboxStatus: ...

    def next_report(self) -> int:
        """A number for a health message: higher than every one before, also after a restart."""
        ...


class Handler(Protocol):
    """Obeys commands (`sync.orders.command_handler`). The agent publishes what either returns."""

    def take(self, message: bytes) -> bytes: ...

    def last_answer(self) -> bytes | None: ...


class Mail(Protocol):
    """Takes the fleet's documents and parts, gives the unit's messages (`device/uplink/letters/mail.py`)."""

    def take(self, channel: str, payload: bytes) -> None: ...

    def due(self, now_s: float, connections: int) -> list[tuple[str, bytes]]:
        """(channel, payload) to publish now; `connections` tells a new connection from the one before."""
        ...


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`window` batches may be under way; after `receipt_timeout_s` without a receipt all are sent again."""

    window: int = 4
    receipt_timeout_s: float = 5.0
    receipt_timeout_cap_s: float = 60.0
    refused_wait_s: float = 60.0
    health_every_s: float = 30.0
    seal_every_s: float = 0.02


@dataclass(slots=True)
class AgentCounts:
    """Metrics. They only go up while the process lives."""

    batches_sent: int = 0
    events_sent: int = 0
    receipts: int = 0
    resends: int = 0
    refused: int = 0
    messages_refused: int = 0
    commands: int = 0


@dataclass(slots=True)
class Agent:
    """One unit's sender. `now_s` is monotonic seconds, `time_ms` the wall clock (for health only)."""

    log: Log
    signer: Signer
    link: Link
    registry_key: ec.EllipticCurvePublicKey
    now_s: Callable[[], float]
    time_ms: Callable[[], int]
    settings: AgentSettings = field(default_factory=AgentSettings)
    facts: Callable[[], Facts] = dict
    """Versions and the like as they are now, for the health message."""
    certificate_ms: Callable[[], int | None] = lambda: None
    """When the certificate that it shows to the broker ends, Unix time; None when it has none."""
    handler: Handler | None = None
    mail: Mail | None = None
    counts: AgentCounts = field(default_factory=AgentCounts)
    _sent: int = -1
    """Last event handed to the broker; -1 to start over from the last receipt."""
    _back: int | None = None
    """Where to send from, below the last receipt, for a registry that was put back and asked for it."""
    _asked_ms: int = 0
    """The time of the receipt that asked, so that a replayed one asks for nothing."""
    _in_flight: list[int] = field(default_factory=list)
    _sent_at: dict[int, float] = field(default_factory=dict)
    _usual_wait_s: float = 0.0
    _silent_since: float = 0.0
    _patience: Backoff = field(init=False)
    _patience_s: float = 0.0
    _seal_at: float = 0.0
    _health_at: float = 0.0
    _wait_until: float = 0.0
    _connections: int = 0

    def __post_init__(self) -> None:
        check_facts(self.facts())
        self._patience = Backoff(self.settings.receipt_timeout_s, self.settings.receipt_timeout_cap_s)
        self._patience_s = self.settings.receipt_timeout_s

    def step(self) -> None:
        """Read what came, send what may go. Raises OutboxError when the log is damaged."""
        now = self.now_s()
        while self.link.inbox:
            self._take(self.link.inbox.popleft(), now)
        if not self.link.connected:
            return
        if self.link.connections != self._connections:
            self._connections = self.link.connections
            self._start_over(now)
            self._health_at = 0.0
            self._answer_again()
        if self._in_flight and now - self._silent_since > self._patience_s + 4 * self._usual_wait_s:
            self.counts.resends += 1
            self._patience_s = self.settings.receipt_timeout_s + self._patience.next_s()
            # Nobody knows which copy a late receipt answers: wait for a fresh one to learn from.
            self._sent_at.clear()
            self._start_over(now)
        if now >= self._wait_until:
            self._send(now)
        if self.mail is not None:
            for channel, payload in self.mail.due(now, self.link.connections):
                self.link.publish(topic(self.log.unit, channel), payload)
        if now >= self._health_at:
            self._health_at = now + self.settings.health_every_s
            self.link.publish(topic(self.log.unit, HEALTH), self.health("online"), retain=True)

    def report_now(self) -> None:
        """Send a health message in the next step."""
        self._health_at = 0.0

    def resend_after(self, sequence: int) -> bool:
        """Send again from the event after `sequence` on; False when the unit does not hold that any more."""
        status = self.log.status()
        if not status.acknowledged <= sequence <= status.sealed:
            return False
        self._start_over(self.now_s())
        self._sent = sequence
        self._wait_until = 0.0
        return True

    def health(self, state: str) -> bytes:
        """The signed health message: numbers and versions, nothing about people."""
        status = self.log.status()
        numbers = {
            "counter": self.log.next_report(),
            "time_ms": self.time_ms(),
            "sequence": status.sequence,
            "pending": status.pending,
            "oldest_ms": status.oldest_ms,
            "overflow": status.overflow_count,
            "resends": self.counts.resends,
            "refused": self.counts.refused,
            "messages_refused": self.counts.messages_refused,
            "commands": self.counts.commands,
            "connect_failures": self.link.failures,
            "every_s": round(self.settings.health_every_s),
            "certificate_ms": self.certificate_ms(),
        }
        return signed_health(self.log.unit, write_health(state, numbers, self.facts()), self.signer)

    def figures(self) -> Figures:
        """Metrics: counts since the start, and the state of the log."""
        counted = {f"ostiary_agent_{name}_total": value for name, value in asdict(self.counts).items()}
        status, now_ms = self.log.status(), self.time_ms()
        stands: dict[str, float] = {
            "ostiary_outbox_pending_events": status.pending,
            "ostiary_outbox_overflow_events": status.overflow_count,
            "ostiary_outbox_last_sequence": status.sequence,
            "ostiary_outbox_oldest_age_seconds": max(0, now_ms - (status.oldest_ms or now_ms)) / 1000,
            "ostiary_agent_connected": int(self.link.connected),
        }
        return {(name, ()): value for name, value in {**counted, **stands}.items()}

    def _send(self, now: float) -> None:
        if len(self._in_flight) >= self.settings.window:
            return
        # Sealing only when there is room makes large batches of a backlog, and saves the TPM's time.
        if now >= self._seal_at:
            self._seal_at = now + self.settings.seal_every_s
            self.log.seal(self.signer)
        acknowledged: int | None = None
        while len(self._in_flight) < self.settings.window:
            if acknowledged is None:
                acknowledged = self.log.status().acknowledged
                if self._back is not None:
                    acknowledged = min(acknowledged, self._back)
            if self._sent < 0:
                self._sent = acknowledged
            batch = self.log.batch_after(self._sent)
            if batch is None:
                return
            message = BatchMessage(
                self.log.unit, batch.first, batch.previous_chain, acknowledged + 1, batch.bodies, batch.head
            )
            self.link.publish(topic(self.log.unit, EVENTS), message.to_bytes())
            if not self._in_flight:
                self._silent_since = now
            self._in_flight.append(batch.size)
            self._sent_at.setdefault(batch.size, now)
            self._sent = batch.size
            self.counts.batches_sent += 1
            self.counts.events_sent += len(batch.bodies)

    def _take(self, message: Message, now: float) -> None:
        self.link.done(message)
        try:
            unit, channel = unit_of(message.topic)
            if unit != self.log.unit:
                raise SyncError("a message for another unit")
            if channel == RECEIPTS:
                self._receipt(message.payload, now)
            elif channel == COMMANDS:
                if self.handler is None:
                    raise SyncError("this unit takes no commands")
                answer = self.handler.take(message.payload)
                self.counts.commands += 1
                self.link.publish(topic(self.log.unit, RESULTS), answer)
            elif self.mail is not None:
                self.mail.take(channel, message.payload)
        except SyncError:
            self.counts.messages_refused += 1

    def _answer_again(self) -> None:
        """The last answer may have been lost with the last connection."""
        if self.handler is None:
            return
        try:
            answer = self.handler.last_answer()
        except SyncError:
            self.counts.messages_refused += 1
            return
        if answer is not None:
            self.link.publish(topic(self.log.unit, RESULTS), answer)

    def _receipt(self, payload: bytes, now: float) -> None:
        receipt = open_receipt(payload, self.registry_key, self.log.unit)
        self.counts.receipts += 1
        if receipt.status == "refused":
            self.counts.refused += 1
            self._wait_until = now + self.settings.refused_wait_s
            self._start_over(now)
            return
        if receipt.size and not self.log.acknowledge(receipt.size, receipt.chain):
            # Signed by the registry, but not about our log: keep everything and let a person look.
            self.counts.refused += 1
            return
        self._silent_since = now
        self._learn(receipt.size, now)
        self._patience.reset()
        self._patience_s = self.settings.receipt_timeout_s
        if receipt.status == "resend":
            self.counts.resends += 1
            self._go_back(receipt, now)
            self._start_over(now)
        else:
            self._in_flight = [size for size in self._in_flight if size > receipt.size]
            if self._back is not None:
                self._back = max(self._back, receipt.size)
                if self._back >= self.log.status().acknowledged:
                    self._back = None
            if self._sent >= 0:
                self._sent = max(self._sent, receipt.size)

    def _go_back(self, receipt: Receipt, now: float) -> None:
        """Send again what is still here to a registry that holds less than it gave receipts for."""
        if receipt.time_ms <= self._asked_ms or receipt.size >= self.log.status().acknowledged:
            return
        self._asked_ms = receipt.time_ms
        kept_from = self.log.kept_from()
        self._back = max(receipt.size, kept_from)
        if receipt.size < kept_from:  # it will ask again, until it believes that more does not come
            self._wait_until = now + MORE_IS_GONE_S

    def _learn(self, size: int, now: float) -> None:
        """Learn how long receipts take, so as not to drown a slow registry in resent batches."""
        sent = self._sent_at.get(size)
        if sent is not None:
            self._usual_wait_s += 0.25 * (min(now - sent, 60.0) - self._usual_wait_s)
        self._sent_at = {later: at for later, at in self._sent_at.items() if later > size}

    def _start_over(self, now: float) -> None:
        self._sent = -1
        self._in_flight.clear()
        self._silent_since = now
