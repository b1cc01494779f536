"""Claims and TPMs in the registry's database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection

from sync.errors import SyncError
from sync.events import UnitId
from sync.fleet.provisioning.tpm.proof import read_key
from sync.registry.database.alarm_rows import on_record
from sync.registry.database.schema import certificates, claims, identities, in_service, units
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn


def add_claim(
    store: Store,
    digest: str,
    unit: UnitId,
    *,
    door: str,
    parcel: bytes,
    expected: str | None,
    account: str,
    now: dt.datetime,
    lasts: dt.timedelta,
) -> None:
    """Keep a claim by its digest. An unused one for the same unit is withdrawn.

    Raises SyncError for a unit that has a TPM, unless the claim is for that TPM.
    """
    now_ms = milliseconds(now)
    with store.transaction() as db:
        take_turn(db, Turn.CLAIMS)  # of two desks the later one's claim counts
        known = identity_of(db, unit)
        if known is not None and expected != known.tpm:
            raise SyncError(
                f"{unit} is in service; for another TPM: ostiary fleet replace {unit}; "
                f"to set up the same one again: --tpm {known.tpm}"
            )
        unused = (claims.c.unit == unit, claims.c.used_ms.is_(None), claims.c.withdrawn_ms.is_(None))
        db.execute(sa.update(claims).where(*unused).values(withdrawn_ms=now_ms))
        row = {
            "digest": digest,
            "unit": unit,
            "door": door,
            "account": account,
            "made_ms": now_ms,
            "expires_ms": milliseconds(now + lasts),
            "expected": expected,
            "parcel": parcel,
        }
        db.execute(sa.insert(claims).values(row))
        on_record(db, account, "claim", 1, now_ms, subject=f"claim for {unit}, door {door}")


def admitted(store: Store) -> Sequence[sa.Row[Any]]:
    """Every unit's TPM in service, with its newest certificate's end (`expires_ms`), by unit."""
    newest = (
        sa.select(
            certificates.c.unit,
            certificates.c.tpm,
            sa.func.max(certificates.c.expires_ms).label("expires_ms"),
        )
        .group_by(certificates.c.unit, certificates.c.tpm)
        .subquery()
    )
    same = sa.and_(newest.c.unit == identities.c.unit, newest.c.tpm == identities.c.tpm)
    query: sa.Select[Any] = sa.select(*identities.c, newest.c.expires_ms, units.c.revoked_ms)
    query = query.select_from(
        identities.outerjoin(newest, same).join(units, units.c.unit == identities.c.unit)
    )
    with store.reading() as db:
        return db.execute(query.where(in_service).order_by(identities.c.unit)).all()


def open_claims(store: Store, now_ms: int) -> Sequence[sa.Row[Any]]:
    """Claims that can still be redeemed, oldest first."""
    query = sa.select(claims).where(
        claims.c.used_ms.is_(None), claims.c.withdrawn_ms.is_(None), claims.c.expires_ms > now_ms
    )
    with store.reading() as db:
        return db.execute(query.order_by(claims.c.made_ms)).all()


def identity_of(db: Connection, unit: UnitId) -> sa.Row[Any] | None:
    """The TPM that is `unit` now."""
    return db.execute(sa.select(identities).where(identities.c.unit == unit, in_service)).one_or_none()


def proved_exchange(db: Connection, unit: UnitId) -> ec.EllipticCurvePublicKey | None:
    """The exchange key that the unit's TPM certified; None where no TPM did. Raises ProofError."""
    known = identity_of(db, unit)
    if known is None or known.exchange is None:
        return None
    return read_key(bytes(known.exchange), "exchange").p256()


def milliseconds(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1000)
