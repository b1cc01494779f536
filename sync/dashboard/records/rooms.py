"""Sensitive rooms in one shift: who went in with whom, who was refused, alarms, how long a door was open."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts.rights import Viewer, sees, within
from sync.dashboard.events.events_query import SHOWN
from sync.dashboard.site.places import Place, Places
from sync.dashboard.wording.words import ALARMS, LET_IN, REFUSED
from sync.registry.database.schema import events

PAIR_MS = 300_000
"""The longest that rules let a first person wait for the second."""
MOST = 5000


@dataclass(frozen=True, slots=True)
class Passage:
    """A person went in; `first` had answered before them where the door asks for two."""

    time_ms: int
    person: str
    first: str


@dataclass(slots=True)
class Room:
    """One sensitive door in a shift."""

    place: Place
    passages: list[Passage] = field(default_factory=list)
    refused: int = 0
    alarms: int = 0
    duress: int = 0
    waited: int = 0
    """A first person for whom no second came."""
    longest_open_ms: int | None = None


def shift(db: Connection, viewer: Viewer, known: Places, since_ms: int, until_ms: int) -> list[Room]:
    """Every sensitive door that this account may see."""
    rooms = {
        key: Room(place)
        for key, place in known.items()
        if place.sensitive and sees(viewer.scopes, place.site, place.zone)
    }
    waiting: dict[tuple[str, str], tuple[int, str]] = {}
    opened: dict[tuple[str, str], int] = {}
    for unit in sorted({unit for unit, _ in rooms}):
        query = sa.select(*SHOWN).where(
            events.c.unit == unit,
            events.c.time_ms >= since_ms,
            events.c.time_ms < until_ms,
            within(viewer.scopes, events.c.unit, events.c.door),
        )
        for row in db.execute(query.order_by(events.c.time_ms, events.c.sequence).limit(MOST)):
            key = (row.unit, row.door)
            room = rooms.get(key)
            if room is None:
                continue
            if row.kind in LET_IN:
                first = waiting.pop(key, (0, ""))
                paired = row.time_ms - first[0] <= PAIR_MS
                room.passages.append(Passage(row.time_ms, row.person or "", first[1] if paired else ""))
            elif row.kind == "AWAITING_SECOND_PERSON":
                room.waited += key in waiting
                waiting[key] = (row.time_ms, row.person or "")
            elif row.kind == "DOOR_OPENED":
                opened[key] = row.time_ms
            elif row.kind == "DOOR_CLOSED" and key in opened:
                room.longest_open_ms = max(room.longest_open_ms or 0, row.time_ms - opened.pop(key))
            room.refused += row.kind in REFUSED
            room.alarms += row.kind in ALARMS
            room.duress += bool(row.silent_alarm)
    for key in waiting:
        rooms[key].waited += 1
    return sorted(rooms.values(), key=lambda room: (room.place.site, room.place.zone, room.place.label))
