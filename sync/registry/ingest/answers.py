"""What units say beside their events: answers to commands, and how they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sync.errors import MalformedError, ProofError
from sync.events import UnitId
from sync.orders.commands import open_result
from sync.registry import commands
from sync.registry.clock import BelievedClock
from sync.registry.database.store import Store
from sync.registry.ingest.keys import KnownKeys
from sync.transport.health import WILL, open_health


class Answers:
    """Verifies and keeps them; `clock` hears what time units say it is."""

    def __init__(
        self, store: Store, keys: KnownKeys, now_ms: Callable[[], int], clock: BelievedClock | None
    ) -> None:
        self._store = store
        self._keys = keys
        self._now_ms = now_ms
        self._clock = clock

    def results(self, messages: Sequence[tuple[UnitId, bytes]]) -> Counter[tuple[str, str]]:
        """Keep what units answered to commands; returns what is refused, for `process` to count.

        Raises StoreError: call again, an answer counts once.
        """
        refused: Counter[tuple[str, str]] = Counter()
        for unit, payload in messages:
            key = self._keys.of(unit)
            try:
                if key is None:
                    raise ProofError("unknown unit")
                result = open_result(payload, key, unit)
                fresh = commands.answered(self._store, result, payload, self._now_ms())
                if not fresh and not commands.known(self._store, result):
                    raise ProofError("answers no command")
            except MalformedError:
                refused["malformed result", unit if key else ""] += 1
            except ProofError:
                refused["foreign result", unit if key else ""] += 1
        return refused

    def health(self, messages: Sequence[tuple[UnitId, bytes]]) -> Counter[tuple[str, str]]:
        """Keep what units say of themselves; returns what is refused, for `process` to count.

        Raises StoreError: call again, a number counts once.
        """
        refused: Counter[tuple[str, str]] = Counter()
        reports: dict[UnitId, dict[str, Any]] = {}
        gone: set[UnitId] = set()
        for unit, payload in messages:
            key = self._keys.of(unit)
            try:
                if key is None:
                    raise ProofError("unknown unit")
                if payload == WILL:
                    gone.add(unit)
                    continue
                told = open_health(payload, key, unit)
                self._hear(unit, told["time_ms"])
                if told["counter"] > reports.get(unit, {}).get("counter", 0):
                    reports[unit] = told
                    gone.discard(unit)
            except MalformedError:
                refused["malformed health", unit if key else ""] += 1
            except ProofError:
                refused["foreign health", unit if key else ""] += 1
        now_ms = self._now_ms()
        if reports:
            texts = {unit: json.dumps(told, sort_keys=True) for unit, told in reports.items()}
            self._store.save_health(texts, now_ms)
        if gone:
            self._store.mark_offline(gone, now_ms)
        return refused

    def _hear(self, unit: UnitId, told_ms: int) -> None:
        if self._clock is not None:
            self._clock.heard(unit, told_ms)
