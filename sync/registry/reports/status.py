"""States of units, alarms, accesses: computed from stored facts and a given time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from sync.registry.database.alarm_rows import on_record
from sync.registry.database.schema import access, alarms, refusals, units
from sync.registry.database.store import Store

MOST_ALARMS = 200
SILENT_AFTER_MS = 3 * 60_000
AHEAD_MS = 3_600_000
"""The asker's clock may be behind the workers' by as much."""

UnitState = Literal["new", "online", "silent", "offline", "revoked"]


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """One unit as of a moment."""

    unit: str
    site: str
    state: UnitState
    size: int
    seen_ms: int | None
    health_ms: int | None
    health: dict[str, Any]
    drifted: dict[str, tuple[Any, Any]]
    """Name -> (desired, reported), where these differ."""
    backlog_ms: int | None = None
    """Since when it has reported events of which none has come."""

    @property
    def heard_ms(self) -> int:
        """When the unit was last heard, by our clock; 0 for never."""
        return max(self.seen_ms or 0, self.health_ms or 0)

    @property
    def clock_off_ms(self) -> int:
        """How far the unit's clock was ahead of ours in its last health message, delay included."""
        told = self.health.get("time_ms")
        if self.health_ms is None or told is None or self.health.get("state") == "offline":
            return 0
        return int(told) - self.health_ms


def unit_statuses(store: Store, now_ms: int) -> list[UnitStatus]:
    with store.reading() as db:
        rows = db.execute(sa.select(units).order_by(units.c.unit)).all()
    return [unit_status(row, now_ms) for row in rows]


def open_alarms(store: Store) -> list[dict[str, Any]]:
    """The newest `MOST_ALARMS` alarms that nobody has acknowledged, newest first."""
    query = sa.select(alarms).where(alarms.c.acknowledged_ms.is_(None))
    with store.reading() as db:
        rows = db.execute(query.order_by(alarms.c.id.desc()).limit(MOST_ALARMS)).all()
    return [{**row._mapping, "evidence": json.loads(row.evidence)} for row in rows]


def acknowledge(store: Store, alarm_id: int, account: str, now_ms: int) -> bool:
    """Mark an alarm as seen by `account`; False where it does not exist or was acknowledged before."""
    with store.transaction() as db:
        done = db.execute(
            sa.update(alarms)
            .where(alarms.c.id == alarm_id, alarms.c.acknowledged_ms.is_(None))
            .values(acknowledged_ms=now_ms, acknowledged_by=account)
        )
        if done.rowcount == 1:
            on_record(db, account, "acknowledge", 1, now_ms, f"alarm {alarm_id}")
    return done.rowcount == 1


def accesses(store: Store, account: str | None = None, limit: int = 200) -> list[dict[str, Any]]:
    """Who read, exported or acknowledged what, newest first; `time` is UTC, in words."""
    query = sa.select(access).order_by(access.c.id.desc()).limit(limit)
    if account is not None:
        query = query.where(access.c.account == account)
    with store.reading() as db:
        rows = [dict(row._mapping) for row in db.execute(query)]
    for row in rows:
        row["time"] = datetime.fromtimestamp(row["time_ms"] / 1000, UTC).isoformat(timespec="seconds")
    return rows


def refusal_counts(store: Store) -> list[dict[str, Any]]:
    """What was refused, by day, reason and unit, newest first."""
    with store.reading() as db:
        rows = db.execute(sa.select(refusals).order_by(refusals.c.last_ms.desc())).all()
    return [dict(row._mapping) for row in rows]


def unit_status(row: Any, now_ms: int) -> UnitStatus:
    """One unit from its row of `units`."""
    health = json.loads(row.health) if row.health else {}
    heard = [told for told in (row.seen_ms, row.health_ms) if told]
    # A stamp of days to come was written by a clock that was wrong: nobody was heard of then.
    last = max((told for told in heard if told - now_ms <= AHEAD_MS), default=0)
    state: UnitState
    if row.revoked_ms is not None:
        state = "revoked"
    elif not heard:
        state = "new"
    elif health.get("state") in ("offline", "stopped") and (row.health_ms or 0) >= (row.seen_ms or 0):
        state = "offline"
    elif now_ms - last > max(SILENT_AFTER_MS, 3000 * (health.get("every_s") or 0)):
        state = "silent"
    else:
        state = "online"
    drift = _drift(row.desired, health)
    known = (row.size, row.seen_ms, row.health_ms, health)
    return UnitStatus(row.unit, row.site, state, *known, drift, row.backlog_ms)


def _drift(desired: str | None, health: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    facts = health.get("facts")
    reported = facts if isinstance(facts, dict) else {}
    wanted = json.loads(desired) if desired else {}
    return {
        name: (value, reported.get(name)) for name, value in wanted.items() if reported.get(name) != value
    }
