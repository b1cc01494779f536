"""The fleet's enrolments: who, where, by which number, and what units state. Templates are enciphered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.errors import SyncError
from sync.events import MAX_SEQUENCE, UnitId
from sync.orders.desired import Enrolled, Gone, Held, Holding, Part, Receipt, Roster, Sealed, Share, Statement
from sync.registry.database.alarm_rows import on_record
from sync.registry.database.fleet_tables import cards, enrolments, envelopes, holdings, parts, passes
from sync.registry.database.schema import units
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn
from sync.registry.fleet.wanted import (
    TOLD,
    Wishes,
    keep_part,
    note_told,
    scope_of,
    scopes_of,
    tags_of_units,
    wishes,
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything about people, read in one go: a roster for each unit comes from it."""

    people: dict[str, Any]
    passes: dict[str, frozenset[str]]
    envelopes: dict[tuple[str, str], Any]
    holdings: dict[tuple[str, str], Any]
    cards: dict[str, bytes]
    scopes: dict[str, frozenset[str]]
    """Unit -> the scopes that it is in; without revoked units."""
    holders: dict[str, list[str]] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    """The number of the last document that each unit has said it applied, under its audit key."""

    @classmethod
    def read(cls, db: Connection) -> Fleet:
        tags = tags_of_units(db)
        live = db.execute(sa.select(units.c.unit).where(units.c.revoked_ms.is_(None))).scalars()
        allowed: dict[str, set[str]] = {}
        for row in db.execute(sa.select(passes)):
            allowed.setdefault(row.uid, set()).add(row.scope)
        fleet = cls(
            {row.uid: row for row in db.execute(sa.select(enrolments))},
            {uid: frozenset(found) for uid, found in allowed.items()},
            {(row.uid, row.unit): row for row in db.execute(sa.select(envelopes))},
            {(row.uid, row.unit): row for row in db.execute(sa.select(holdings))},
            {row.unit: bytes(row.certificate) for row in db.execute(sa.select(cards))},
            {unit: scopes_of(unit, tags.get(unit, frozenset())) for unit in live if "~" not in unit},
        )
        for row in db.execute(sa.select(units.c.unit, units.c.health).where(units.c.health.is_not(None))):
            fleet.reached[row.unit] = reached(row.health)
        for (uid, unit), row in sorted(fleet.holdings.items()):
            if row.gone_ms is None and unit in fleet.scopes:
                fleet.holders.setdefault(uid, []).append(unit)
        return fleet

    def may(self, uid: str, unit: str) -> bool:
        """Whether this person's enrolment belongs at that unit."""
        return bool(self.passes.get(uid, frozenset()) & self.scopes.get(unit, frozenset()))

    def sharer(self, row: Any) -> str | None:
        """The unit that seals this enrolment for others: where it was made, or else one that holds it."""
        if row.holder in self.scopes:
            return str(row.holder)
        able = (u for u in self.holders.get(row.uid, ()) if self.holdings[row.uid, u].number == row.number)
        return next(able, None)

    def roster(self, unit: str, now_ms: int) -> Roster | None:
        """Whom this unit should hold, seal and prove gone; None where nobody is enrolled by the fleet."""
        if unit not in self.cards:
            return None
        hold, share, gone = [], [], []
        for uid, row in sorted(self.people.items()):
            if row.forgotten_ms is not None:
                here = self.holdings.get((uid, unit))
                if here is None or here.gone_ms is None or here.number < row.number:
                    gone.append(Gone(uid, row.number))
                continue
            if now_ms >= row.until_ms:
                continue
            sealed = self.envelopes.get((uid, unit))
            if unit == row.holder:
                hold.append(Held(uid, row.number, None, row.version))
            elif self.may(uid, unit) and sealed is not None:
                hold.append(Held(uid, sealed.number, Part(bytes(sealed.sha256), sealed.size)))
            elif self.may(uid, unit) and self._has(uid, unit, row.number):
                hold.append(Held(uid, row.number, None))
            if unit == self.sharer(row):
                share += self._shares(row, unit)
        return Roster(tuple(hold), tuple(share), tuple(gone))

    def _has(self, uid: str, unit: str, number: int) -> bool:
        here = self.holdings.get((uid, unit))
        return here is not None and here.gone_ms is None and here.number == number

    def _shares(self, row: Any, unit: str) -> list[Share]:
        found = []
        for other, card in sorted(self.cards.items()):
            sealed = self.envelopes.get((row.uid, other))
            current = sealed is not None and sealed.number == row.number
            if other in (unit, row.holder) or current or not self.may(row.uid, other):
                continue
            found.append(Share(row.uid, row.number, UnitId(other), card))
        return found


def reached(health: str | None) -> int:
    """The number of the last document that a unit says it applied, from its health message."""
    told = json.loads(health or "{}").get("facts", {}).get("document", 0)
    return told if type(told) is int and 0 <= told < MAX_SEQUENCE else 0


