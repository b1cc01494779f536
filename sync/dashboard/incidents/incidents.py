"""Incidents: alarms about one thing are one piece of work, owned by a person until it is resolved.

To acknowledge is to have seen it; to resolve needs a note of what it was. An incident ends by itself when the
unit reports again or the held door shuts; a forced door must have been seen first. The same alarm within a
day opens the incident again; one that was opened again three times stays open until it has been quiet for an
hour. How long each opening took is kept.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer, within
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import incident_alarms, incident_spans, incidents, notes
from sync.registry.database.schema import alarms, events, units
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, insert, take_turn
from sync.registry.reports.status import unit_status

MOST = 200
REOPEN_WITHIN_MS = 24 * 3600 * 1000
SYSTEM = "ostiary"
FLAPPING = 3
"""Reopened this often, an incident ends by itself only after `QUIET_MS` of quiet."""
QUIET_MS = 3600 * 1000
HELD, ATTACKED = "DOOR_HELD", "DOOR_ATTACKED"
_DOORS = ("DOOR_FORCED_OPEN", "DOOR_OPEN_TOO_LONG", "TAMPER", "DOOR_CLOSED")
_GRAVITY = sa.case({"critical": 0, "warning": 1}, value=incidents.c.severity, else_=2)


@dataclass(frozen=True, slots=True)
class Durations:
    """How many openings were resolved since a moment, and the median time to each step."""

    resolved: int
    to_acknowledge_ms: float | None
    to_resolve_ms: float | None


def gather(store: Store, now_ms: int) -> None:
    """Take new alarms, and those that were raised again, into incidents."""
    taken = incident_alarms
    query = (
        sa.select(alarms, taken.c.incident, taken.c.times.label("taken"))
        .outerjoin(taken, taken.c.alarm == alarms.c.id)
        .where(sa.or_(taken.c.alarm.is_(None), taken.c.times < alarms.c.times))
        .order_by(alarms.c.id)
    )
    with store.reading() as db:
        waiting = bool(db.execute(query.limit(1)).first())
        over = _over(db, now_ms)
    if not waiting and not over:
        return
    with store.transaction() as db:
        take_turn(db, Turn.INCIDENTS)  # two workers must not make two incidents of one alarm
        for row in db.execute(query).all():
            _take(store, db, row, now_ms)
        still_over = _over(db, now_ms)  # it may have happened again since we looked
        for incident, why in ((one, why) for one, why in over.items() if one in still_over):
            # Another worker, or a person, may have been faster.
            still = sa.update(incidents).where(incidents.c.id == incident, incidents.c.resolved_ms.is_(None))
            if db.execute(still.values(resolved_ms=now_ms)).rowcount == 1:
                _end_span(db, incident, now_ms, by_itself=True)
                _note(db, incident, SYSTEM, now_ms, "resolved", why)


def state(row: Any) -> str:
    """new, seen, flapping or resolved."""
    if row.resolved_ms is not None:
        return "resolved"
    if row.reopened >= FLAPPING:
        return "flapping"
    return "new" if row.acknowledged_ms is None else "seen"


def listed(db: Connection, viewer: Viewer, *, resolved: bool) -> Sequence[Any]:
    """Up to `MOST` open ones by gravity, or resolved ones, newest first."""
    query = sa.select(incidents).where(_visible(viewer)).limit(MOST)
    if resolved:
        query = query.where(incidents.c.resolved_ms.is_not(None)).order_by(incidents.c.resolved_ms.desc())
    else:
        query = query.where(incidents.c.resolved_ms.is_(None)).order_by(_GRAVITY, incidents.c.last_ms.desc())
    return db.execute(query).all()


def one(db: Connection, viewer: Viewer, number: int) -> Any:
    """The incident, or None where it does not exist or lies outside what this account may see."""
    return db.execute(sa.select(incidents).where(incidents.c.id == number, _visible(viewer))).one_or_none()


def open_count(db: Connection, viewer: Viewer) -> int:
    query = sa.select(sa.func.count()).select_from(incidents)
    return int(db.execute(query.where(incidents.c.resolved_ms.is_(None), _visible(viewer))).scalar_one())


def story(db: Connection, number: int) -> Sequence[Any]:
    """What was done about it, oldest first."""
    return db.execute(sa.select(notes).where(notes.c.incident == number).order_by(notes.c.id)).all()


def evidence(db: Connection, number: int, limit: int = 20) -> list[dict[str, Any]]:
    """What its newest alarms rest on."""
    query = (
        sa.select(alarms.c.kind, alarms.c.raised_ms, alarms.c.times, alarms.c.evidence)
        .join(incident_alarms, incident_alarms.c.alarm == alarms.c.id)
        .where(incident_alarms.c.incident == number)
        .order_by(alarms.c.id.desc())
        .limit(limit)
    )
    return [{**row._mapping, "evidence": json.loads(row.evidence)} for row in db.execute(query)]


def acknowledge(store: Store, number: int, account: str, now_ms: int) -> None:
    """`account` has seen it, and owns it unless somebody does already. Raises RefusedError."""
    first = (
        incidents.c.id == number,
        incidents.c.acknowledged_ms.is_(None),
        incidents.c.resolved_ms.is_(None),
    )
    with store.transaction() as db:
        owner = sa.func.coalesce(incidents.c.owner, account)
        done = db.execute(sa.update(incidents).where(*first).values(acknowledged_ms=now_ms, owner=owner))
        if done.rowcount != 1:
            raise RefusedError("Somebody has acknowledged this incident already.", 409)
        open_span = (incident_spans.c.incident == number, incident_spans.c.resolved_ms.is_(None))
        db.execute(sa.update(incident_spans).where(*open_span).values(acknowledged_ms=now_ms))
        _note(db, number, account, now_ms, "acknowledged", "")
        # The command line's `registry alarms` shows what nobody has looked at.
        mine = sa.select(incident_alarms.c.alarm).where(incident_alarms.c.incident == number)
        unseen = (alarms.c.id.in_(mine), alarms.c.acknowledged_ms.is_(None))
        db.execute(sa.update(alarms).where(*unseen).values(acknowledged_ms=now_ms, acknowledged_by=account))


def own(store: Store, number: int, account: str, now_ms: int) -> None:
    """`account` takes it over."""
    with store.transaction() as db:
        _change(db, number, owner=account)
        _note(db, number, account, now_ms, "took over", "")


def add_note(store: Store, number: int, account: str, text: str, now_ms: int) -> None:
    with store.transaction() as db:
        _change(db, number, times=incidents.c.times)
        _note(db, number, account, now_ms, "wrote", text)


def resolve(store: Store, number: int, account: str, text: str, now_ms: int) -> None:
    """It is over, and `text` says what it was."""
    with store.transaction() as db:
        _change(db, number, resolved_ms=now_ms)
        _end_span(db, number, now_ms, by_itself=False)
        _note(db, number, account, now_ms, "resolved", text)


def spans(db: Connection, number: int) -> Sequence[Any]:
    """Each time it was open, oldest first."""
    query = sa.select(incident_spans).where(incident_spans.c.incident == number)
    return db.execute(query.order_by(incident_spans.c.id)).all()


def durations(db: Connection, viewer: Viewer, since_ms: int) -> Durations:
    """Counts every opening that ended since then, also of incidents that were opened again."""
    span = incident_spans.c
    query = sa.select(span.opened_ms, span.acknowledged_ms, span.resolved_ms)
    query = query.join(incidents, incidents.c.id == span.incident)
    query = query.where(span.resolved_ms >= since_ms, _visible(viewer)).limit(10_000)
    rows = db.execute(query).all()
    seen = [row.acknowledged_ms - row.opened_ms for row in rows if row.acknowledged_ms is not None]
    done = [row.resolved_ms - row.opened_ms for row in rows]
    return Durations(len(rows), _median(seen), _median(done))


def _median(values: Sequence[int]) -> float | None:
    return statistics.median_high(values) if values else None


def _visible(viewer: Viewer) -> sa.ColumnElement[bool]:
    if not viewer.scopes:
        return sa.true()
    # One about a whole unit shows to all who may see a door of it; one about everything to nobody with tags.
    door = sa.func.coalesce(incidents.c.door, "")
    whole_unit = sa.and_(door == "", within([s.split("/")[0] for s in viewer.scopes], incidents.c.unit, door))
    return sa.and_(
        incidents.c.unit.is_not(None), sa.or_(within(viewer.scopes, incidents.c.unit, door), whole_unit)
    )


def _take(store: Store, db: Connection, row: Any, now_ms: int) -> None:
    subject = " ".join((row.kind, row.unit or row.site or "everything", row.door or ""))
    if row.incident is not None:
        number, more = row.incident, row.times - row.taken
    else:
        number, more = _for_subject(db, subject, now_ms), row.times
    if number is None:
        values = {
            name: getattr(row, name) for name in ("kind", "severity", "unit", "site", "door", "last_ms")
        }
        more_values = {"subject": subject, "opened_ms": row.raised_ms, "times": row.times, "reopened": 0}
        number = insert(db, incidents, **values, **more_values)
        _begin_span(db, number, row.raised_ms)
    else:
        incident = db.execute(sa.select(incidents).where(incidents.c.id == number)).one()
        newer = {"times": incident.times + more, "last_ms": max(incident.last_ms, row.last_ms)}
        if incident.resolved_ms is not None:
            newer |= {"resolved_ms": None, "acknowledged_ms": None, "reopened": incident.reopened + 1}
            _begin_span(db, number, row.last_ms)
            again = "It happened again."
            if incident.reopened + 1 == FLAPPING:
                again += " It comes and goes: it stays open until it has been quiet for an hour."
            _note(db, number, SYSTEM, now_ms, "opened again", again)
        db.execute(sa.update(incidents).where(incidents.c.id == number).values(newer))
    taken = store.upsert(incident_alarms).values(alarm=row.id, incident=number, times=row.times)
    db.execute(taken.on_conflict_do_update(index_elements=["alarm"], set_={"times": row.times}))


def _for_subject(db: Connection, subject: str, now_ms: int) -> int | None:
    fresh = sa.or_(incidents.c.resolved_ms.is_(None), incidents.c.resolved_ms > now_ms - REOPEN_WITHIN_MS)
    query = sa.select(incidents.c.id).where(incidents.c.subject == subject, fresh)
    found = db.execute(query.order_by(incidents.c.id.desc()).limit(1)).scalar()
    return None if found is None else int(found)


def _over(db: Connection, now_ms: int) -> dict[int, str]:
    """Open incidents that have ended by themselves, and why."""
    calm = sa.or_(incidents.c.reopened < FLAPPING, incidents.c.last_ms <= now_ms - QUIET_MS)
    still = (incidents.c.resolved_ms.is_(None), calm)
    silent = (
        sa.select(units, incidents.c.id)
        .join(incidents, incidents.c.unit == units.c.unit)
        .where(incidents.c.kind == "UNIT_SILENT", *still)
    )
    found = {
        row.id: "The unit reports again."
        for row in db.execute(silent)
        if unit_status(row, now_ms).state == "online"
    }
    outages = sa.select(incidents.c.id, incidents.c.site).where(incidents.c.kind == "SITE_SILENT", *still)
    for row in db.execute(outages).all():
        there = [units.c.site == row.site] if row.site else []
        members = db.execute(sa.select(units).where(units.c.revoked_ms.is_(None), *there))
        if any(unit_status(unit, now_ms).state == "online" for unit in members):
            found[row.id] = "Units report again."
    seen = sa.or_(incidents.c.kind == HELD, incidents.c.acknowledged_ms.is_not(None))
    at_doors = sa.select(incidents).where(incidents.c.kind.in_((HELD, ATTACKED)), seen, *still)
    for row in db.execute(at_doors).all():
        if _shut(db, row):
            found[row.id] = "The door is shut."
    return found


def _shut(db: Connection, incident: Any) -> bool:
    """Whether the door's newest event is that it shut. An opened unit needs a person, shut door or not."""
    here = (events.c.unit == incident.unit, events.c.door == incident.door, events.c.kind.in_(_DOORS))
    query = (
        sa.select(events.c.kind, events.c.time_ms).where(*here).order_by(events.c.time_ms.desc()).limit(20)
    )
    rows = db.execute(query).all()
    if not rows or rows[0].kind != "DOOR_CLOSED":
        return False
    since_ms = incident.opened_ms - REOPEN_WITHIN_MS
    return incident.kind == HELD or all(row.kind != "TAMPER" or row.time_ms < since_ms for row in rows)


def _begin_span(db: Connection, number: int, opened_ms: int) -> None:
    db.execute(sa.insert(incident_spans).values(incident=number, opened_ms=opened_ms, by_itself=0))


def _end_span(db: Connection, number: int, now_ms: int, *, by_itself: bool) -> None:
    open_span = (incident_spans.c.incident == number, incident_spans.c.resolved_ms.is_(None))
    values = {"resolved_ms": now_ms, "by_itself": int(by_itself)}
    db.execute(sa.update(incident_spans).where(*open_span).values(**values))


def _change(db: Connection, number: int, **values: Any) -> None:
    mine = (incidents.c.id == number, incidents.c.resolved_ms.is_(None))
    if db.execute(sa.update(incidents).where(*mine).values(**values)).rowcount != 1:
        raise RefusedError("This incident has been resolved. It opens again when it happens again.", 409)


def _note(db: Connection, number: int, account: str, now_ms: int, what: str, text: str) -> None:
    db.execute(
        sa.insert(notes).values(incident=number, account=account, time_ms=now_ms, what=what, text=text)
    )
    if account != SYSTEM:
        journal.append(db, account, f"incident {what}", f"incident {number}", now_ms)
