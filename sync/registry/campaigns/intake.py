"""Takes prints from units: checks that each belongs to an event, and puts it into its bout's campaign."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection

from sync.errors import ProofError
from sync.events import UnitId
from sync.proofs.bundle import key_from_bytes
from sync.registry.campaigns.bouts import Bout, Moment, Open, OpenBouts
from sync.registry.campaigns.grouping import Limits
from sync.registry.campaigns.placing import Placement
from sync.registry.database.campaign_tables import honest, prints
from sync.registry.database.schema import events
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn
from sync.threats.prints import Print, SealedPrint, open_print

SPOOFED = frozenset({"DENIED_SPOOF", "DENIED_REPLAY", "DENIED_VOICE"})
"""Attempts that may begin a campaign."""
FAILED = SPOOFED | {"DENIED_PHRASE", "LOCKOUT_MAX_ATTEMPTS", "STEP_UP"}
"""Attempts that may belong to one."""
GRANTED = "GRANTED"
KEPT_DAYS = 30


class Intake:
    """One worker has the tenant's private key and takes every print of the tenant's units."""

    def __init__(
        self,
        store: Store,
        tenant_key: ec.EllipticCurvePrivateKey,
        now_ms: Callable[[], int],
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._key = tenant_key
        self._now_ms = now_ms
        self._limits = limits or Limits()
        self._placement = Placement(now_ms, self._limits)
        self._open = OpenBouts()
        self._keys: dict[UnitId, bytes] = {}

    def take(self, unit: UnitId, payload: bytes) -> bytes | None:
        """Keep a print; its name, by which the unit may forget it. None while its event is not here yet.

        Raises MalformedError, ProofError, or StoreError: then nothing was kept.
        """
        sealed = open_print(payload, self._public_key(unit), unit)
        found = sealed.opened(self._key)
        with self._store.transaction() as db:
            take_turn(db, Turn.CAMPAIGNS)
            if db.execute(sa.select(prints.c.unit).where(_named(sealed))).first() is not None:
                return sealed.name()
            if sealed.sequence == 0:
                self.keep_honest(db, unit, found)
                self._note(db, sealed, None, None)
                return sealed.name()
            event = _event(db, sealed)
            if event is None:
                return None
            kind, at = event
            if kind not in FAILED or _told_before(db, sealed):
                self._note(db, sealed, None, None)  # one event has one print, and only a failed attempt's
                return sealed.name()
            goes_on = self._open.find(unit, found.model, at)
            if goes_on is None or _let_in_since(db, unit, goes_on.first, at):
                goes_on = Open(Bout(unit, found.model), at)
            bout, alike = self.place(db, goes_on.bout, found, begins=kind in SPOOFED)
            self._note(db, sealed, bout.campaign, alike)
            if bout.campaign != goes_on.bout.campaign and goes_on.names:
                moved = sa.update(prints).where(prints.c.unit == unit, prints.c.name.in_(goes_on.names))
                db.execute(moved.values(campaign=bout.campaign, likeness=alike))
        # In memory once the database has it: what failed is sent again.
        now_ms = self._now_ms()
        self._open.forget(now_ms)
        self._open.keep(Open(bout, goes_on.first, (*goes_on.names, sealed.name())), now_ms)
        return sealed.name()

    def _public_key(self, unit: UnitId) -> ec.EllipticCurvePublicKey:
        if unit not in self._keys:
            self._keys = self._store.public_keys()
        if unit not in self._keys:
            raise ProofError("unknown unit")
        return key_from_bytes(self._keys[unit])

    def _note(self, db: Connection, sealed: SealedPrint, number: int | None, alike: int | None) -> None:
        row = {
            "unit": sealed.unit,
            "name": sealed.name(),
            "sequence": sealed.sequence,
            "campaign": number,
            "likeness": alike,
            "taken_ms": self._now_ms(),
        }
        db.execute(sa.insert(prints).values(**row))

    def place(self, db: Connection, bout: Bout, found: Print, *, begins: bool) -> tuple[Bout, int]:
        """`bout` with one print more, in the campaign that it resembles now, and how much (thousandths)."""
        return self._placement.place(db, bout.with_print(found, begins=begins))

    def keep_honest(self, db: Connection, unit: UnitId, found: Print) -> None:
        """Keep the newest few prints of each unit; where all are too many, the oldest goes."""
        day = int(datetime.fromtimestamp(self._now_ms() / 1000, UTC).strftime("%Y%m%d"))
        row = {"model": found.model, "unit": unit, "values": found.values, "day": day}
        db.execute(sa.insert(honest).values(**row))
        here = sa.select(honest.c.id).where(honest.c.model == found.model, honest.c.unit == unit)
        ids = list(db.execute(here.order_by(honest.c.id.desc())).scalars())
        gone = ids[self._limits.honest_each :]
        total = db.execute(sa.select(sa.func.count()).select_from(honest)).scalar_one()
        if total - len(gone) > self._limits.honest:
            gone += list(db.execute(sa.select(honest.c.id).order_by(honest.c.id).limit(1)).scalars())
        if gone:
            db.execute(sa.delete(honest).where(honest.c.id.in_(gone)))


def _named(sealed: SealedPrint) -> sa.ColumnElement[bool]:
    return sa.and_(prints.c.unit == sealed.unit, prints.c.name == sealed.name())


def _told_before(db: Connection, sealed: SealedPrint) -> bool:
    event = (prints.c.unit == sealed.unit, prints.c.sequence == sealed.sequence)
    return db.execute(sa.select(prints.c.unit).where(*event)).first() is not None


def _event(db: Connection, sealed: SealedPrint) -> tuple[str, Moment] | None:
    """What the event of a print says became of the attempt, and when and for whom it was; None when the event
    is not here. What was no attempt has no kind."""
    columns = (events.c.kind, events.c.attempt, events.c.door, events.c.person, events.c.time_ms)
    event = (events.c.unit == sealed.unit, events.c.sequence == sealed.sequence)
    row = db.execute(sa.select(*columns).where(*event)).one_or_none()
    if row is None:
        return None
    kind = str(row.kind) if row.attempt is not None else ""
    return kind, Moment(row.door, row.person or "", sealed.sequence, row.time_ms)


def _let_in_since(db: Connection, unit: UnitId, first: Moment, at: Moment) -> bool:
    """Whether that person passed that door between two attempts."""
    before, after = sorted((first.sequence, at.sequence))
    granted = sa.select(events.c.sequence).where(
        events.c.unit == unit,
        events.c.sequence.between(before, after),
        events.c.door == at.door,
        events.c.person == at.person,
        events.c.kind == GRANTED,
    )
    return db.execute(granted.limit(1)).first() is not None