def heard(store: Store, statement: Statement, now_ms: int) -> int:
    """Keep what a unit states; returns how many items were new. What it may not state changes nothing."""
    news = 0
    held = [item for item in statement.items if isinstance(item, Holding)]
    with store.transaction() as db:
        if held:
            take_turn(db, Turn.RECOVERY)  # the end of a recovery comes before this, or reads it
        fleet = Fleet.read(db) if any(isinstance(item, Sealed) for item in statement.items) else None
        for item in statement.items:
            if isinstance(item, Enrolled):
                news += _enrolled(db, statement.unit, item, now_ms)
            elif isinstance(item, Holding):
                news += _holding(db, statement.unit, item, now_ms)
            elif isinstance(item, Sealed) and fleet is not None:
                news += _sealed(db, fleet, statement.unit, item)
            elif isinstance(item, Receipt):
                news += _receipt(db, statement.unit, item, now_ms)
        if held:
            news += _told(db, statement.unit, held, now_ms)
    return news


def _wished(db: Connection, unit: UnitId) -> tuple[Wishes, frozenset[str]]:
    """(what is wanted, the scopes that the unit is in)."""
    return wishes(db), scopes_of(unit, tags_of_units(db).get(unit, frozenset()))


def _enrolled(db: Connection, unit: UnitId, item: Enrolled, now_ms: int) -> bool:
    wished, scopes = _wished(db, unit)
    if wished.of("enrols", scopes) is not True:
        return False  # a unit that may not enrol for others keeps whom it enrolled to itself
    row = db.execute(_locked(item.uid)).one_or_none()
    if row is not None and row.forgotten_ms is None and (row.holder, row.version) == (unit, item.version):
        return False
    if row is not None and row.forgotten_ms is not None:
        # Only a unit that has proved that it erased this person can have enrolled them anew since.
        here = (holdings.c.unit == unit, holdings.c.uid == item.uid, holdings.c.gone_ms.is_not(None))
        gone = db.execute(sa.select(holdings.c.number).where(*here)).scalar()
        if gone is None or gone < row.number:
            return False
    number = 1 if row is None else row.number + 1
    values = _values(item, unit, number, now_ms)
    if row is None:
        db.execute(sa.insert(enrolments).values(uid=item.uid, **values))
    else:
        db.execute(sa.update(enrolments).where(enrolments.c.uid == item.uid).values(**values))
    return True


def _values(item: Enrolled | Holding, unit: UnitId, number: int, now_ms: int) -> dict[str, object]:
    """The columns of an enrolment, but for whose it is."""
    return {
        "number": number,
        "holder": unit,
        "version": item.version,
        "model": item.model,
        "text_version": item.text_version,
        "purpose": item.purpose,
        "given_ms": item.given_ms,
        "until_ms": item.until_ms,
        "since_ms": now_ms,
        "forgotten_ms": None,
    }


def _holding(db: Connection, unit: UnitId, item: Holding, now_ms: int) -> bool:
    """Keep what a unit says it holds, while this registry recovers; at other times it changes nothing.

    A unit that may enrol for others brings an enrolment back. Another one is only noted to hold it, once such
    a unit has named the same number: so an attacker's unit cannot spread a voice by this.
    """
    wished, scopes = _wished(db, unit)
    if wished.of("recovering", scopes) is not True:
        return False
    row = db.execute(_locked(item.uid)).one_or_none()
    if row is not None and row.forgotten_ms is not None and item.number <= row.number:
        return False
    if wished.of("enrols", scopes) is True and (row is None or row.number < item.number):
        values = _values(item, unit, item.number, now_ms)
        db.execute(sa.delete(enrolments).where(enrolments.c.uid == item.uid))
        db.execute(sa.insert(enrolments).values(uid=item.uid, **values))
        return True
    if row is None or row.number != item.number or row.holder == unit:
        return False
    mine = (holdings.c.unit == unit, holdings.c.uid == item.uid)
    if db.execute(sa.select(holdings.c.number).where(*mine)).scalar() == item.number:
        return False
    db.execute(sa.delete(holdings).where(*mine))
    db.execute(sa.insert(holdings).values(unit=unit, uid=item.uid, number=item.number))
    scope = f"unit:{unit}"
    allowed = set(db.execute(sa.select(passes.c.scope).where(passes.c.uid == item.uid)).scalars())
    if not allowed & scopes:
        db.execute(sa.insert(passes).values(uid=item.uid, scope=scope))
    return True


def _told(db: Connection, unit: UnitId, held: Sequence[Holding], now_ms: int) -> bool:
    """Whether it is news that everybody whom a unit holds is known here, while this registry recovers.

    Until then the end of the recovery would have the unit erase somebody (`recovery.end`).
    """
    wished, scopes = _wished(db, unit)
    if wished.of("recovering", scopes) is not True:
        return False
    rows = db.execute(sa.select(enrolments.c.uid, enrolments.c.number))
    numbers = {str(row.uid): int(row.number) for row in rows}
    whole = all(numbers.get(item.uid, 0) >= item.number for item in held)
    if (wished.of(TOLD, frozenset({f"unit:{unit}"})) is True) is whole:
        return False
    note_told(db, unit, whole, now_ms)
    return True


