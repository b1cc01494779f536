"""The one database module: SQLAlchemy on SQLite or PostgreSQL. A method is a transaction, or part of one."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from sync.bundle import Gap
from sync.errors import SyncError
from sync.events import Record, UnitId
from sync.registry.engine import StoreError, first_line, open_engine, raw_errors
from sync.registry.membership import retire
from sync.registry.schema import (
    access,
    alarms,
    deliveries,
    events,
    facts,
    gaps,
    heads,
    refusals,
    requests,
    retained,
    retentions,
    units,
)
from sync.registry.verification import Alarm, Position
from sync.retention import RetentionRecord

__all__ = ["Store", "StoreError", "UnitRow", "month_of"]

EVENT_COLUMNS = [column.name for column in events.columns]


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A unit as the ingest workers need it."""

    position: Position
    public_key: bytes
    revoked: bool
    seen_ms: int = 0
    """When its last batch was stored."""


def name_of(log: str) -> UnitId:
    """Whose log it is: a unit's closed logs are called `site/unit~1` and so on."""
    return UnitId(log.partition("~")[0])


@functools.lru_cache(maxsize=1024)
def month_of(time_ms: int) -> int:
    """yyyymm, UTC."""
    day = datetime.fromtimestamp(time_ms / 1000, UTC)
    return day.year * 100 + day.month


def day_of(time_ms: int) -> int:
    """yyyymmdd, UTC."""
    day = datetime.fromtimestamp(time_ms / 1000, UTC)
    return (day.year * 100 + day.month) * 100 + day.day


