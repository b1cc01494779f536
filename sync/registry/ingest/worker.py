"""One ingest worker: takes batches from a shared subscription, stores them, then answers with receipts.

Any number may run, on any number of machines. A worker keeps nothing that matters: kill it, and the units
send again what has no receipt.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sync.errors import MalformedError, ProofError, SyncError
from sync.events import UnitId
from sync.keys import FileSigner
from sync.registry.campaigns.handler import Campaigns
from sync.registry.commands.issued import due
from sync.registry.database.store import Store
from sync.registry.fleet.issuer import DocumentIssuer, FleetHandler
from sync.registry.ingest.ingest import Ingest
from sync.service.metrics import Figures, MetricsFile
from sync.service.service_manager import ServiceManager
from sync.transport.backoff import Backoff
from sync.transport.mqtt import Link, Message, Reactor
from sync.transport.topics import (
    COMMANDS,
    DESIRED,
    EVENTS,
    HEALTH,
    KEPT,
    PARTS,
    PRINTS,
    RECEIPTS,
    RESULTS,
    STATEMENTS,
    WANTS,
    everyones,
    topic,
    unit_of,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How much goes into one transaction, and how long it may be waited for."""

    messages_per_round: int = 200
    gather_s: float = 0.005
    idle_s: float = 0.05
    commands_every_s: float = 1.0
    documents_every_s: float = 1.0
    warnings_every_s: float = 2.0


def subscriptions(share: str, *, prints: bool = False) -> list[str]:
    """Batches and answers are shared out between workers; health is retained, which a share does not get.

    `prints`: this worker has the tenant's key, so it takes those too.
    """
    channels = (EVENTS, RESULTS, WANTS, STATEMENTS, *((PRINTS,) if prints else ()))
    return [*(everyones(channel, share) for channel in channels), everyones(HEALTH)]


def share_name(signer: FileSigner) -> str:
    """The group that workers share messages in: known to the holders of the receipts key.

    Brokers let anybody join a group, and give it messages that are then refused for want of rights: lost. A
    name that nobody can guess keeps strangers out at every broker.
    """
    return f"registry-{signer.secret('ostiary mqtt share v1').hex()[:32]}"