def _sealed(db: Connection, fleet: Fleet, unit: UnitId, item: Sealed) -> bool:
    """Keep an envelope from the unit that was asked for it, for a unit and enrolment that were asked for."""
    row = fleet.people.get(item.uid)
    if row is None or row.forgotten_ms is not None or row.number != item.number:
        return False
    if fleet.sharer(row) != unit or item.target not in fleet.cards or not fleet.may(item.uid, item.target):
        return False
    before = fleet.envelopes.get((item.uid, item.target))
    if before is not None and before.number == item.number:
        return False
    _drop_envelopes(db, item.uid, item.target)
    part = keep_part(db, item.envelope)
    told = {"number": item.number, "sha256": part.sha256, "size": part.size}
    db.execute(sa.insert(envelopes).values(uid=item.uid, unit=item.target, **told))
    return True


def _receipt(db: Connection, unit: UnitId, item: Receipt, now_ms: int) -> bool:
    row = db.execute(_locked(item.uid)).one_or_none()
    if row is None or row.forgotten_ms is None or row.number != item.number:
        return False
    mine = (holdings.c.unit == unit, holdings.c.uid == item.uid)
    before = db.execute(sa.select(holdings).where(*mine)).one_or_none()
    if before is not None and before.gone_ms is not None and before.number >= item.number:
        return False
    db.execute(sa.delete(holdings).where(*mine))
    told = {"number": item.number, "gone_ms": now_ms, "proof": item.proof}
    db.execute(sa.insert(holdings).values(unit=unit, uid=item.uid, **told))
    return True


def note_holdings(db: Connection, unit: UnitId, roster: Roster) -> None:
    """Remember whom a unit was told to hold: it will owe a receipt for each."""
    columns = holdings.c.uid, holdings.c.number, holdings.c.gone_ms
    known = {row.uid: row for row in db.execute(sa.select(*columns).where(holdings.c.unit == unit))}
    news = [
        {"unit": unit, "uid": one.uid, "number": one.number}
        for one in roster.hold
        if (row := known.get(one.uid)) is None or row.gone_ms is not None or row.number != one.number
    ]
    stale = [{"old": one["uid"]} for one in news if one["uid"] in known]
    if stale:
        mine = (holdings.c.unit == unit, holdings.c.uid == sa.bindparam("old"))
        db.execute(sa.delete(holdings).where(*mine), stale)
    if news:
        db.execute(sa.insert(holdings), news)


def allow(store: Store, uid: str, scopes: frozenset[str], account: str, now_ms: int) -> None:
    """Which doors a person may use; none takes them off every unit but the one that enrolled them."""
    checked = sorted(map(scope_of, scopes))
    with store.transaction() as db:
        db.execute(sa.delete(passes).where(passes.c.uid == uid))
        for scope in checked:
            db.execute(sa.insert(passes).values(uid=uid, scope=scope))
        if not checked:
            _drop_envelopes(db, uid)
        on_record(db, account, "doors", len(checked), now_ms, uid)


def forget(store: Store, uid: str, account: str, now_ms: int) -> None:
    """Have every unit erase a person. Raises SyncError for somebody whom the fleet does not know."""
    with store.transaction() as db:
        row = db.execute(_locked(uid)).one_or_none()
        if row is None:
            raise SyncError("the fleet has enrolled nobody under this id; `ostiary forget` is for one unit")
        if row.forgotten_ms is None:
            db.execute(
                sa.update(enrolments).where(enrolments.c.uid == uid).values(forgotten_ms=now_ms, model="")
            )
        db.execute(sa.delete(passes).where(passes.c.uid == uid))
        _drop_envelopes(db, uid)
        on_record(db, account, "forget", 1, now_ms, uid)


def owing(db: Connection) -> list[tuple[str, str, int]]:
    """(unit, uid, since) of every receipt that has not come."""
    fleet = Fleet.read(db)
    found = []
    for uid, row in sorted(fleet.people.items()):
        if row.forgotten_ms is None:
            continue
        for unit in sorted(fleet.cards):
            here = fleet.holdings.get((uid, unit))
            if here is None or here.gone_ms is None or here.number < row.number:
                found.append((unit, uid, row.forgotten_ms))
    return found


def _drop_envelopes(db: Connection, uid: str, unit: str | None = None) -> None:
    mine = [envelopes.c.uid == uid, *([envelopes.c.unit == unit] if unit else [])]
    hashes = [bytes(h) for h in db.execute(sa.select(envelopes.c.sha256).where(*mine)).scalars()]
    if hashes:
        db.execute(sa.delete(parts).where(parts.c.sha256.in_(hashes)))
        db.execute(sa.delete(envelopes).where(*mine))


def _locked(uid: str) -> sa.Select[Any]:
    return sa.select(enrolments).where(enrolments.c.uid == uid).with_for_update()