class Store:
    """The registry's memory. Share one between threads; every process opens its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(reading=True)
        if engine.dialect.name == "postgresql":
            # One snapshot for all queries of a transaction, as SQLite gives it: a log grows meanwhile.
            self._reader = self._reader.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        self._partitions: set[int] = set()
        self._postgresql = engine.dialect.name == "postgresql"

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Store:
        """Raises StoreError; unless `create`, also where there is no registry yet."""
        return cls(open_engine(url, create=create))

    @property
    def partitioned(self) -> bool:
        """Whether months are tables of their own (PostgreSQL)."""
        return self._postgresql

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One commit, or nothing. Raises StoreError when the database fails."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as err:
            # A partition made in a transaction that failed does not exist.
            self._partitions.clear()
            raise StoreError(f"the registry's database failed: {first_line(err)}") from err
        except BaseException:
            self._partitions.clear()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view that keeps no writer waiting. Raises StoreError when the database fails."""
        try:
            with self._reader.begin() as connection:
                yield connection
        except SQLAlchemyError as err:
            raise StoreError(f"the registry's database failed: {first_line(err)}") from err

    def remember_receipts_key(self, key: bytes) -> None:
        """Whose receipts (public key, DER) units believe here. Raises SyncError for another than before."""
        with self.transaction() as db:
            row = self.upsert(facts).values(name="receipts_key", value=key)
            db.execute(row.on_conflict_do_nothing())
        if self.receipts_key() != key:
            raise SyncError(
                "receipts of this registry are signed by another key, and units would refuse this one's; "
                "give --signing-key the file that the first worker was given"
            )

    def receipts_key(self) -> bytes | None:
        """The public key (DER) of this registry's receipts; None before the first worker."""
        with self.reading() as db:
            found = db.execute(sa.select(facts.c.value).where(facts.c.name == "receipts_key")).scalar()
        return bytes(found) if found is not None else None

    # -- units

    def register(self, unit: UnitId, public_key: bytes, now_ms: int) -> None:
        """Know a unit by its audit key (SubjectPublicKeyInfo, DER). Its key never changes under one name."""
        with self.transaction() as db:
            known = self.known(db, unit, public_key, now_ms)
        if bytes(known.public_key) != public_key:
            raise SyncError(f"{unit} is registered with another key; give the new unit a new name")

    def known(self, db: Connection, unit: UnitId, public_key: bytes, now_ms: int) -> Any:
        """The unit's row, made with `public_key` if there was none, and kept from others."""
        start = Position.start(unit)
        row = {
            "unit": unit,
            "site": unit.split("/")[0],
            "public_key": public_key,
            "registered_ms": now_ms,
            "size": 0,
            "chain": start.chain,
            "frontier": start.frontier,
            "head_hash": start.head_hash,
            **dict.fromkeys(("counter", "confirmed", "confirmed_ms", "boot", "event_ms", "monotonic_ms"), 0),
        }
        db.execute(self.upsert(units).values(row).on_conflict_do_nothing())
        wanted = sa.select(units.c.public_key, units.c.size, units.c.revoked_ms).where(units.c.unit == unit)
        return db.execute(wanted.with_for_update()).one()

    def revoke(self, unit: UnitId, now_ms: int) -> None:
        """Nothing more is taken from it: neither events, nor its certificates, nor a claim for it."""
        with self.transaction() as db:
            still = (units.c.unit == unit, units.c.revoked_ms.is_(None))
            done = db.execute(sa.update(units).where(*still).values(revoked_ms=now_ms))
            retire(db, unit, now_ms)
        if done.rowcount != 1:
            raise SyncError(f"{unit} is not registered, or revoked already")

    def public_keys(self) -> dict[UnitId, bytes]:
        with self.reading() as db:
            rows = db.execute(sa.select(units.c.unit, units.c.public_key))
            return {UnitId(row.unit): bytes(row.public_key) for row in rows}

    def lock_units(self, db: Connection, names: Sequence[UnitId]) -> dict[UnitId, UnitRow]:
        """The units' positions, kept from other workers until the transaction ends."""
        query = sa.select(units).where(units.c.unit.in_(names)).order_by(units.c.unit).with_for_update()
        found = {}
        for row in db.execute(query):
            position = Position(
                UnitId(row.unit),
                row.size,
                bytes(row.chain),
                bytes(row.frontier) if row.frontier is not None else None,
                bytes(row.head_hash),
                row.counter,
                row.confirmed,
                row.confirmed_ms,
                row.boot,
                row.event_ms,
                row.monotonic_ms,
            )
            found[position.unit] = UnitRow(
                position, bytes(row.public_key), row.revoked_ms is not None, row.seen_ms or 0
            )
        return found

    def save_positions(self, db: Connection, positions: Sequence[tuple[Position, int, int]]) -> None:
        """Move units on from the size they had (guarded: a second writer would be an error, not a merge).

        `positions` are the new one, the size before, and when its events were received.
        """
        if not positions:
            return
        statement = (
            sa.update(units)
            .where(units.c.unit == sa.bindparam("b_unit"), units.c.size == sa.bindparam("b_size"))
            .values(
                {
                    name: sa.bindparam(name)
                    for name in (
                        "size", "chain", "frontier", "head_hash", "counter", "confirmed", "confirmed_ms",
                        "boot", "event_ms", "monotonic_ms", "seen_ms",
                    )
                }
                | {"backlog_ms": sa.null()}
            )
        )  # fmt: skip
        rows = [
            {
                "b_unit": p.unit,
                "b_size": before,
                "size": p.size,
                "chain": p.chain,
                "frontier": p.frontier,
                "head_hash": p.head_hash,
                "counter": p.counter,
                "confirmed": p.confirmed,
                "confirmed_ms": p.confirmed_ms,
                "boot": p.boot,
                "event_ms": p.event_ms,
                "monotonic_ms": p.monotonic_ms,
                "seen_ms": received_ms,
            }
            for p, before, received_ms in positions
        ]
        if db.execute(statement, rows).rowcount not in (len(rows), -1):
            raise StoreError("another worker moved a unit at the same time; trying again")

    def save_health(self, reports: Mapping[UnitId, str], now_ms: int) -> None:
        """Keep the newest health message of each unit, in one commit; strangers have no row for it.

        One whose `counter` was heard before is no sign of life: it was played back.
        """
        number = sa.bindparam("number", type_=sa.BigInteger)
        held = sa.bindparam("held", type_=sa.BigInteger)
        statement = (
            sa.update(units)
            .where(units.c.unit == sa.bindparam("b_unit"), units.c.health_counter < number)
            .values(
                health=sa.bindparam("health"),
                health_ms=now_ms,
                health_counter=number,
                backlog_ms=sa.case((held > 0, sa.func.coalesce(units.c.backlog_ms, now_ms)), else_=None),
            )
        )
        rows = []
        # In one order everywhere: two workers that hear of the same units must not wait for each other.
        for unit in sorted(reports):
            told = json.loads(reports[unit])
            count, pending = told.get("counter") or now_ms, told.get("pending") or 0
            rows.append({"b_unit": unit, "health": reports[unit], "number": count, "held": pending})
        with self.transaction() as db:
            db.execute(statement, rows)

    def mark_offline(self, gone: Collection[UnitId], now_ms: int) -> None:
        """The broker has lost these units; what they said last stays."""
        with self.transaction() as db:
            for unit in sorted(gone):
                told = db.execute(
                    sa.select(units.c.health).where(units.c.unit == unit).with_for_update()
                ).scalar()
                health = {**(json.loads(told) if told else {}), "state": "offline"}
                state = {"health": json.dumps(health, sort_keys=True), "health_ms": now_ms}
                db.execute(sa.update(units).where(units.c.unit == unit).values(state))

    def desire(self, unit: UnitId, facts: Mapping[str, str]) -> None:
        """What a unit should report in its health message; anything else is drift."""
        with self.transaction() as db:
            done = db.execute(
                sa.update(units).where(units.c.unit == unit).values(desired=json.dumps(dict(facts)))
            )
        if done.rowcount != 1:
            raise SyncError(f"{unit} is not registered")

    # -- events and heads

    def add_events(self, db: Connection, records: Sequence[tuple[Record, bytes, int]]) -> None:
        """`records` are an event, its bytes, and when it was received."""
        if not records:
            return
        rows = [_event_row(record, body, received_ms) for record, body, received_ms in records]
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
            raise StoreError(f"the registry's database failed: {first_line(err)}") from err

    def add_heads(self, db: Connection, rows: Mapping[tuple[UnitId, int], bytes], now_ms: int) -> None:
        """(unit, size) -> the signed head over that many events."""
        if rows:
            values = [
                {"unit": unit, "size": size, "cose": cose, "received_ms": now_ms}
                for (unit, size), cose in rows.items()
            ]
            db.execute(sa.insert(heads), values)

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
        """A log whose first events are elsewhere, on record: its tree is not known here."""
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

    # -- what people must look at

    def raise_alarms(self, db: Connection, raised: Sequence[Alarm], now_ms: int) -> None:
        """Count up what is open; what was acknowledged and happens again is a new alarm."""
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
                "site": alarm.unit.split("/")[0] if alarm.unit else None,
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

    def undelivered(self, sink: str, limit: int = 50) -> list[dict[str, Any]]:
        """Alarms that this sink has not got yet: critical ones first, then the oldest."""
        got = sa.and_(deliveries.c.alarm == alarms.c.id, deliveries.c.sink == sink)
        rank = sa.case({"critical": 0, "warning": 1}, value=alarms.c.severity, else_=2)
        query = sa.select(alarms).where(~sa.exists().where(got)).order_by(rank, alarms.c.id).limit(limit)
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
        """Who read or exported how much of what: reading the log is itself on record."""
        row = {"account": account, "action": action, "rows": rows, "time_ms": now_ms, "subject": subject}
        with self.transaction() as db:
            db.execute(sa.insert(access).values(row))

    def forget_partitions(self) -> None:
        """After partitions were dropped, look before the next insert."""
        self._partitions.clear()

    # -- inside

    def upsert(self, table: sa.Table) -> Any:
        """An INSERT of this dialect, which knows ON CONFLICT."""
        return postgresql.insert(table) if self._postgresql else sqlite.insert(table)

    def _ensure_partition(self, db: Connection, month: int) -> None:
        if month in self._partitions:
            return
        # Two workers meet at midnight: one makes it, the other waits for the lock and finds it there.
        db.execute(sa.text("SELECT pg_advisory_xact_lock(7216354)"))
        after = month + 1 if month % 100 < 12 else month + 89
        db.execute(
            sa.text(
                f"CREATE TABLE IF NOT EXISTS events_{month} PARTITION OF events"
                f" FOR VALUES FROM ({month}) TO ({after})"
            )
        )
        self._partitions.add(month)


def _event_row(record: Record, body: bytes, received_ms: int) -> tuple[Any, ...]:
    event = record.event
    return (
        record.unit,
        record.sequence,
        month_of(received_ms),
        received_ms,
        str(event.event_id),
        event.time_ms,
        event.door,
        event.kind,
        event.reason,
        str(event.attempt) if event.attempt else None,
        str(event.person) if event.person else None,
        event.phrase_llr,
        event.speaker_llr,
        event.spoof_llr,
        event.keystore,
        body,
        1 if event.silent_alarm else None,
    )
