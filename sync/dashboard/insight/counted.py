"""Figures of the checks at every door, counted once an hour by one worker, so that a page that sums them up
costs as little over ten million events as over ten thousand.

Counted are all events of the window, not a sample; the page says when. A unit that brings old events is in
the next count.
"""

from __future__ import annotations

import datetime as dt
import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts.rights import Viewer, within
from sync.dashboard.insight import figures
from sync.dashboard.insight.figures import DoorTrouble, Histograms
from sync.dashboard.schema import door_figures, stamps
from sync.registry.database.store import Store

DAY_MS = 86_400_000
WINDOW_MS = 30 * DAY_MS
TROUBLE_MS = 7 * DAY_MS
EVERY_MS = 3_600_000
STAMP = "figures"
MOST_ROWS = 500
"""Rows in one INSERT."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one account may see of the last count."""

    counted_ms: int
    now: Histograms
    """All doors together, 30 days before the count."""
    before: Histograms
    """The same for the 30 days before those."""
    by_door: dict[tuple[str, str], Histograms]
    """(unit, door): `now` of each door."""
    troubles: list[DoorTrouble]
    """Doors of the last seven days, the worst first."""


def count(store: Store, zone: dt.tzinfo, now_ms: int) -> None:
    """Count anew, in place of what was counted before; `zone` is where the hours of the day are told."""
    with store.reading() as db:
        now = figures.histograms(db, now_ms - WINDOW_MS, now_ms + DAY_MS)
        before = figures.histograms(db, now_ms - 2 * WINDOW_MS, now_ms - WINDOW_MS)
        troubles = {(t.unit, t.door): t for t in figures.troubles(db, now_ms - TROUBLE_MS, zone)}
    rows = []
    for unit, door in sorted({*now, *before, *troubles}):
        trouble = troubles.get((unit, door))
        rows.append(
            {
                "unit": unit,
                "door": door,
                "counted_ms": now_ms,
                "attempts": trouble.attempts if trouble else 0,
                "wrongly": trouble.wrongly if trouble else 0,
                "worst_hour": trouble.worst_hour if trouble else None,
                "now": _packed(now.get((unit, door))),
                "before": _packed(before.get((unit, door))),
            }
        )
    with store.transaction() as db:
        db.execute(sa.delete(door_figures))
        for at in range(0, len(rows), MOST_ROWS):
            db.execute(sa.insert(door_figures), rows[at : at + MOST_ROWS])


def count_due(store: Store, zone: dt.tzinfo, now_ms: int) -> bool:
    """Count when the last count is an hour old; False when it is not, or another worker counts."""
    with store.reading() as db:
        last = db.execute(sa.select(stamps.c.value).where(stamps.c.name == STAMP)).scalar()
    if last is not None and now_ms - EVERY_MS < int(last) <= now_ms:
        return False
    with store.transaction() as db:
        if last is None:
            made = store.upsert(stamps).values(name=STAMP, value=str(now_ms)).on_conflict_do_nothing()
            claimed = db.execute(made.returning(stamps.c.name)).first() is not None
        else:
            mine = sa.update(stamps).where(stamps.c.name == STAMP, stamps.c.value == last)
            claimed = db.execute(mine.values(value=str(now_ms))).rowcount == 1
    if claimed:
        count(store, zone, now_ms)
    return claimed


def load(db: Connection, viewer: Viewer) -> Counted | None:
    """None before the first count."""
    mine = within(viewer.scopes, door_figures.c.unit, door_figures.c.door)
    rows = db.execute(sa.select(door_figures).where(mine)).all()
    if not rows:
        return None
    now, before, by_door = figures.empty(), figures.empty(), {}
    for row in rows:
        by_door[row.unit, row.door] = _unpacked(row.now, now)
        _unpacked(row.before, before)
    troubles = [DoorTrouble(r.unit, r.door, r.attempts, r.wrongly, r.worst_hour) for r in rows if r.attempts]
    troubles.sort(key=lambda door: (-door.share, -door.attempts))
    return Counted(rows[0].counted_ms, now, before, by_door, troubles)


def _packed(shapes: Histograms | None) -> str:
    """Bins without those that are empty at either end: [score][tone] = [first bin, *counts]."""
    if shapes is None:
        return ""
    return json.dumps({name: {tone: _ends_off(bins) for tone, bins in by_tone.items()} for name, by_tone in
                       shapes.items()}, separators=(",", ":"))  # fmt: skip


def _ends_off(bins: Sequence[int]) -> list[int]:
    full = [at for at, times in enumerate(bins) if times]
    return [full[0], *bins[full[0] : full[-1] + 1]] if full else []


def _unpacked(text: str, total: Histograms) -> Histograms:
    """What `_packed` made, and the same added to `total`."""
    found = figures.empty()
    for name, by_tone in json.loads(text).items() if text else ():
        for tone, (first, *counts) in ((tone, kept) for tone, kept in by_tone.items() if kept):
            here = slice(first, first + len(counts))
            found[name][tone][here] = counts
            total[name][tone][here] = map(operator.add, total[name][tone][here], counts)
    return found
