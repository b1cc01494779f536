"""Attacks: how many of which kind, at which doors, and which belong together."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts.rights import Viewer, within
from sync.dashboard.wording import languages
from sync.dashboard.wording.words import ATTACKS
from sync.registry.database.schema import events

DAY_MS = 86_400_000
GAP_MS = 45 * 60_000
"""Attacks at one site that follow each other within 45 minutes are one campaign."""
LEAST = 3
NEWEST = 5_000
"""Attacks that are read one by one, for doors, people and campaigns; the page says where there are more."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """Attacks that belong together by site and time."""

    site: str
    first_ms: int
    last_ms: int
    times: int
    doors: tuple[tuple[str, str], ...]
    persons: int
    """How many people were named in them."""


def newest(db: Connection, viewer: Viewer, since_ms: int) -> Sequence[Any]:
    """The `NEWEST` newest attacks since a moment, oldest first."""
    columns = (
        events.c.unit, events.c.door, events.c.kind, events.c.reason, events.c.person, events.c.time_ms
    )  # fmt: skip
    # Each kind along an index of its own.
    kinds = [
        sa.select(*columns)
        .where(events.c.kind == kind, events.c.time_ms >= since_ms)
        .where(within(viewer.scopes, events.c.unit, events.c.door))
        .order_by(events.c.time_ms.desc())
        .limit(NEWEST)
        for kind in ATTACKS
    ]
    rows = [row for query in kinds for row in db.execute(query)]
    return sorted(rows, key=lambda row: row.time_ms)[-NEWEST:]


def by_day(db: Connection, viewer: Viewer, since_ms: int, days: int) -> Counter[tuple[int, str]]:
    """(days after `since_ms`, kind) -> how many: of all of them, counted by the database."""
    day = (events.c.time_ms - since_ms) // DAY_MS
    query = (
        sa.select(day.label("day"), events.c.kind, sa.func.count().label("times"))
        .where(events.c.kind.in_(ATTACKS), events.c.time_ms >= since_ms)
        .where(events.c.time_ms < since_ms + days * DAY_MS)
        .where(within(viewer.scopes, events.c.unit, events.c.door))
        .group_by(sa.text("day"), events.c.kind)
    )
    return Counter({(row.day, row.kind): row.times for row in db.execute(query)})


def campaigns(rows: Sequence[Any]) -> list[Campaign]:
    """Newest first. `rows` are in the order of their times."""
    open_ones: dict[str, list[Any]] = {}
    closed: list[Campaign] = []
    for row in rows:
        site = row.unit.split("/")[0]
        group = open_ones.setdefault(site, [])
        if group and row.time_ms - group[-1].time_ms > GAP_MS:
            closed += _campaign(site, group)
            group.clear()
        group.append(row)
    for site, group in open_ones.items():
        closed += _campaign(site, group)
    return sorted(closed, key=lambda campaign: -campaign.last_ms)


def lines(
    counted: Counter[tuple[int, str]], since_ms: int, days: int, zone: dt.tzinfo
) -> list[tuple[str, dict[str, int]]]:
    """(day, {"attack": n, "refused": n}) for each day: synthetic voices and recordings."""
    found = []
    for day in range(days):
        moment = dt.datetime.fromtimestamp((since_ms + day * DAY_MS + DAY_MS // 2) / 1000, zone)
        parts = {"attack": counted[day, "DENIED_SPOOF"], "refused": counted[day, "DENIED_REPLAY"]}
        found.append((languages.date(moment, "%-d %b"), parts))
    return found


def _campaign(site: str, group: Sequence[Any]) -> list[Campaign]:
    if len(group) < LEAST:
        return []
    doors = tuple(sorted({(row.unit, row.door) for row in group}))
    persons = len({row.person for row in group if row.person})
    return [Campaign(site, group[0].time_ms, group[-1].time_ms, len(group), doors, persons)]
