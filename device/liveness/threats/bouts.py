"""Prints of failed attempts for one person at one door within minutes, which say more together.

In memory alone, under keyed hashes instead of ids, and no longer than until the next attempt after a bout:
of somebody who is forgotten meanwhile nothing is left that names them. The registry joins the same attempts
by their events (`sync/registry/campaigns/bouts.py`).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque

from device.liveness.threats.known import KnownAttacks, Match
from device.liveness.threats.print_box import FAILED, GRANTED
from sync.threats.prints import VALUES, mean

BOUT_S = 600.0
"""From its first attempt to its last."""
MOST_TOGETHER = 5
MOST_BOUTS = 64


class Bouts:
    """What was tried last, by door and person claimed; nothing where nobody was claimed. Thread-safe."""

    def __init__(self, threats: KnownAttacks) -> None:
        self._threats = threats
        self._lock = threading.Lock()
        self._key = os.urandom(32)
        self._open: dict[bytes, tuple[float, deque[bytes]]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def match(self, print_values: bytes, door: str, person: str, now_s: float) -> Match | None:
        """What this attempt resembles of what the unit was warned of, by itself or with those before it."""
        with self._lock:
            self._forget(now_s)
            _, before = self._open.get(self._name(door, person), (0.0, ()))
            prints = [*before, print_values]
        if len(prints) == 1 or len(print_values) != VALUES:
            return self._threats.match(print_values)
        return self._threats.match(print_values, mean(prints))

    def note(self, outcome: str, print_values: bytes, door: str, person: str, now_s: float) -> None:
        """What became of it: a failed attempt counts at the next one, and who was let in begins anew."""
        with self._lock:
            self._forget(now_s)
            name = self._name(door, person)
            if outcome in GRANTED:
                self._open.pop(name, None)
            elif outcome in FAILED and person and len(print_values) == VALUES:
                if len(self._open) >= MOST_BOUTS and name not in self._open:
                    del self._open[next(iter(self._open))]
                bout = self._open.setdefault(name, (now_s, deque(maxlen=MOST_TOGETHER - 1)))
                bout[1].append(print_values)

    def _name(self, door: str, person: str) -> bytes:
        return hashlib.blake2b(f"{door}\0{person}".encode(), key=self._key, digest_size=16).digest()

    def _forget(self, now_s: float) -> None:
        for key in [key for key, (began_s, _) in self._open.items() if now_s - began_s > BOUT_S]:
            del self._open[key]
