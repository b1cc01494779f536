"""How the checks do: scores now against before, and doors that refuse the right people."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts.rights import Viewer, within
from sync.registry.schema import events

LOW, HIGH, BINS = -10.0, 15.0, 50
SAMPLE = 20_000
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
    """Of the day, in which most of them fell."""

    @property
    def share(self) -> float:
        return self.wrongly / self.attempts if self.attempts else 0.0


Histograms = dict[str, dict[str, list[int]]]
"""score -> {"granted": bins, "refused": bins}."""


def histograms(
    db: Connection,
    viewer: Viewer,
    since_ms: int,
    until_ms: int,
    door: tuple[str, str] | None = None,
    by_door: dict[tuple[str, str], Histograms] | None = None,
) -> Histograms:
    """Of at most `SAMPLE` newest decisions in a window, at every door or at one (unit, door). `by_door` is
    filled with those of each door."""
    columns = (events.c.unit, events.c.door, events.c.kind, *(events.c[name] for name, _ in SCORES))
    scored = sa.select(*columns).where(
        events.c.time_ms >= since_ms,
        events.c.time_ms < until_ms,
        events.c.phrase_llr.is_not(None),
        within(viewer.scopes, events.c.unit, events.c.door),
    )
    if door is not None:
        scored = scored.where(events.c.unit == door[0], events.c.door == door[1])
    found = _empty()
    for row in db.execute(scored.order_by(events.c.time_ms.desc()).limit(SAMPLE)):
        tone = "granted" if row.kind == "GRANTED" else "refused"
        into = [found]
        if by_door is not None:
            into.append(by_door.setdefault((row.unit, row.door), _empty()))
        for name, _ in SCORES:
            value = getattr(row, name)
            if value is not None:
                at = min(BINS - 1, max(0, int((value - LOW) / (HIGH - LOW) * BINS)))
                for one in into:
                    one[name][tone][at] += 1
    return found


def _empty() -> Histograms:
    return {name: {"granted": [0] * BINS, "refused": [0] * BINS} for name, _ in SCORES}


def median(bins: Sequence[int]) -> float | None:
    """The middle of a histogram; None when it is empty."""
    total, seen = sum(bins), 0
    for number, times in enumerate(bins):
        seen += times
        if total and seen * 2 >= total:
            return LOW + (number + 0.5) * (HIGH - LOW) / len(bins)
    return None


def troubles(db: Connection, viewer: Viewer, since_ms: int, zone: dt.tzinfo) -> list[DoorTrouble]:
    """Doors that refuse the right people most, worst first."""
    query = (
        sa.select(events.c.unit, events.c.door, events.c.kind, events.c.person, events.c.time_ms)
        .where(events.c.time_ms >= since_ms, events.c.person.is_not(None))
        .where(events.c.kind.in_(("GRANTED", *HEARING)), within(viewer.scopes, events.c.unit, events.c.door))
        .order_by(events.c.time_ms)
        .limit(200_000)
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
