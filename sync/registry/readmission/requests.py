"""A new log for a unit whose own cannot go on, by two people, on record.

After a fork, a rewrite or a new disk the registry refuses a unit for good: it cannot know which history is
true. One person asks for the unit to be let in again, another agrees. The old log is closed and kept under
`site/unit~1`, with every signature in it; the next batch begins a new one.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from sync.errors import SyncError
from sync.events import UnitId
from sync.registry.database.membership import vacate
from sync.registry.database.schema import access, events, gaps, heads, requests, retained, retentions, units
from sync.registry.database.store import Store
from sync.registry.database.transactions import insert
from sync.registry.verification import Position

READMIT, REPLACE = "readmit", "replace"


def ask(
    store: Store,
    unit: UnitId,
    *,
    account: str,
    why: str,
    now_ms: int,
    key: bytes | None = None,
    action: str = READMIT,
) -> int:
    """Ask for `unit` to begin a new log, under the public key `key` (DER) where that changed.

    With REPLACE its TPM and certificates are given up too, and the name is free for another TPM. Returns the
    request's number; nothing changes until another account approves it. Raises SyncError.
    """
    asked = {"why": why, "key": key.hex() if key else None}
    with store.transaction() as db:
        if db.execute(sa.select(units.c.unit).where(units.c.unit == unit)).one_or_none() is None:
            raise SyncError(f"{unit} is not registered; a new unit needs no readmission")
        row = {"action": action, "unit": unit, "account": account, "requested_ms": now_ms}
        number = insert(db, requests, **row, arguments=json.dumps(asked))
        _on_record(db, account, f"asked to {action} {unit}: {why}", now_ms)
    return number


def approve(store: Store, number: int, *, account: str, now_ms: int) -> tuple[UnitId, str]:
    """Close the unit's log and let it begin a new one; returns (unit, the closed log's name).

    Raises SyncError for a request that is not open, or was made by the same account.
    """
    with store.transaction() as db:
        # The request's row is the lock: of two who approve it at once, one closes the log.
        waiting = sa.select(requests).where(requests.c.id == number, requests.c.approved_ms.is_(None))
        row = db.execute(waiting.with_for_update()).one_or_none()
        if row is None:
            raise SyncError(f"there is no open request {number}; `ostiary registry requests` lists them")
        if row.account == account:
            raise SyncError("the person who asked cannot approve it: a second person looks")
        unit, asked = UnitId(row.unit), json.loads(row.arguments)
        # The unit's row is the lock: no batch comes in between.
        old = db.execute(sa.select(units).where(units.c.unit == unit).with_for_update()).one()
        before = sa.select(sa.func.count()).select_from(units).where(units.c.unit.like(f"{unit}~%"))
        closed = f"{unit}~{db.execute(before).scalar_one() + 1}"
        db.execute(sa.insert(units).values({**old._mapping, "unit": closed, "revoked_ms": now_ms}))
        for table in (events, heads, gaps, retained, retentions):
            db.execute(sa.update(table).where(table.c.unit == unit).values(unit=closed))
        start = Position.start(unit)
        fresh: dict[str, Any] = dict.fromkeys(
            ("size", "counter", "confirmed", "confirmed_ms", "boot", "event_ms", "monotonic_ms"), 0
        )
        fresh |= {"chain": start.chain, "frontier": start.frontier, "head_hash": start.head_hash}
        fresh |= {"health_counter": 0, "backlog_ms": None, "revoked_ms": None, "seen_ms": None}
        if asked["key"]:
            fresh["public_key"] = bytes.fromhex(asked["key"])
        if row.action == REPLACE:
            vacate(db, unit, now_ms)
            fresh["revoked_ms"] = now_ms  # until another TPM has proved itself
        db.execute(sa.update(units).where(units.c.unit == unit).values(fresh))
        agreed = {"approved_by": account, "approved_ms": now_ms}
        db.execute(sa.update(requests).where(requests.c.id == number).values(agreed))
        _on_record(db, account, f"approved request {number} to {row.action} {unit}", now_ms)
    return unit, closed


def listed(store: Store, limit: int = 200) -> list[dict[str, Any]]:
    """Requests, newest first."""
    with store.reading() as db:
        found = db.execute(sa.select(requests).order_by(requests.c.id.desc()).limit(limit))
        return [{**row._mapping, "arguments": json.loads(row.arguments)} for row in found]


def _on_record(db: sa.Connection, account: str, what: str, now_ms: int) -> None:
    row = {"account": account, "action": READMIT, "rows": 1, "time_ms": now_ms, "subject": what}
    db.execute(sa.insert(access).values(row))
