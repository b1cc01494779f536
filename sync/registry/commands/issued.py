"""Commands to units: counted, signed, kept, and sent one at a time until answered or expired."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa

from sync.errors import SyncError
from sync.events import Signer, UnitId
from sync.orders.commands import Arguments, Command, Result
from sync.registry.database.schema import commands, units
from sync.registry.database.store import Store

RESEND_AFTER_MS = 10_000
MOST_NAMES = 500
"""Units in one query: databases limit its parameters."""


class How(TypedDict):
    """Who orders it, when, and for how long it is in force."""

    account: str
    now_ms: int
    life_ms: int


def issue(
    store: Store,
    signer: Signer,
    unit: UnitId,
    action: str,
    arguments: Arguments,
    **how: Unpack[How],
) -> Command:
    """Sign a command and keep it; a worker sends it. The counter goes on from every one before it."""
    made = issue_all(store, signer, [unit], action, arguments, **how)
    if not made:
        raise SyncError(f"{unit} is not registered, or it was revoked; it obeys no command of this registry")
    return made[0]


def issue_all(
    store: Store,
    signer: Signer,
    names: Sequence[UnitId],
    action: str,
    arguments: Arguments,
    **how: Unpack[How],
) -> list[Command]:
    """Issue one command to several units in one transaction; skips units that are not registered."""
    with store.transaction() as db:
        return issue_in(db, signer, names, action, arguments, **how)


def issue_in(
    db: sa.Connection,
    signer: Signer,
    names: Sequence[UnitId],
    action: str,
    arguments: Arguments,
    **how: Unpack[How],
) -> list[Command]:
    """As `issue_all`, in the caller's transaction: nothing is sent before that is committed."""
    told = {name: v.hex() if isinstance(v, bytes) else v for name, v in arguments.items()}
    now_ms, expires_ms = how["now_ms"], how["now_ms"] + how["life_ms"]
    made = []
    # The units' rows are the lock: two desks never get one counter.
    obeying = sa.select(units.c.unit).where(units.c.revoked_ms.is_(None)).order_by(units.c.unit)
    for some in (names[at : at + MOST_NAMES] for at in range(0, len(names), MOST_NAMES)):
        there = list(db.execute(obeying.where(units.c.unit.in_(some)).with_for_update()).scalars())
        highest = sa.select(commands.c.unit, sa.func.max(commands.c.counter).label("counter"))
        by_unit = highest.where(commands.c.unit.in_(there)).group_by(commands.c.unit)
        last = {row.unit: row.counter for row in db.execute(by_unit)}
        for unit in there:
            counter = last.get(unit, 0) + 1
            made.append(Command(UnitId(unit), counter, now_ms, expires_ms, action, arguments))
    rows = [
        {
            "unit": command.unit,
            "counter": command.counter,
            "action": action,
            "arguments": json.dumps(told, sort_keys=True),
            "account": how["account"],
            "issued_ms": now_ms,
            "expires_ms": command.expires_ms,
            "message": command.signed(signer),
        }
        for command in made
    ]
    if rows:
        db.execute(sa.insert(commands), rows)
    return made


def due(store: Store, now_ms: int, limit: int = 500) -> list[tuple[UnitId, bytes]]:
    """Each unit's oldest unanswered command in force, unless it was sent just now; marks them as sent.

    What was never sent comes first, then what was issued first: repeats to units that are away hold up
    nobody. One at a time keeps their order: a unit obeys rising counters only, so a later one that arrived
    first would undo the earlier.
    """
    open_ones = sa.and_(commands.c.status.is_(None), commands.c.expires_ms > now_ms)
    first = (
        sa.select(commands.c.unit, sa.func.min(commands.c.counter).label("counter"))
        .where(open_ones)
        .group_by(commands.c.unit)
        .subquery()
    )
    waited = sa.or_(commands.c.sent_ms.is_(None), commands.c.sent_ms <= now_ms - RESEND_AFTER_MS)
    found = (
        sa.select(commands.c.unit, commands.c.counter, commands.c.message)
        .join(first, sa.and_(commands.c.unit == first.c.unit, commands.c.counter == first.c.counter))
        .where(waited)
        .order_by(commands.c.sent_ms.is_not(None), commands.c.issued_ms, commands.c.unit)
        .limit(limit)
    )
    with store.reading() as db:
        rows = db.execute(found).all()
    sent = []
    if rows:
        with store.transaction() as db:
            for row in rows:
                mine = sa.and_(commands.c.unit == row.unit, commands.c.counter == row.counter, waited)
                # Guarded: of several workers one sends it.
                if db.execute(sa.update(commands).where(mine).values(sent_ms=now_ms)).rowcount == 1:
                    sent.append((UnitId(row.unit), bytes(row.message)))
    return sent


def answered(store: Store, result: Result, answer: bytes, now_ms: int) -> bool:
    """Keep a unit's answer, the first one only; False when it answers nothing that is open."""
    mine = (commands.c.unit == result.unit, commands.c.counter == result.counter, commands.c.status.is_(None))
    told = {"status": result.status, "why": result.why, "answered_ms": now_ms, "answer": answer}
    with store.transaction() as db:
        return bool(db.execute(sa.update(commands).where(*mine).values(**told)).rowcount == 1)


def known(store: Store, result: Result) -> bool:
    """Whether this unit was ever given that command."""
    mine = (commands.c.unit == result.unit, commands.c.counter == result.counter)
    with store.reading() as db:
        return db.execute(sa.select(commands.c.counter).where(*mine)).one_or_none() is not None


def listed(store: Store, now_ms: int, unit: UnitId | None = None, limit: int = 200) -> list[dict[str, Any]]:
    """Commands, newest first, each with its state: `waiting`, `expired`, or what the unit answered."""
    hidden = ("message", "answer")
    shown = [column for column in commands.columns if column.name not in hidden]
    query = sa.select(*shown).order_by(commands.c.issued_ms.desc(), commands.c.counter.desc()).limit(limit)
    if unit is not None:
        query = query.where(commands.c.unit == unit)
    with store.reading() as db:
        rows = [dict(row._mapping) for row in db.execute(query)]
    for row in rows:
        row["arguments"] = json.loads(row["arguments"])
        row["state"] = row["status"] or ("waiting" if row["expires_ms"] > now_ms else "expired")
    return rows
