"""The state of every door, from its newest events, the commands in force and its unit's health."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts.rights import Viewer, sees
from sync.dashboard.doors.seen import seen_of
from sync.dashboard.events.shown import Shown, shown_at
from sync.dashboard.schema import incidents
from sync.dashboard.site import places
from sync.dashboard.site.places import Place
from sync.dashboard.wording import languages
from sync.dashboard.wording.words import ATTACKS, GRANTED, REFUSED
from sync.registry.database.schema import commands, units
from sync.registry.reports.status import UnitStatus, unit_status

QUIET = frozenset({"UNLOCKED", "RELOCKED", "DOOR_OPENED", "DOOR_CLOSED", "EGRESS"})
"""Kinds that show in a door's state, and not as its last event."""

STATES: Mapping[str, tuple[str, str]] = {
    "DOOR_FORCED_OPEN": ("Forced open", "alarm"),
    "DOOR_OPEN_TOO_LONG": ("Held open", "alarm"),
    "DOOR_OPENED": ("Open", "open"),
    "DOOR_CLOSED": ("Locked", "locked"),
    "UNLOCKED": ("Unlocked", "open"),
    "RELOCKED": ("Locked", "locked"),
    "EMERGENCY_RELEASE": ("Released", "alarm"),
    "TAMPER": ("Tampered with", "alarm"),
}
"""Kind of event -> what it makes of a door's state, and the tone of that."""
DOWN, NO_EVENT = "Locked down", "No event yet"

_SORTS = {kind: (0 if kind in STATES else 1) if kind in QUIET else 2 for kind in QUIET | STATES.keys()}
"""The sort of each kind of event: `_view` needs the newest event of each sort."""
_STATUS = [
    units.c[name]
    for name in (
        "unit",
        "site",
        "revoked_ms",
        "size",
        "seen_ms",
        "health",
        "health_ms",
        "desired",
        "backlog_ms",
    )
]


@dataclass(frozen=True, slots=True)
class DoorView:
    """One door as of a moment."""

    place: Place
    state: str
    tone: str
    """locked, open, alarm, down (locked down), or unknown."""
    since_ms: int | None
    last: Shown | None
    unit_state: str
    seen_ms: int | None
    granted: int
    """Since midnight, as are the next two."""
    refused: int
    attacks: int
    incidents: int


def state_after(kind: str, *, public: bool = False) -> list[str] | None:
    """What an event makes of a door's state, for the live page; None when it leaves it as it is."""
    found = STATES.get(kind)
    return None if found is None or (public and kind == "TAMPER") else list(found)


def overview(db: Connection, viewer: Viewer, zone: dt.tzinfo, now_ms: int, unit: str = "") -> list[DoorView]:
    """Every door (of one unit) that this account may see: the largest site first, then by zone and label."""
    mine = [units.c.unit == unit] if unit else []
    known = places.load(db)
    rows = db.execute(sa.select(*_STATUS).where(*mine)).all()
    statuses = {row.unit: unit_status(row, now_ms) for row in rows}
    sizes = {row.unit: row.size for row in rows}
    recent, counts = seen_of(db, _SORTS, 3).look(db, sizes, midnight_ms(now_ms, zone))
    down = locked_down(db)
    work = _open_incidents(db) if not viewer.public else {}
    keys = {*recent, *(key for key in known if key[0] in statuses)}
    found = []
    for name, door in keys:
        place = places.place_of(known, name, door)
        if not sees(viewer.scopes, place.site, place.zone):
            continue
        found.append(
            _view(
                place, recent.get((name, door), []), counts, down, work, statuses[name], viewer, zone, known
            )
        )
    sites = Counter(view.place.site for view in found)
    return sorted(
        found,
        key=lambda v: (-sites[v.place.site], v.place.site, v.place.zone_label, v.place.zone, v.place.label),
    )


def midnight_ms(now_ms: int, zone: dt.tzinfo) -> int:
    now = dt.datetime.fromtimestamp(now_ms / 1000, zone)
    return int(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def locked_down(db: Connection) -> dict[str, int]:
    """Units that answered that they are locked down, and since when."""
    mine = commands.c.action.in_(("lock_down", "end_lock_down"))
    query = sa.select(commands.c.unit, commands.c.action, commands.c.answered_ms)
    query = query.where(mine, commands.c.status == "done").order_by(commands.c.counter)
    newest = {row.unit: row for row in db.execute(query)}
    return {unit: row.answered_ms for unit, row in newest.items() if row.action == "lock_down"}


def _view(
    place: Place,
    rows: Sequence[Any],
    counts: Mapping[tuple[str, str], Mapping[str, int]],
    down: Mapping[str, int],
    work: Mapping[tuple[str, str], int],
    status: UnitStatus,
    viewer: Viewer,
    zone: dt.tzinfo,
    known: places.Places,
) -> DoorView:
    key = (place.unit, place.door)
    state, tone, since_ms = "Locked", "locked", None
    for row in rows:  # newest first
        if row.kind in STATES and not (viewer.public and row.kind == "TAMPER"):
            (state, tone), since_ms = STATES[row.kind], row.time_ms
            break
    if tone == "locked" and place.unit in down:
        state, tone, since_ms = DOWN, "down", down[place.unit]
    if not rows:
        state, tone = NO_EVENT, "unknown"
    kinds = counts.get(key, {})
    last = next((row for row in rows if row.kind not in QUIET), None)
    return DoorView(
        place,
        state,
        tone,
        since_ms,
        shown_at(last, place, zone, viewer.public, languages.current()) if last is not None else None,
        status.state,
        status.heard_ms or None,
        sum(kinds.get(kind, 0) for kind in ((*GRANTED, "DURESS") if viewer.public else GRANTED)),
        sum(kinds.get(kind, 0) for kind in REFUSED),
        sum(kinds.get(kind, 0) for kind in ATTACKS),
        work.get(key, 0) + work.get((place.unit, ""), 0),
    )


def _open_incidents(db: Connection) -> dict[tuple[str, str], int]:
    query = (
        sa.select(incidents.c.unit, incidents.c.door, sa.func.count().label("times"))
        .where(incidents.c.resolved_ms.is_(None), incidents.c.unit.is_not(None))
        .group_by(incidents.c.unit, incidents.c.door)
    )
    return {(row.unit, row.door or ""): row.times for row in db.execute(query)}
