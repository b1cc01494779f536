"""Emergency access: every opening that went around the voice check, and whether somebody looked.

A door released in a fire, forced, or opened under duress; a door that the desk held open by hand; a
lock-down, which takes access away from everybody. HIPAA 164.312(a)(2)(ii) asks for such access,
164.312(b) that it is examined: by somebody else than the person who asked for it, by the end of the next day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer, at_whole_sites, within
from sync.dashboard.errors import RefusedError
from sync.dashboard.events.events_query import SHOWN
from sync.dashboard.schema import exceptions, holds, runs
from sync.dashboard.site import places
from sync.dashboard.site.places import place_of
from sync.dashboard.wording import words
from sync.registry.database.schema import events
from sync.registry.database.store import Store

DAYS = 30
DAY_MS = 86_400_000
MOST = 5000
KINDS = ("EMERGENCY_RELEASE", "DOOR_FORCED_OPEN", "DURESS")
HELD, LOCKED = "Held open by hand", "Lock-down"
State = Literal["waits", "overdue", "reviewed"]


@dataclass(frozen=True, slots=True)
class Exceptional:
    """One emergency access."""

    key: str
    time_ms: int
    what: str
    where: str
    url: str
    asked_by: str
    """The account that asked for it; '' where it happened at the door."""
    why: str
    due_ms: int
    reviewed_by: str
    reviewed_ms: int | None
    finding: str
    state: State


def read(db: Connection, viewer: Viewer, zone: dt.tzinfo, now_ms: int) -> list[Exceptional]:
    """Those of the last 30 days: what waits first, its oldest first."""
    since_ms = now_ms - DAYS * DAY_MS
    done = {row.key: row for row in db.execute(sa.select(exceptions))}
    found = [
        _one(*row, done, zone, now_ms)
        for told in (_at_doors, _held, _locked)
        for row in told(db, viewer, since_ms)
    ]
    newest = sorted(found, key=lambda one: -one.time_ms)
    looked_at = [one for one in newest if one.state == "reviewed"]
    return [one for one in reversed(newest) if one.state != "reviewed"] + looked_at


def open_count(db: Connection, viewer: Viewer, zone: dt.tzinfo, now_ms: int) -> tuple[int, int]:
    """(waiting, overdue)."""
    found = [one.state for one in read(db, viewer, zone, now_ms)]
    return len(found) - found.count("reviewed"), found.count("overdue")


def review(
    store: Store, viewer: Viewer, zone: dt.tzinfo, keys: Sequence[str], finding: str, now_ms: int
) -> None:
    """Sign these off with a finding. Raises RefusedError."""
    with store.transaction() as db:
        known = {one.key: one for one in read(db, viewer, zone, now_ms)}
        for key in keys:
            one = known.get(key)
            if one is None:
                raise RefusedError("There is no such emergency access.", 404)
            if one.asked_by == viewer.account:
                raise RefusedError("Somebody else looks at what you asked for.", 403)
            values = {"key": key, "account": viewer.account, "time_ms": now_ms, "finding": finding}
            made = store.upsert(exceptions).values(**values).on_conflict_do_nothing()
            if db.execute(made.returning(exceptions.c.key)).first() is None:
                raise RefusedError("This was reviewed already.", 409)
            about = f"{key}, {one.where}: {finding}"
            journal.append(db, viewer.account, "emergency access reviewed", about, now_ms)


_Row = tuple[str, int, str, str, str, str, str]


def _at_doors(db: Connection, viewer: Viewer, since_ms: int) -> list[_Row]:
    known = places.load(db)
    query = sa.select(*SHOWN).where(
        events.c.kind.in_(KINDS), events.c.time_ms >= since_ms,
        within(viewer.scopes, events.c.unit, events.c.door),
    )  # fmt: skip
    rows = db.execute(query.order_by(events.c.time_ms.desc()).limit(MOST))
    return [
        (
            f"event:{row.unit}/{row.sequence}", row.time_ms, words.kind(row.kind).short,
            place_of(known, row.unit, row.door).label, f"/events/{row.unit}/{row.sequence}", "",
            words.reason(row.reason),
        )
        for row in rows
    ]  # fmt: skip


def _held(db: Connection, viewer: Viewer, since_ms: int) -> list[_Row]:
    known = places.load(db)
    query = sa.select(holds).where(
        holds.c.plan.is_(None),
        holds.c.asked_ms >= since_ms,
        within(viewer.scopes, holds.c.unit, holds.c.door),
    )
    return [
        (
            f"hold:{row.id}", row.asked_ms, HELD, place_of(known, row.unit, row.door).label,
            f"/doors/{row.unit}/{row.door}", row.account, row.why,
        )
        for row in db.execute(query.order_by(holds.c.id.desc()).limit(MOST))
    ]  # fmt: skip


def _locked(db: Connection, viewer: Viewer, since_ms: int) -> list[_Row]:
    mine = at_whole_sites(viewer.scopes, runs.c.site)
    query = sa.select(runs).where(runs.c.drill == 0, runs.c.started_ms >= since_ms, mine)
    rows = db.execute(query.order_by(runs.c.id.desc()).limit(MOST))
    return [(f"run:{row.id}", row.started_ms, LOCKED, row.site, "", row.account, row.name) for row in rows]


def _one(
    key: str, time_ms: int, what: str, where: str, url: str, by: str, why: str,
    done: dict[str, sa.Row[tuple[object, ...]]], zone: dt.tzinfo, now_ms: int,
) -> Exceptional:  # fmt: skip
    day = dt.datetime.fromtimestamp(time_ms / 1000, zone).date() + dt.timedelta(days=2)
    due_ms = int(dt.datetime.combine(day, dt.time(), zone).timestamp() * 1000)
    row = done.get(key)
    state: State = "reviewed" if row is not None else "overdue" if due_ms <= now_ms else "waits"
    return Exceptional(
        key, time_ms, what, where, url, by, why, due_ms, row.account if row else "",
        row.time_ms if row else None, row.finding if row else "", state,
    )  # fmt: skip
