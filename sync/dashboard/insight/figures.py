"""Figures of the checks: scores now and before, and doors that refuse the right people."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.registry.database.schema import events

LOW, HIGH, BINS = -10.0, 15.0, 50
CHUNK = 5_000
"""Rows that are held at once."""
AGAIN_MS = 90_000
HEARING = ("DENIED_QUALITY", "DENIED_PHRASE", "DENIED_VOICE", "DENIED_SPOOF", "STEP_UP", "DENIED_EXPIRED")
"""Refusals that may be the door's fault."""
SCORES = (("phrase_llr", "Words"), ("speaker_llr", "Voice"), ("spoof_llr", "Live"))


@dataclass(frozen=True, slots=True)
class DoorTrouble:
    """One door in a window: attempts, and refusals of somebody who was let in within 90 seconds after."""

    unit: str
    door: str
    attempts: int
    wrongly: int
    worst_hour: int | None
    """The hour of the day in which most of them fell."""

    @property
    def share(self) -> float:
        return self.wrongly / self.attempts if self.attempts else 0.0


Histograms = dict[str, dict[str, list[int]]]
"""score -> {"granted": bins, "refused": bins}."""


def histograms(db: Connection, since_ms: int, until_ms: int) -> dict[tuple[str, str], Histograms]:
    """Histograms of the scores of all decisions in a window, by (unit, door). The database counts."""
    found: dict[tuple[str, str], Histograms] = {}
    granted = sa.case((events.c.kind == "GRANTED", 1), else_=0)
    for name, _ in SCORES:
        at = (events.c[name] - LOW) / (HIGH - LOW) * BINS
        # CAST rounds in PostgreSQL and cuts off in SQLite, which may have no floor().
        down = sa.func.floor(at) if db.dialect.name == "postgresql" else at
        inside = sa.case((at < 0, 0), (at >= BINS, BINS - 1), else_=sa.cast(down, sa.Integer))
        query = (
            sa.select(
                events.c.unit, events.c.door, granted.label("granted"), inside.label("bin"),
                sa.func.count().label("times"),
            )
            .where(events.c.time_ms >= since_ms, events.c.time_ms < until_ms)
            .where(events.c.phrase_llr.is_not(None), events.c[name].is_not(None))
            .group_by(events.c.unit, events.c.door, sa.text("granted"), sa.text("bin"))
        )  # fmt: skip
        for row in db.execute(query):
            one = found.setdefault((row.unit, row.door), empty())
            one[name]["granted" if row.granted else "refused"][row.bin] += row.times
    return found


def empty() -> Histograms:
    return {name: {"granted": [0] * BINS, "refused": [0] * BINS} for name, _ in SCORES}


def median(bins: Sequence[int]) -> float | None:
    """The middle of a histogram; None when it is empty."""
    total, seen = sum(bins), 0
    for number, times in enumerate(bins):
        seen += times
        if total and seen * 2 >= total:
            return LOW + (number + 0.5) * (HIGH - LOW) / len(bins)
    return None


def troubles(db: Connection, since_ms: int, zone: dt.tzinfo) -> list[DoorTrouble]:
    """Every door's attempts since a moment, and those that refused the right people; the worst first."""
    query = (
        sa.select(events.c.unit, events.c.door, events.c.kind, events.c.person, events.c.time_ms)
        .where(events.c.time_ms >= since_ms, events.c.person.is_not(None))
        .where(events.c.kind.in_(("GRANTED", *HEARING)))
        .order_by(events.c.time_ms)
        .execution_options(yield_per=CHUNK)
    )
    attempts: Counter[tuple[str, str]] = Counter()
    hours: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    refused: dict[tuple[str, str, str], list[Any]] = {}
    for row in db.execute(query):
        key = (row.unit, row.door)
        attempts[key] += 1
        mine = refused.setdefault((*key, row.person), [])
        if row.kind != "GRANTED":
            mine.append(row)
            continue
        for earlier in mine:
            if row.time_ms - earlier.time_ms <= AGAIN_MS:
                hours[key][dt.datetime.fromtimestamp(earlier.time_ms / 1000, zone).hour] += 1
        mine.clear()
    found = []
    for key, times in attempts.items():
        worst = hours[key].most_common(1)
        found.append(DoorTrouble(*key, times, sum(hours[key].values()), worst[0][0] if worst else None))
    return sorted(found, key=lambda door: (-door.share, -door.attempts))
