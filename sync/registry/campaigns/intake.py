"""Takes prints from units: checks that each belongs to an event, and puts it where it belongs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection

from sync.errors import ProofError
from sync.events import UnitId
from sync.proofs.bundle import key_from_bytes
from sync.registry.campaigns.grouping import Limits, added, as_values, centre, nearest
from sync.registry.database.campaign_tables import campaigns, honest, prints, reports
from sync.registry.database.schema import events
from sync.registry.database.store import Store
from sync.threats.prints import VALUES, Print, SealedPrint, numbers, open_print

SPOOFED = frozenset({"DENIED_SPOOF", "DENIED_REPLAY", "DENIED_VOICE"})
"""Attempts that may begin a campaign."""
FAILED = SPOOFED | {"DENIED_PHRASE", "LOCKOUT_MAX_ATTEMPTS", "STEP_UP"}
"""Attempts that may belong to one."""
KEPT_DAYS = 30
_LOCK = 7216354


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
        self._keys: dict[UnitId, bytes] = {}

    def take(self, unit: UnitId, payload: bytes) -> bytes | None:
        """Keep a print; its name, by which the unit may forget it. None while its event is not here yet.

        Raises MalformedError, ProofError, or StoreError: then nothing was kept.
        """
        sealed = open_print(payload, self._public_key(unit), unit)
        found = sealed.opened(self._key)
        with self._store.transaction() as db:
            lock(db)
            if db.execute(sa.select(prints.c.unit).where(_named(sealed))).first() is not None:
                return sealed.name()
            if sealed.sequence == 0:
                self.keep_honest(db, unit, found)
                self._note(db, sealed, None, None)
                return sealed.name()
            kind = _kind(db, sealed)
            if kind is None:
                return None
            if kind not in FAILED or _told_before(db, sealed):
                self._note(db, sealed, None, None)  # one event has one print, and only a failed attempt's
                return sealed.name()
            number, alike = self.place(db, unit, found, begins=kind in SPOOFED)
            self._note(db, sealed, number, alike)
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

    def place(self, db: Connection, unit: UnitId, found: Print, *, begins: bool) -> tuple[int | None, int]:
        """(campaign, likeness to it as it was). A campaign that this print begins it is wholly alike to."""
        open_ones = sa.select(campaigns.c.id, campaigns.c.centre).where(campaigns.c.model == found.model)
        number, alike = nearest(found.values, [(row.id, bytes(row.centre)) for row in db.execute(open_ones)])
        if alike >= self._limits.joins:
            self._join(db, number, unit, found)
            return number, alike
        if not begins:
            return None, alike
        return self._begin(db, unit, found), 1000

    def _begin(self, db: Connection, unit: UnitId, found: Print) -> int:
        self._make_room(db, unit)
        now_ms = self._now_ms()
        row = {
            "model": found.model,
            "centre": as_values(numbers(found.values)),
            "times": 1,
            "reporters": 1,
            "first_ms": now_ms,
            "last_ms": now_ms,
            "likeness": self._limits.joins,
            "state": "forming",
            "origin": "",
        }
        number: int = db.execute(sa.insert(campaigns).values(**row).returning(campaigns.c.id)).scalar_one()
        sums = json.dumps(added([0] * VALUES, found.values))
        db.execute(sa.insert(reports).values(campaign=number, unit=unit, times=1, counted=1, sums=sums))
        return number

    def _join(self, db: Connection, number: int, unit: UnitId, found: Print) -> None:
        limits = self._limits
        mine = (reports.c.campaign == number, reports.c.unit == unit)
        known = db.execute(sa.select(reports).where(*mine)).one_or_none()
        campaign = db.execute(sa.select(campaigns).where(campaigns.c.id == number)).one()
        if known is None:
            values = {"campaign": number, "unit": unit, "times": 1, "counted": 1}
            sums = json.dumps(added([0] * VALUES, found.values))
            db.execute(sa.insert(reports).values(**values, sums=sums))
        else:
            values = {"times": known.times + 1}
            if known.counted < limits.counted:
                sums = json.dumps(added(json.loads(known.sums), found.values))
                values |= {"counted": known.counted + 1, "sums": sums}
            db.execute(sa.update(reports).where(*mine).values(**values))
        changed = {
            "times": campaign.times + 1,
            "reporters": campaign.reporters + (known is None),
            "last_ms": self._now_ms(),
        }
        # A centre that units go by, or that many units agree on, stays: nobody walks it away.
        if campaign.state == "forming" and campaign.reporters < limits.settled and campaign.origin == "":
            rows = db.execute(
                sa.select(reports.c.sums, reports.c.counted).where(reports.c.campaign == number)
            )
            changed["centre"] = centre((json.loads(row.sums), row.counted) for row in rows)
        db.execute(sa.update(campaigns).where(campaigns.c.id == number).values(**changed))

    def _make_room(self, db: Connection, unit: UnitId) -> None:
        """A unit that reports many new things makes room among its own; no other campaign goes for it."""
        forming = campaigns.c.state == "forming"
        alone = (
            sa.select(campaigns.c.id)
            .join(reports, reports.c.campaign == campaigns.c.id)
            .where(forming, campaigns.c.reporters == 1, campaigns.c.origin == "", reports.c.unit == unit)
            .order_by(campaigns.c.last_ms, campaigns.c.id)
        )
        mine = list(db.execute(alone).scalars())
        drop(db, mine[: max(0, len(mine) - self._limits.alone + 1)])
        count = db.execute(sa.select(sa.func.count()).select_from(campaigns)).scalar_one()
        if count >= self._limits.campaigns:
            oldest = (
                sa.select(campaigns.c.id).where(forming).order_by(campaigns.c.reporters, campaigns.c.last_ms)
            )
            drop(db, list(db.execute(oldest.limit(count - self._limits.campaigns + 1)).scalars()))

    def keep_honest(self, db: Connection, unit: UnitId, found: Print) -> None:
        """A few of each unit, its oldest go; then of whichever unit has the most."""
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


def drop(db: Connection, numbers_: list[int]) -> None:
    """Forget campaigns."""
    if numbers_:
        db.execute(sa.delete(reports).where(reports.c.campaign.in_(numbers_)))
        db.execute(sa.delete(campaigns).where(campaigns.c.id.in_(numbers_)))


def lock(db: Connection) -> None:
    """One at a time: two workers would begin one campaign twice. SQLite has one writer anyway."""
    if db.dialect.name == "postgresql":
        db.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


def _named(sealed: SealedPrint) -> sa.ColumnElement[bool]:
    return sa.and_(prints.c.unit == sealed.unit, prints.c.name == sealed.name())


def _told_before(db: Connection, sealed: SealedPrint) -> bool:
    event = (prints.c.unit == sealed.unit, prints.c.sequence == sealed.sequence)
    return db.execute(sa.select(prints.c.unit).where(*event)).first() is not None


def _kind(db: Connection, sealed: SealedPrint) -> str | None:
    """What the event of a print says became of the attempt; None when the event is not here."""
    event = (events.c.unit == sealed.unit, events.c.sequence == sealed.sequence)
    row = db.execute(sa.select(events.c.kind, events.c.attempt).where(*event)).one_or_none()
    return None if row is None else str(row.kind) if row.attempt is not None else ""
