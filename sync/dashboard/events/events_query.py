"""The event list: filters from the address, one page by keyset, newest first. No count, no cap."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts.rights import within
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import places
from sync.dashboard.wording.words import GROUPS
from sync.registry.database.schema import events
from sync.vocabulary import KINDS, REASONS

PAGE = 50
DAY_MS = 86_400_000
MOST_PARTS = 200
"""The list of a zone with more doors is read in the order of time."""
_KEY = (events.c.time_ms, events.c.unit, events.c.sequence)
_CURSOR = re.compile(r"(\d{1,15})~([a-z0-9-]{1,32}/[a-z0-9-]{1,32})~(\d{1,16})")
_UNIT = re.compile(r"[a-z0-9-]{1,32}/[a-z0-9-]{1,32}")
_SLUG = re.compile(r"[a-z0-9-]{1,32}")
SHOWN = [
    events.c[name]
    for name in (
        "unit", "sequence", "received_ms", "time_ms", "door", "kind", "reason", "person", "phrase_llr",
        "speaker_llr", "spoof_llr", "silent_alarm",
    )
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filter:
    """The filters of the list. Each is in the address, so a view can be sent to a colleague."""

    show: str = ""
    """One of `words.GROUPS`."""
    kind: str = ""
    reason: str = ""
    site: str = ""
    zone: str = ""
    unit: str = ""
    door: str = ""
    person: str = ""
    since: str = ""
    """A day (YYYY-MM-DD) or a minute (YYYY-MM-DDTHH:MM), in the page's time zone; included."""
    until: str = ""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Filter:
        """Read the filters of an address. Raises RefusedError for one that does not exist."""
        values = {field.name: query.get(field.name, "").strip() for field in fields(cls)}
        # The form offers a door as unit and door in one.
        if values["door"].count("/") == 2:
            values["unit"], _, values["door"] = values["door"].rpartition("/")
        made = cls(**values)
        checks = (
            (made.show, made.show in GROUPS),
            (made.kind, made.kind in KINDS),
            (made.reason, made.reason in REASONS),
            (made.site, bool(_SLUG.fullmatch(made.site))),
            (made.zone, bool(_SLUG.fullmatch(made.zone))),
            (made.unit, bool(_UNIT.fullmatch(made.unit))),
            (made.door, bool(_SLUG.fullmatch(made.door))),
            (made.person, _is_uuid(made.person)),
            (made.since, _is_time(made.since)),
            (made.until, _is_time(made.until)),
        )
        if any(value and not right for value, right in checks):
            raise RefusedError("This address has a filter that does not exist. Clear the filters.")
        return made

    def address(self, **more: str) -> str:
        """The filters as a query string, without those that are empty."""
        return urlencode({name: value for name, value in (self.filled() | more).items() if value})

    def filled(self) -> dict[str, str]:
        """The filters that are set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value}

    @property
    def door_key(self) -> str:
        return f"{self.unit}/{self.door}" if self.unit and self.door else ""

    @property
    def by_place_only(self) -> bool:
        """Whether it asks neither who passed nor why: a wall display may ask nothing else."""
        return not (self.show or self.kind or self.reason or self.person)

    def conditions(self, zone: dt.tzinfo) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.kind:
            found.append(events.c.kind == self.kind)
        elif self.show:
            found.append(events.c.kind.in_(GROUPS[self.show][1]))
        for name in ("reason", "unit", "door", "person"):
            if value := getattr(self, name):
                found.append(events.c[name] == value)
        if self.site:
            found.append(within([self.site], events.c.unit, events.c.door))
        if self.zone:
            found.append(
                sa.tuple_(events.c.unit, events.c.door).in_(
                    sa.select(places.c.unit, places.c.door).where(places.c.zone == self.zone)
                )
            )
        if self.since:
            found.append(events.c.time_ms >= _time_ms(self.since, zone))
        if self.until:
            found.append(events.c.time_ms < _end_ms(self.until, zone))
        return found

    def holds_at(self, time_ms: int, zone: dt.tzinfo) -> bool:
        """Whether a moment lies between `since` and `until`."""
        early = bool(self.since) and time_ms < _time_ms(self.since, zone)
        return not early and not (bool(self.until) and time_ms >= _end_ms(self.until, zone))


@dataclass(frozen=True, slots=True)
class Page:
    """Up to `PAGE` events, and where the next older page begins; None at the end."""

    rows: Sequence[Any]
    older: str | None


def page(
    db: Connection,
    wanted: Filter,
    scopes: Sequence[str],
    zone: dt.tzinfo,
    before: str = "",
    limit: int = PAGE,
) -> Page:
    """One page, newest first, of what this account may see."""
    position: list[sa.ColumnElement[bool]] = []
    if before:
        found = _CURSOR.fullmatch(before)
        if not found:
            raise RefusedError("This address has a page that does not exist. Start from the newest.")
        place = (int(found[1]), found[2], int(found[3]))
        # The first comparison is implied by the second; it lets an index on the time begin there.
        position.append(events.c.time_ms <= place[0])
        position.append(sa.tuple_(*_KEY) < sa.tuple_(*map(sa.literal, place)))
    parts = _parts(db, wanted)
    rows: list[Any] = []
    if len(parts) > 1:
        # What happens often fills a page within two days, along one index.
        anchor = place[0] if before else db.execute(sa.select(sa.func.max(events.c.time_ms))).scalar() or 0
        lately = events.c.time_ms >= anchor - 2 * DAY_MS
        rows += db.execute(select(wanted, scopes, zone).where(*position, lately).limit(limit + 1)).all()
    if len(rows) <= limit:
        rows = []
        for part in parts:
            rows += db.execute(select(part, scopes, zone).where(*position).limit(limit + 1)).all()
        rows.sort(key=lambda row: (row.time_ms, row.unit, row.sequence), reverse=True)
    older = cursor(rows[limit - 1]) if len(rows) > limit else None
    return Page(rows[:limit], older)


def _parts(db: Connection, wanted: Filter) -> list[Filter]:
    """Filters that find the same events together, each along one index: zones by doors, groups by kinds.

    So a kind that never happened costs one look at an index; in order of time the list would be read to its
    end. A kind or a reason in a zone has an index of its own already.
    """
    if wanted.zone and not wanted.unit and wanted.by_place_only:
        query = sa.select(places.c.unit, places.c.door).where(places.c.zone == wanted.zone)
        if wanted.site:
            query = query.where(within([wanted.site], places.c.unit, places.c.door))
        doors = db.execute(query.limit(MOST_PARTS + 1)).all()
        if 1 < len(doors) <= MOST_PARTS:
            return [replace(wanted, zone="", site="", unit=row.unit, door=row.door) for row in doors]
    if wanted.show and not wanted.kind:
        return [replace(wanted, show="", kind=kind) for kind in GROUPS[wanted.show][1]]
    return [wanted]


def select(wanted: Filter, scopes: Sequence[str], zone: dt.tzinfo) -> sa.Select[Any]:
    query = sa.select(*SHOWN).order_by(*(column.desc() for column in _KEY))
    return query.where(*wanted.conditions(zone), within(scopes, events.c.unit, events.c.door))


def cursor(row: Any) -> str:
    return f"{row.time_ms}~{row.unit}~{row.sequence}"


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    try:
        return bool(text) and len(text) in (10, 16) and bool(dt.datetime.fromisoformat(text))
    except ValueError:
        return False


def _time_ms(text: str, zone: dt.tzinfo) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def _end_ms(text: str, zone: dt.tzinfo) -> int:
    """The end of a day or of a minute, not included."""
    more = dt.timedelta(days=1) if len(text) == 10 else dt.timedelta(minutes=1)
    end = dt.datetime.fromisoformat(text) + more
    return int(end.replace(tzinfo=zone).timestamp() * 1000)


_CHUNK = 1000
"""Units in one question, three parameters each."""
_COLUMNS = (sa.column("unit", sa.Text), sa.column("low", sa.BigInteger), sa.column("high", sa.BigInteger))


def between(db: Connection, spans: Sequence[tuple[str, int, int]]) -> list[Any]:
    """The events of each (unit, low, high) behind `low` up to `high`, with the columns of `SHOWN`."""
    found: list[Any] = []
    for at in range(0, len(spans), _CHUNK):
        moved = sa.values(*_COLUMNS, name="spans").data(spans[at : at + _CHUNK]).cte("moved")
        mine = (
            events.c.unit == moved.c.unit,
            events.c.sequence > moved.c.low,
            events.c.sequence <= moved.c.high,
        )
        found += db.execute(sa.select(*SHOWN).join_from(moved, events, sa.and_(*mine))).all()
    return found
