"""What was last seen at each door and how often today: kept in memory, and brought up to date by new events.

A unit's log only grows, so its stored size is the version of its doors. A page asks for the events behind the
sizes that are known here; only a process that begins, a new day, or a unit that brings thousands reads more.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from sync.dashboard.events.events_query import SHOWN, between
from sync.registry.database.schema import events, units

RECENT = 12
"""Events per unit that are looked at for a door's state."""
MOST_NEW = 500
"""A unit that has brought more since the last look is read anew."""
NOT_AT_DOORS = frozenset({"BOOT", "SHUTDOWN"})


@dataclass(slots=True)
class _Unit:
    size: int
    newest: dict[str, dict[int, Any]] = field(default_factory=dict)
    """door -> sort of event -> its newest row."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """door -> kind -> how many since midnight."""


class Seen:
    """One registry's doors. Threads take turns."""

    def __init__(self, sort_of: Mapping[str, int], other: int) -> None:
        """`sort_of` gives kinds a sort; all others are of the sort `other`."""
        self._sort_of = sort_of
        self._other = other
        self._midnight_ms: int | None = None
        self._units: dict[str, _Unit] = {}
        self._turn = threading.Lock()

    def look(
        self, db: Connection, sizes: Mapping[str, int], midnight_ms: int
    ) -> tuple[dict[tuple[str, str], list[Any]], dict[tuple[str, str], Mapping[str, int]]]:
        """(door -> its newest event of each sort among the unit's newest twelve, newest first; door -> counts
        since midnight). `sizes` are of the same moment as `db`."""
        with self._turn:
            self._bring_up(db, sizes, midnight_ms)
            recent: dict[tuple[str, str], list[Any]] = {}
            counts: dict[tuple[str, str], Mapping[str, int]] = {}
            for unit, size in sizes.items():
                kept = self._units[unit]
                for door, by_sort in kept.newest.items():
                    near = [row for row in by_sort.values() if row.sequence > size - RECENT]
                    if near:
                        recent[unit, door] = sorted(near, key=lambda row: -row.sequence)
                for door, kinds in kept.counts.items():
                    counts[unit, door] = dict(kinds)
            return recent, counts

    def _bring_up(self, db: Connection, sizes: Mapping[str, int], midnight_ms: int) -> None:
        if midnight_ms != self._midnight_ms:
            self._units.clear()
            self._midnight_ms = midnight_ms
        anew, spans = [], []
        for unit, size in sizes.items():
            kept = self._units.get(unit)
            if kept is None or not kept.size <= size <= kept.size + MOST_NEW:
                anew.append(unit)
            elif kept.size < size:
                spans.append((unit, kept.size, size))
        rows = between(db, spans)
        if anew:
            # All of them in one question, or a few by name.
            few = units.c.unit.in_(anew) if len(anew) <= MOST_NEW else sa.true()
            for unit in anew:
                self._units[unit] = _Unit(sizes[unit])
            self._take((row for row in _newest(db, few) if row.unit in set(anew)), ())
            self._count(db, set(anew), few, midnight_ms)
        for unit, _, size in spans:
            self._units[unit].size = size
        self._take(rows, [row for row in rows if row.time_ms >= midnight_ms])

    def _take(self, rows: Iterable[Any], today: Sequence[Any]) -> None:
        for row in rows:
            if row.kind in NOT_AT_DOORS:
                continue
            by_sort = self._units[row.unit].newest.setdefault(row.door, {})
            sort = self._sort_of.get(row.kind, self._other)
            if sort not in by_sort or by_sort[sort].sequence < row.sequence:
                by_sort[sort] = row
        for row in today:
            kinds = self._units[row.unit].counts.setdefault(row.door, {})
            kinds[row.kind] = kinds.get(row.kind, 0) + 1

    def _count(self, db: Connection, anew: set[str], few: sa.ColumnElement[bool], midnight_ms: int) -> None:
        query = (
            sa.select(events.c.unit, events.c.door, events.c.kind, sa.func.count().label("times"))
            .join_from(units, events, units.c.unit == events.c.unit)
            .where(events.c.time_ms >= midnight_ms, events.c.sequence <= units.c.size, few)
            .group_by(events.c.unit, events.c.door, events.c.kind)
        )
        for row in db.execute(query):
            if row.unit in anew:
                self._units[row.unit].counts.setdefault(row.door, {})[row.kind] = row.times


def _newest(db: Connection, few: sa.ColumnElement[bool]) -> Sequence[Any]:
    query = (
        sa.select(*SHOWN)
        .join_from(units, events, units.c.unit == events.c.unit)
        .where(events.c.sequence > units.c.size - RECENT, events.c.sequence <= units.c.size, few)
    )
    return db.execute(query).all()


_seen: weakref.WeakKeyDictionary[Engine, Seen] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def seen_of(db: Connection, sort_of: Mapping[str, int], other: int) -> Seen:
    """The memory of the registry that `db` reads."""
    with _making:
        found = _seen.get(db.engine)
        if found is None:
            found = _seen[db.engine] = Seen(sort_of, other)
        return found
