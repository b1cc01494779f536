"""Events, heads and gaps: what units wrote, as the registry holds it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.event_form import EventFields, UnitId
from sync.proofs.bundle import Gap
from sync.proofs.retention import RetentionRecord
from sync.registry.database.engine import StoreError, of_database, raw_errors
from sync.registry.database.schema import events, gaps, heads, requests, retained, retentions
from sync.registry.database.transactions import Database, Turn, take_turn

EVENT_COLUMNS = [column.name for column in events.columns]


def name_of(log: str) -> UnitId:
    """The unit whose log this is: its closed logs are called `site/unit~1` and so on."""
    return UnitId(log.partition("~")[0])


@functools.lru_cache(maxsize=1024)
def month_of(time_ms: int) -> int:
    """yyyymm, UTC."""
    day = datetime.fromtimestamp(time_ms / 1000, UTC)
    return day.year * 100 + day.month


class EventRows(Database):
    """Rows go in by one statement for all events of a round."""

    def add_events(self, db: Connection, records: Sequence[tuple[EventFields, bytes, int]]) -> None:
        """`records` are what an event says, its bytes, and when it was received."""
        if not records:
            return
        rows = [event_row(*record) for record in records]
        if not self._postgresql:
            marks = ", ".join("?" * len(EVENT_COLUMNS))
            db.exec_driver_sql(f"INSERT INTO events VALUES ({marks})", rows)  # noqa: S608 - constant text
            return
        for month in sorted({row[EVENT_COLUMNS.index("month")] for row in rows}):
            self._ensure_partition(db, month)
        raw = db.connection.driver_connection
        if raw is None:
            raise StoreError("the database connection is gone")
        try:
            with raw.cursor().copy(f"COPY events ({', '.join(EVENT_COLUMNS)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        except raw_errors() as err:
            raise StoreError(f"the registry's database failed: {of_database(err)}") from err

    def add_heads(self, db: Connection, rows: Mapping[tuple[UnitId, int], bytes], now_ms: int) -> None:
        """(unit, size) -> the signed head over that many events."""
        if rows:
            values = [(unit, size, cose, now_ms) for (unit, size), cose in rows.items()]
            mark = "%s" if self._postgresql else "?"
            columns = ", ".join(column.name for column in heads.columns)
            marks = ", ".join([mark] * len(heads.columns))
            # The driver's own form: there is nothing here for a statement builder to build.
            db.exec_driver_sql(f"INSERT INTO heads ({columns}) VALUES ({marks})", values)  # noqa: S608 - constant text

    def head_at(self, db: Connection, unit: UnitId, size: int) -> bytes | None:
        found = db.execute(sa.select(heads.c.cose).where(heads.c.unit == unit, heads.c.size == size)).scalar()
        return bytes(found) if found is not None else None

    def not_held(self, db: Connection, unit: UnitId, size: int) -> bool:
        """Whether event `size` is one that retention has taken, or that never came: see `gaps`."""
        found = db.execute(sa.select(retained.c.size).where(retained.c.unit == unit)).scalar()
        if found is not None and size < found:
            return True
        around = (gaps.c.unit == unit, gaps.c.missing_from <= size, gaps.c.first > size)
        return db.execute(sa.select(gaps.c.first).where(*around)).first() is not None

    def readmitted_by(self, db: Connection, unit: UnitId) -> str | None:
        """The two who let a unit begin a new log; None when nobody did."""
        query = sa.select(requests.c.account, requests.c.approved_by).where(
            requests.c.unit == unit, requests.c.action == "readmit", requests.c.approved_ms.is_not(None)
        )
        row = db.execute(query.order_by(requests.c.id.desc()).limit(1)).one_or_none()
        return f"{row.account}, {row.approved_by}" if row else None

    def begin_after(self, db: Connection, record: RetentionRecord, signed: bytes) -> None:
        """Begin a log whose first events are in an earlier one, on record: its tree is not known here."""
        state = {"unit": record.unit, "size": record.last, "chain": record.chain, "frontier": b""}
        db.execute(sa.insert(retained).values(state))
        noted = {"unit": record.unit, "size": record.last, "first": record.first, "account": record.account}
        db.execute(sa.insert(retentions).values(**noted, time_ms=record.time_ms, record=signed))

    def add_gaps(self, db: Connection, found: Sequence[tuple[UnitId, Gap]], now_ms: int) -> None:
        """Events that will never come, and where the log goes on."""
        if found:
            rows = [
                {
                    "unit": unit,
                    "first": gap.first,
                    "missing_from": gap.missing_from,
                    "chain": gap.chain,
                    "noticed_ms": now_ms,
                }
                for unit, gap in found
            ]
            db.execute(sa.insert(gaps), rows)

    def _ensure_partition(self, db: Connection, month: int) -> None:
        if month in self._partitions:
            return
        # Two workers meet at midnight: one makes it, the other waits for the lock and finds it there.
        take_turn(db, Turn.PARTITION)
        after = month + 1 if month % 100 < 12 else month + 89
        db.execute(
            sa.text(
                f"CREATE TABLE IF NOT EXISTS events_{month} PARTITION OF events"
                f" FOR VALUES FROM ({month}) TO ({after})"
            )
        )
        self._partitions.add(month)


def event_row(event: EventFields, body: bytes, received_ms: int) -> tuple[Any, ...]:
    return (
        event.unit,
        event.sequence,
        month_of(received_ms),
        received_ms,
        _as_text(event.event_id),
        event.time_ms,
        event.door,
        event.kind,
        event.reason,
        _as_text(event.attempt) if event.attempt is not None else None,
        _as_text(event.person) if event.person is not None else None,
        event.phrase_llr,
        event.speaker_llr,
        event.spoof_llr,
        event.keystore,
        body,
        1 if event.silent_alarm else None,
    )


def _as_text(raw: bytes) -> str:
    """An id of 16 bytes as everybody writes one."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
