"""The outbox's nouns: limits, status, batches, errors, and the schema of its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sync.errors import SyncError

Risk = Literal["low", "high"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL,
  chain BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS heads (size INTEGER PRIMARY KEY, cose BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), unit TEXT NOT NULL,
  sequence INTEGER NOT NULL, chain BLOB NOT NULL, sealed INTEGER NOT NULL, frontier BLOB NOT NULL,
  head_hash BLOB NOT NULL, acknowledged INTEGER NOT NULL, boot INTEGER NOT NULL, counter INTEGER NOT NULL,
  overflow_count INTEGER NOT NULL, overflow_reason TEXT NOT NULL, overflow_first_ms INTEGER NOT NULL) STRICT;
"""


class OutboxError(SyncError):
    """The audit log cannot be used, so no door may open on it."""


class OutboxFullError(OutboxError):
    """There is no room for another event: a high-risk door stays locked."""


class OutboxRollbackError(OutboxError):
    """The log on the disk is older than the unit's counter: an old copy was put back."""


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """When the log counts as full.

    `ballast_bytes` lie on the disk to be given up for the overflow record when somebody else filled it;
    with less than twice as much free, events are no longer taken.
    """

    max_events: int = 1_000_000
    max_bytes: int = 1 << 30
    max_age_ms: int = 90 * 24 * 3600 * 1000
    batch_events: int = 500
    ballast_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """Facts for the health message and for `ostiary doctor`."""

    sequence: int
    sealed: int
    acknowledged: int
    pending: int
    oldest_ms: int | None
    overflow_count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events and the signed head that covers exactly the last of them."""

    first: int
    previous_chain: bytes
    bodies: tuple[bytes, ...]
    head: bytes
    size: int
    """The sequence number of the last event."""
