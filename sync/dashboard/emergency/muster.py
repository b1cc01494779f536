"""A roll call: who passed last into which zone, who is safe, who is still missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer, at_whole_sites, site_within, within
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import muster_people, musters
from sync.dashboard.site import places
from sync.dashboard.site.places import place_of
from sync.dashboard.wording.words import LET_IN
from sync.registry.database.schema import events
from sync.registry.database.store import Store
from sync.registry.database.transactions import insert

MOST = 20
LOOK_BACK_MS = 16 * 3600 * 1000
"""No shift is longer: a person who passed before that is taken to be at home."""


@dataclass(frozen=True, slots=True)
class Muster:
    id: int
    site: str
    account: str
    started_ms: int
    ended_ms: int | None


def start(store: Store, viewer: Viewer, site: str, now_ms: int) -> int:
    """Begin a roll call of everybody who was last let in at a site. Raises RefusedError."""
    if not site_within(viewer.scopes, site):
        raise RefusedError("Your account may not take a roll call of that site.", 403)
    with store.transaction() as db:
        number = insert(db, musters, site=site, account=viewer.account, started_ms=now_ms)
        found = _last_seen(db, site, now_ms)
        if found:
            db.execute(sa.insert(muster_people), [{"muster": number, **person} for person in found])
        journal.append(db, viewer.account, "muster", f"{number}: {site}", now_ms, rows=len(found))
    return number


def one(db: Connection, viewer: Viewer, number: int) -> Muster | None:
    row = db.execute(sa.select(musters).where(musters.c.id == number)).one_or_none()
    return Muster(*row) if row is not None and site_within(viewer.scopes, row.site) else None


def recent(db: Connection, viewer: Viewer) -> list[Muster]:
    """The newest first, `MOST` at most."""
    mine = sa.select(musters).where(at_whole_sites(viewer.scopes, musters.c.site))
    return [Muster(*row) for row in db.execute(mine.order_by(musters.c.id.desc()).limit(MOST))]


def people(db: Connection, number: int) -> Sequence[Any]:
    """People who are missing first, then by zone."""
    query = sa.select(muster_people).where(muster_people.c.muster == number)
    return db.execute(
        query.order_by(
            muster_people.c.safe_ms.is_not(None), muster_people.c.zone, muster_people.c.seen_ms.desc()
        )
    ).all()


def mark_safe(store: Store, number: int, entry: int, account: str, now_ms: int) -> None:
    mine = (muster_people.c.id == entry, muster_people.c.muster == number, muster_people.c.safe_ms.is_(None))
    with store.transaction() as db:
        _must_be_open(db, number)
        db.execute(sa.update(muster_people).where(*mine).values(safe_ms=now_ms, safe_by=account))


def add_visitor(store: Store, number: int, name: str, zone: str, now_ms: int) -> None:
    """Add a visitor or contractor, whom no door knows."""
    with store.transaction() as db:
        _must_be_open(db, number)
        values = {"muster": number, "visitor": name, "zone": zone, "seen_ms": now_ms}
        db.execute(sa.insert(muster_people).values(**values))


def end(store: Store, number: int, account: str, now_ms: int) -> None:
    with store.transaction() as db:
        _must_be_open(db, number)
        db.execute(sa.update(musters).where(musters.c.id == number).values(ended_ms=now_ms))
        missing = sa.select(sa.func.count()).where(
            muster_people.c.muster == number, muster_people.c.safe_ms.is_(None)
        )
        left = db.execute(missing).scalar_one()
        journal.append(db, account, "muster ended", f"{number}: {left} not marked safe", now_ms)


def _must_be_open(db: Connection, number: int) -> None:
    query = sa.select(musters.c.id).where(musters.c.id == number, musters.c.ended_ms.is_(None))
    if db.execute(query).one_or_none() is None:
        raise RefusedError("This roll call has ended.", 409)


def _last_seen(db: Connection, site: str, now_ms: int) -> list[dict[str, Any]]:
    since = (
        events.c.time_ms > now_ms - LOOK_BACK_MS,
        events.c.time_ms <= now_ms,
        events.c.person.is_not(None),
    )
    here = within([site], events.c.unit, events.c.door)
    query = (
        sa.select(events.c.person, events.c.unit, events.c.door, events.c.time_ms)
        .where(*since, here, events.c.kind.in_(LET_IN))
        .order_by(events.c.time_ms)
    )
    known = places.load(db)
    last = {row.person: row for row in db.execute(query)}
    return [
        {
            "person": person,
            "zone": place_of(known, row.unit, row.door).zone_label or row.unit,
            "seen_ms": row.time_ms,
        }
        for person, row in last.items()
    ]
