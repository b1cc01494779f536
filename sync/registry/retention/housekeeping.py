"""Deletes what the registry keeps beside the log: alarms dealt with, refusals, old commands.

Nothing here is under a signature, so nothing needs a record of its own; how much went is told. An alarm that
nobody has looked at stays, however old it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from sync.errors import SyncError
from sync.registry.database.schema import alarms, commands, deliveries, refusals
from sync.registry.database.store import Store, day_of

DAY_MS = 86_400_000
LEAST_DAYS = 30
"""A night's alarms are still discussed a week later, and a command lives up to a day."""
BATCH = 2000
KEPT = ("lock_down", "end_lock_down", "report_health")


@dataclass(frozen=True, slots=True)
class Tidied:
    """How many rows went."""

    alarms: int
    refusals: int
    commands: int


def tidy(store: Store, days: int, now_ms: int) -> Tidied:
    """Delete what is older than `days`: acknowledged alarms with their deliveries, counts of refusals, and
    commands that have expired. The newest of each unit stays, for its counter continues from there, and so do
    lock-downs, their ends and drills: what is in force is read from them.

    In small batches: nobody waits for it. Raises SyncError for fewer than `LEAST_DAYS`.
    """
    if days < LEAST_DAYS:
        raise SyncError(f"alarms, refusals and commands are kept for at least {LEAST_DAYS} days")
    before_ms = now_ms - days * DAY_MS
    old_alarms = (alarms.c.last_ms < before_ms, alarms.c.acknowledged_ms.is_not(None))
    gone_alarms = 0
    while True:
        with store.transaction() as db:
            batch = list(db.execute(sa.select(alarms.c.id).where(*old_alarms).limit(BATCH)).scalars())
            if not batch:
                break
            db.execute(sa.delete(deliveries).where(deliveries.c.alarm.in_(batch)))
            db.execute(sa.delete(alarms).where(alarms.c.id.in_(batch)))
            gone_alarms += len(batch)
    with store.transaction() as db:
        old = sa.delete(refusals).where(refusals.c.day < day_of(before_ms))
        gone_refusals = db.execute(old).rowcount
    newest = sa.select(sa.func.max(commands.c.counter).label("counter"), commands.c.unit)
    gone_commands = 0
    while True:
        with store.transaction() as db:
            last = {row.unit: row.counter for row in db.execute(newest.group_by(commands.c.unit))}
            over = (commands.c.expires_ms < before_ms, commands.c.action.not_in(KEPT))
            query = sa.select(commands.c.unit, commands.c.counter).where(*over)
            keys = [
                (row.unit, row.counter)
                for row in db.execute(query.limit(BATCH + len(last)))
                if row.counter != last[row.unit]
            ]
            if not keys:
                return Tidied(gone_alarms, gone_refusals, gone_commands)
            for unit, counter in keys:
                here = (commands.c.unit == unit, commands.c.counter == counter)
                db.execute(sa.delete(commands).where(*here))
            gone_commands += len(keys)
