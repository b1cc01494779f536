"""What the anomaly detector reads and remembers, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.registry.database.schema import access, door_hours, events, watermarks
from sync.registry.database.store import Store


def arrived(db: Connection, after_ms: int, until_ms: int) -> Sequence[Any]:
    """Events received in (after, until], as the rules see them: ids, never bodies."""
    columns = (*(events.c[name] for name in ("unit", "sequence", "door", "kind", "person", "received_ms")),)
    query = (
        sa.select(*columns, events.c.time_ms, events.c.silent_alarm)
        .where(events.c.received_ms > after_ms, events.c.received_ms <= until_ms)
        .order_by(events.c.received_ms, events.c.unit, events.c.sequence)
    )
    return db.execute(query).all()


def watermark(db: Connection, name: str) -> int | None:
    value = db.execute(sa.select(watermarks.c.received_ms).where(watermarks.c.name == name)).scalar()
    return int(value) if value is not None else None


def set_watermark(store: Store, db: Connection, name: str, received_ms: int) -> None:
    row = store.upsert(watermarks).values(name=name, received_ms=received_ms)
    again = {"received_ms": received_ms}
    db.execute(row.on_conflict_do_update(index_elements=["name"], set_=again))


def add_door_hours(store: Store, db: Connection, counted: Mapping[tuple[str, str, int], int]) -> None:
    for (unit, door, hour), times in counted.items():
        row = store.upsert(door_hours).values(unit=unit, door=door, hour=hour, events=times)
        again = {"events": door_hours.c.events + times}
        db.execute(row.on_conflict_do_update(index_elements=["unit", "door", "hour"], set_=again))


def door_history(db: Connection, unit: str, door: str, hour: int, days: int) -> tuple[int, list[int]]:
    """Events in `hour`, and in the same hour of each of the `days` days before that the door has seen."""
    wanted = [hour - 24 * day for day in range(days + 1)]
    rows = db.execute(
        sa.select(door_hours.c.hour, door_hours.c.events).where(
            door_hours.c.unit == unit, door_hours.c.door == door, door_hours.c.hour.in_(wanted)
        )
    )
    known = {row.hour: row.events for row in rows}
    first = db.execute(
        sa.select(sa.func.min(door_hours.c.hour)).where(door_hours.c.unit == unit, door_hours.c.door == door)
    ).scalar()
    past = [known.get(h, 0) for h in wanted[1:] if first is not None and h >= first]
    return known.get(hour, 0), past


def access_since(db: Connection, since_ms: int) -> dict[str, int]:
    """Rows that each account read or exported."""
    query = sa.select(access.c.account, sa.func.sum(access.c.rows).label("total"))
    query = query.where(access.c.time_ms > since_ms).group_by(access.c.account)
    return {row.account: int(row.total) for row in db.execute(query)}
