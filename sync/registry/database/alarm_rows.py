"""Alarms and their deliveries, refusals, and the record of who read or did what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.registry.database.schema import access, alarms, deliveries, refusals
from sync.registry.database.transactions import Database
from sync.registry.verification import Alarm

MOST_AT_ONCE = 50


def day_of(time_ms: int) -> int:
    """yyyymmdd, UTC."""
    day = datetime.fromtimestamp(time_ms / 1000, UTC)
    return (day.year * 100 + day.month) * 100 + day.day


def on_record(
    db: Connection, account: str, action: str, rows: int, now_ms: int, subject: str | None = None
) -> None:
    """Who did what, in the transaction that does it: a change that is not on record is none."""
    row = {"account": account, "action": action, "rows": rows, "time_ms": now_ms, "subject": subject}
    db.execute(sa.insert(access).values(row))


class AlarmRows(Database):
    """Alarms count up while they are open; refusals are counts by day."""

    def raise_alarms(self, db: Connection, raised: Sequence[Alarm], now_ms: int) -> None:
        """Count up what is open; what was acknowledged and happens again is a new alarm."""
        if not raised:
            return
        lasting = [alarm.dedupe for alarm in raised if alarm.lasting]
        looked_at = sa.and_(alarms.c.dedupe.in_(lasting), alarms.c.acknowledged_ms.is_not(None))
        known = set(db.execute(sa.select(alarms.c.dedupe).where(looked_at)).scalars()) if lasting else set()
        for alarm in raised:
            if alarm.dedupe in known:
                continue
            row = {
                "kind": alarm.kind,
                "severity": alarm.severity,
                "unit": alarm.unit,
                "site": alarm.unit.split("/")[0] if alarm.unit else alarm.site,
                "door": alarm.door,
                "dedupe": alarm.dedupe,
                "times": alarm.times,
                "raised_ms": now_ms,
                "last_ms": now_ms,
                "evidence": json.dumps(alarm.evidence, sort_keys=True),
            }
            again = {"times": alarms.c.times + alarm.times, "last_ms": now_ms, "evidence": row["evidence"]}
            added = self.upsert(alarms).values(row)
            db.execute(
                added.on_conflict_do_update(
                    index_elements=["dedupe"], index_where=alarms.c.acknowledged_ms.is_(None), set_=again
                )
            )

    def count_refusals(self, db: Connection, counted: dict[tuple[str, str], int], now_ms: int) -> None:
        """`counted` maps (reason, unit or '') to how often."""
        for (reason, unit), times in counted.items():
            row = {
                "day": day_of(now_ms), "reason": reason, "unit": unit, "times": times, "last_ms": now_ms,
            }  # fmt: skip
            again = {"times": refusals.c.times + times, "last_ms": now_ms}
            db.execute(
                self.upsert(refusals)
                .values(row)
                .on_conflict_do_update(index_elements=["day", "reason", "unit"], set_=again)
            )

    def undelivered(self, sink: str) -> list[dict[str, Any]]:
        """Up to `MOST_AT_ONCE` alarms that this sink has not got: critical ones first, then the oldest."""
        got = sa.and_(deliveries.c.alarm == alarms.c.id, deliveries.c.sink == sink)
        rank = sa.case({"critical": 0, "warning": 1}, value=alarms.c.severity, else_=2)
        query = (
            sa.select(alarms).where(~sa.exists().where(got)).order_by(rank, alarms.c.id).limit(MOST_AT_ONCE)
        )
        with self.reading() as db:
            return [{**row._mapping, "evidence": json.loads(row.evidence)} for row in db.execute(query)]

    def mark_delivered(self, alarm_id: int, sink: str, now_ms: int) -> None:
        with self.transaction() as db:
            row = self.upsert(deliveries).values(alarm=alarm_id, sink=sink, sent_ms=now_ms)
            db.execute(row.on_conflict_do_nothing())
            first = sa.and_(alarms.c.id == alarm_id, alarms.c.sent_ms.is_(None))
            db.execute(sa.update(alarms).where(first).values(sent_ms=now_ms))

    def log_access(
        self, account: str, action: str, rows: int, now_ms: int, subject: str | None = None
    ) -> None:
        """Who is about to read or export how much of what: reading the log is itself on record."""
        with self.transaction() as db:
            on_record(db, account, action, rows, now_ms, subject)