class Worker:
    """Drives one link. `run` returns when `stop` is set."""

    def __init__(
        self,
        reactor: Reactor,
        link: Link,
        ingest: Ingest,
        store: Store,
        now_ms: Callable[[], int],
        settings: WorkerSettings | None = None,
        metrics: MetricsFile | None = None,
        manager: ServiceManager | None = None,
        issuer: DocumentIssuer | None = None,
        campaigns: Campaigns | None = None,
    ) -> None:
        """`issuer` makes the fleet's documents; a worker without one hands out parts all the same.
        `campaigns` takes prints, and warns units."""
        self._reactor = reactor
        self._link = link
        self._ingest = ingest
        self._store = store
        self._now_ms = now_ms
        self._settings = settings or WorkerSettings()
        self._backoff = Backoff(first_s=0.1, cap_s=5.0)
        self._held: deque[Message] = deque()
        self._metrics = metrics
        self._manager = manager or ServiceManager({})
        self._commands_at = 0.0
        self._commands_sent = 0
        self._fleet = FleetHandler(store, now_ms)
        self._issuer = issuer
        self._documents_at = 0.0
        self._campaigns = campaigns
        self._warnings_at = 0.0

    def run(self, stop: threading.Event) -> None:
        settings = self._settings
        self._manager.ready("taking events")
        while not stop.is_set():
            self._chores()
            self._manager.status("taking events" if self._link.connected else "no broker answers")
            self._manager.progress()
            waiting = self._ingest.waiting
            self._reactor.poll(settings.gather_s if waiting else settings.idle_s)
            # What is held counts too: with the broker's window full of it, nothing else will ever come.
            if not self._link.inbox and not self._held and not waiting:
                continue
            # A little more patience makes one commit of many messages.
            until = time.monotonic() + settings.gather_s
            while len(self._link.inbox) < settings.messages_per_round and time.monotonic() < until:
                self._reactor.poll(until - time.monotonic())
            try:
                self.round()
            except SyncError as err:
                log.warning("%s", err)
                self._pause(stop)
            except Exception:  # supervisor boundary: what is held stays held, and is tried again
                log.exception("a round failed; it is tried again")
                self._pause(stop)

    def figures(self) -> Figures:
        """Metrics of this worker since its start."""
        counts = self._ingest.counts
        plain = {
            "ostiary_registry_messages_total": counts.messages,
            "ostiary_registry_events_stored_total": counts.stored_events,
            "ostiary_registry_batches_stored_total": counts.stored_batches,
            "ostiary_registry_duplicates_total": counts.duplicates,
            "ostiary_registry_commands_sent_total": self._commands_sent,
            "ostiary_registry_early_batches": counts.early,
            "ostiary_registry_inbox_messages": len(self._link.inbox) + len(self._held),
            "ostiary_registry_connected": int(self._link.connected),
        }
        figures: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
            (name, ()): value for name, value in plain.items()
        }
        for reason, times in counts.refused.items():
            figures["ostiary_registry_refused_total", (("reason", reason),)] = times
        return figures

    def _chores(self) -> None:
        """Commands that are due go out, figures are written. Neither may stop the worker."""
        now_s = time.monotonic()
        try:
            if self._link.connected and now_s >= self._commands_at:
                self._commands_at = now_s + self._settings.commands_every_s
                for unit, message in due(self._store, self._now_ms()):
                    self._link.publish(topic(unit, COMMANDS), message)
                    self._commands_sent += 1
            if self._issuer is not None and self._link.connected and now_s >= self._documents_at:
                self._documents_at = now_s + self._settings.documents_every_s
                sent = self._issuer.round()
                for unit, message in sent:
                    self._link.publish(topic(unit, DESIRED), message, retain=True)
                self._issuer.published(sent)
            if self._campaigns is not None and self._link.connected and now_s >= self._warnings_at:
                self._warnings_at = now_s + self._settings.warnings_every_s
                self._campaigns.warn()
            if self._metrics is not None and self._metrics.due(now_s):
                self._metrics.write(self.figures(), now_s)
        except SyncError as err:
            log.warning("%s", err)

    def round(self) -> None:
        """One transaction. Raises StoreError with the messages kept for the next try."""
        while self._link.inbox and len(self._held) < self._settings.messages_per_round:
            self._held.append(self._link.inbox.popleft())
        self._settle(list(self._held))
        self._backoff.reset()

    def _settle(self, messages: Sequence[Message]) -> None:
        """Handle the oldest that are held, and acknowledge them: the broker keeps a place for each.

        Of a group that cannot be handled the halves are tried, down to the one message that is at fault:
        that one is refused and counted. Raises SyncError with everything kept that was not handled.
        """
        try:
            self._handle(messages)
        except SyncError:
            raise
        except Exception:  # supervisor boundary: a mistake of ours must not cost the others their place
            if len(messages) > 1:
                half = len(messages) // 2
                self._settle(messages[:half])
                self._settle(messages[half:])
                return
            # It may also be one that waits for its predecessor; units send again what has no receipt.
            self._ingest.drop_waiting()
            if not messages:
                raise
            log.exception("a message on %s could not be handled", messages[0].topic[:200])
            self._ingest.process([], Counter({("unhandled", _sender(messages[0])): 1}))
        for message in messages:
            self._link.done(message)
            self._held.popleft()

    def _handle(self, messages: Sequence[Message]) -> None:
        """One transaction for all of them, and the receipts after it."""
        batches: list[tuple[str, bytes]] = []
        health: list[tuple[UnitId, bytes]] = []
        results: list[tuple[UnitId, bytes]] = []
        found: list[tuple[UnitId, bytes]] = []
        refused: Counter[tuple[str, str]] = Counter()
        for message in messages:
            try:
                unit, channel = unit_of(message.topic)
            except MalformedError:
                refused["malformed topic", ""] += 1
                continue
            if channel == EVENTS:
                batches.append((message.topic, message.payload))
            elif channel == HEALTH:
                health.append((unit, message.payload))
            elif channel == RESULTS:
                results.append((unit, message.payload))
            elif channel in (WANTS, STATEMENTS):
                self._of_the_fleet(unit, channel, message.payload, refused)
            elif channel == PRINTS:
                found.append((unit, message.payload))
        if results:
            refused += self._ingest.results(results)
        if health:
            refused += self._ingest.health(health)
        self._receipts(self._ingest.process(batches, refused))
        if found and self._campaigns is not None:  # after the events that they are of
            foreign: Counter[tuple[str, str]] = Counter()
            for unit, kept in self._campaigns.take(found, foreign):
                self._link.publish(topic(unit, KEPT), kept)
            if foreign:
                self._receipts(self._ingest.process((), foreign))

    def _receipts(self, receipts: Sequence[tuple[UnitId, bytes]]) -> None:
        for unit, receipt in receipts:
            self._link.publish(topic(unit, RECEIPTS), receipt)

    def _of_the_fleet(
        self, unit: UnitId, channel: str, payload: bytes, refused: Counter[tuple[str, str]]
    ) -> None:
        try:
            if channel == STATEMENTS:
                if self._fleet.heard(unit, payload):
                    self._documents_at = 0.0  # somebody waits for what follows from it
            elif (piece := self._fleet.piece(payload)) is not None:
                self._link.publish(topic(unit, PARTS), piece)
        except MalformedError:
            refused[f"malformed {channel}", unit] += 1
        except ProofError:
            refused[f"foreign {channel}", unit] += 1

    def _pause(self, stop: threading.Event) -> None:
        """Wait, but keep the connection alive."""
        until = time.monotonic() + self._backoff.next_s()
        while not stop.is_set() and time.monotonic() < until:
            try:
                self._reactor.poll(0.1)
            except SyncError as err:
                log.warning("%s", err)


def _sender(message: Message) -> str:
    """Whose topic a message came on; nobody's when it is none of ours."""
    try:
        return unit_of(message.topic)[0]
    except MalformedError:
        return ""
