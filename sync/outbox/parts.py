"""The outbox's nouns: limits, status, batches, errors, and the schema of its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sync.errors import SyncError
from sync.events import UnitId

Risk = Literal["low", "high"]

REPORTS_RESERVED = 1000
"""Numbers of health messages that one write reserves."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL,
  chain BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS heads (size INTEGER PRIMARY KEY, cose BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), unit TEXT NOT NULL,
  sequence INTEGER NOT NULL, chain BLOB NOT NULL, sealed INTEGER NOT NULL, frontier BLOB NOT NULL,
  head_hash BLOB NOT NULL, acknowledged INTEGER NOT NULL, boot INTEGER NOT NULL, counter INTEGER NOT NULL,
  overflow_count INTEGER NOT NULL, overflow_reason TEXT NOT NULL, overflow_first_ms INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS reports (id INTEGER PRIMARY KEY CHECK (id = 1), reserved INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS base (id INTEGER PRIMARY KEY CHECK (id = 1), frontier BLOB NOT NULL,
  head BLOB NOT NULL) STRICT;
"""
"""`base` is the state at the last event that left: what an export of the rest starts from."""


class OutboxError(SyncError):
    """The audit log cannot be used, so no door may open on it."""


class OutboxFullError(OutboxError):
    """There is no room for another event: a high-risk door stays locked."""


class OutboxRollbackError(OutboxError):
    """The log on the disk is gone, or older than the unit's counter, as after an old copy was put back."""


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """When the log counts as full: by number and size of its events, never by their age, since a clock may be
    wrong and a unit that nobody reads from may stand for years.

    `ballast_bytes` are kept on the disk and freed for the overflow record when another program has filled it;
    with less than twice as much free, the log takes no event.
    """

    max_events: int = 1_000_000
    max_bytes: int = 1 << 30
    batch_events: int = 500
    ballast_bytes: int = 8 << 20
    keep_events: int = 5000
    """So many stay after their receipt, for a registry that was put back. They do not count as filling it."""


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """Numbers for the health message and for `ostiary doctor`."""

    sequence: int
    sealed: int
    acknowledged: int
    pending: int
    oldest_ms: int | None
    overflow_count: int


@dataclass(frozen=True, slots=True)
class Fill:
    """How full the log is, from 0 (empty) to 1 (it takes no more), by each of its limits."""

    events: float
    size: float
    disk: float

    @property
    def share(self) -> float:
        return max(self.events, self.size, self.disk)

    @property
    def reason(self) -> str:
        """In a word of the vocabulary, what runs out first."""
        return "disk_full" if self.disk == self.share else "backlog_too_large"


@dataclass(frozen=True, slots=True)
class Held:
    """Sealed events that are still here, every head over them, and the state just before the first.

    `base_head` covers the event before the first; empty when `first` is 1.
    """

    unit: UnitId
    first: int
    chain: bytes
    frontier: bytes
    base_head: bytes
    bodies: tuple[bytes, ...]
    heads: tuple[bytes, ...]
    last_chain: bytes

    @property
    def last(self) -> int:
        return self.first + len(self.bodies) - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events and the signed head that covers exactly the last of them."""

    first: int
    previous_chain: bytes
    bodies: tuple[bytes, ...]
    head: bytes
    size: int
    """The sequence number of the last event."""
