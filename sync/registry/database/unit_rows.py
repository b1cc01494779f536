"""Units as the registry knows them: keys, how far each log is known, health, what each should be."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.errors import SyncError
from sync.events import UnitId
from sync.registry.database.engine import StoreError
from sync.registry.database.membership import retire
from sync.registry.database.schema import facts, units
from sync.registry.database.transactions import Database
from sync.registry.verification import Position

_POSITION = [field.name for field in dataclasses.fields(Position)]
"""Columns of the same names."""
_values: Callable[[Position], tuple[Any, ...]] = operator.attrgetter(*_POSITION)
_LOCKED = ", ".join((*_POSITION, "public_key", "revoked_ms", "seen_ms"))


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A unit as the ingest workers need it."""

    position: Position
    public_key: bytes
    revoked: bool
    seen_ms: int = 0
    """When its last batch was stored."""


class UnitRows(Database):
    """Who may send, and from where on."""

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
        mark, lock = ("%s", " FOR UPDATE") if self._postgresql else ("?", "")
        marks = ", ".join([mark] * len(names))
        # The driver's own form, here and below: with each round a statement builder would build the same.
        query = f"SELECT {_LOCKED} FROM units WHERE unit IN ({marks}) ORDER BY unit{lock}"  # noqa: S608 - constant text
        found = {}
        for row in db.exec_driver_sql(query, tuple(names)):
            unit, size, link, frontier, head_hash, *numbers, public_key, revoked_ms, seen_ms = row
            tree = bytes(frontier) if frontier is not None else None
            position = Position(unit, size, bytes(link), tree, bytes(head_hash), *numbers)
            found[position.unit] = UnitRow(position, bytes(public_key), revoked_ms is not None, seen_ms or 0)
        return found

    def save_positions(self, db: Connection, positions: Sequence[tuple[Position, int, int]]) -> None:
        """Move units on from the size they had (guarded: a second writer would be an error, not a merge).

        `positions` are the new one, the size before, and when its events were received.
        """
        if not positions:
            return
        mark = "%s" if self._postgresql else "?"
        changes = ", ".join(f"{name} = {mark}" for name in (*_POSITION[1:], "seen_ms"))
        guard = f"unit = {mark} AND size = {mark}"
        statement = f"UPDATE units SET {changes}, backlog_ms = NULL WHERE {guard}"  # noqa: S608 - constant text
        rows = [
            (*_values(position)[1:], received_ms, position.unit, before)
            for position, before, received_ms in positions
        ]
        if db.exec_driver_sql(statement, rows).rowcount not in (len(rows), -1):
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

    def newest_ms(self) -> int:
        """When anything of any unit was last stored; 0 before that."""
        newest = sa.select(sa.func.max(units.c.seen_ms), sa.func.max(units.c.health_ms))
        with self.reading() as db:
            return max(told or 0 for told in db.execute(newest).one())

    def told_times(self) -> dict[UnitId, int]:
        """What time it was, in the newest that each unit has signed: an event, or its health."""
        with self.reading() as db:
            rows = db.execute(sa.select(units.c.unit, units.c.event_ms, units.c.health)).all()
        healths = {row.unit: json.loads(row.health) if row.health else {} for row in rows}
        return {
            UnitId(row.unit): newest
            for row in rows
            if (newest := max(row.event_ms, healths[row.unit].get("time_ms") or 0))
        }

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
