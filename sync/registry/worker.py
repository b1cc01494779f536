"""One ingest worker: takes batches from a shared subscription, stores them, then answers with receipts.

Any number may run, on any number of machines. A worker keeps nothing that matters: kill it, and the units
send again what has no receipt.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sync.backoff import Backoff
from sync.errors import MalformedError, SyncError
from sync.events import UnitId
from sync.mqtt import Link, Message, Reactor
from sync.registry.ingest import Ingest
from sync.registry.store import Store, StoreError
from sync.topics import EVENTS, HEALTH, RECEIPTS, everyones, topic, unit_of

log = logging.getLogger(__name__)

SHARE = "registry"
MAX_HEALTH_BYTES = 4096


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How much goes into one transaction, and how long it may be waited for."""

    messages_per_round: int = 200
    gather_s: float = 0.005
    idle_s: float = 0.05


def subscriptions() -> list[str]:
    """Batches are shared out between workers; health is retained, which shared subscriptions do not get."""
    return [everyones(EVENTS, SHARE), everyones(HEALTH)]


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
    ) -> None:
        self._reactor = reactor
        self._link = link
        self._ingest = ingest
        self._store = store
        self._now_ms = now_ms
        self._settings = settings or WorkerSettings()
        self._backoff = Backoff(first_s=0.1, cap_s=5.0)
        self._held: deque[Message] = deque()

    def run(self, stop: threading.Event) -> None:
        settings = self._settings
        while not stop.is_set():
            waiting = self._ingest.waiting
            self._reactor.poll(settings.gather_s if waiting else settings.idle_s)
            if not self._link.inbox and not waiting:
                continue
            # A little more patience makes one commit of many messages.
            until = time.monotonic() + settings.gather_s
            while len(self._link.inbox) < settings.messages_per_round and time.monotonic() < until:
                self._reactor.poll(until - time.monotonic())
            try:
                self.round()
            except StoreError as err:
                log.warning("%s", err)
                self._pause(stop)
            except Exception:  # supervisor boundary: one poisoned round must not stop the worker
                log.exception("a round of messages failed; the units will send them again")
                self._held.clear()
                self._pause(stop)

    def round(self) -> None:
        """One transaction. Raises StoreError with the messages kept for the next try."""
        while self._link.inbox and len(self._held) < self._settings.messages_per_round:
            self._held.append(self._link.inbox.popleft())
        batches = []
        for message in self._held:
            try:
                unit, channel = unit_of(message.topic)
            except MalformedError:
                continue
            if channel == EVENTS:
                batches.append((message.topic, message.payload))
            elif channel == HEALTH:
                self._health(unit, message.payload)
        receipts = self._ingest.process(batches)
        for unit, receipt in receipts:
            self._link.publish(topic(unit, RECEIPTS), receipt)
        for message in self._held:
            self._link.done(message)
        self._held.clear()
        self._backoff.reset()

    def _health(self, unit: UnitId, payload: bytes) -> None:
        try:
            report = json.loads(payload) if len(payload) <= MAX_HEALTH_BYTES else None
        except (ValueError, RecursionError):
            report = None
        if isinstance(report, dict):
            self._store.save_health(unit, json.dumps(report, sort_keys=True), self._now_ms())
        else:
            self._ingest.counts.refused["malformed health"] += 1

    def _pause(self, stop: threading.Event) -> None:
        """Wait, but keep the connection alive."""
        until = time.monotonic() + self._backoff.next_s()
        while not stop.is_set() and time.monotonic() < until:
            try:
                self._reactor.poll(0.1)
            except SyncError as err:
                log.warning("%s", err)
