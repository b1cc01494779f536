"""Reads and writes in the registry's database which unit has which claim and TPM."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Connection

from sync.events import UnitId
from sync.fleet.provisioning.claims import identity_of, milliseconds
from sync.fleet.provisioning.recovery import recovering
from sync.fleet.provisioning.refusals import RefusedError, used
from sync.fleet.provisioning.tpm.ek_certificates import Graded
from sync.fleet.provisioning.tpm.proof import TpmKey
from sync.registry.database.schema import certificates, claims, identities, in_service, units
from sync.registry.database.store import Store
from sync.registry.verification import Alarm


@dataclass(frozen=True, slots=True)
class Shown:
    """The keys that a unit showed; `keys` are those of `messages.CERTIFIED`."""

    endorsement: TpmKey
    attestation: TpmKey
    keys: tuple[TpmKey, ...]
    graded: Graded | None = None
    """None where a unit that is known renews its certificate."""


@dataclass(frozen=True, slots=True)
class Session:
    """A challenge that waits for a unit's TPM to answer, until `until`."""

    unit: UnitId
    shown: Shown
    secret: bytes
    nonce: bytes
    until: dt.datetime
    claim: str = ""
    returns: str = ""
    """Serial number (hex) of the certificate of before the registry was lost, where it came with one."""

    @property
    def tpm(self) -> str:
        return self.shown.endorsement.digest()


def claim_of(db: Connection, digest: str, now: dt.datetime, *, keep: bool = False) -> sa.Row[Any]:
    """A claim that counts now, and with `keep` until the transaction ends. Raises RefusedError."""
    query = sa.select(claims).where(claims.c.digest == digest)
    row = db.execute(query.with_for_update() if keep else query).one_or_none()
    if row is None:
        raise RefusedError("foreign", "this site made no such claim; ask its desk for one")
    if row.withdrawn_ms is not None:
        raise RefusedError("withdrawn", "a newer claim was made for this unit; use that one")
    if row.expires_ms <= milliseconds(now):
        raise RefusedError("expired", f"the claim for {row.unit} has expired; ask the desk for a new one")
    return row


def check_return(db: Connection, unit: UnitId, serial: str) -> None:
    """Raises RefusedError unless somebody has begun a recovery and this certificate is not revoked."""
    if not recovering(db):
        raise RefusedError("unknown", "this site does not know the unit; the desk makes a claim for it")
    ended = sa.select(certificates.c.revoked_ms).where(certificates.c.serial == serial)
    if db.execute(ended).scalar() is not None:
        raise RefusedError("revoked", f"{unit} was revoked; the desk lets it in again, or replaces it")


def check_places(db: Connection, unit: UnitId, tpm: str) -> None:
    """Raises RefusedError where the unit has another TPM, or the TPM is another unit."""
    known = identity_of(db, unit)
    if known is not None and known.tpm != tpm:
        evidence = {"known": known.tpm, "came": tpm}
        alarm = Alarm("SECOND_TPM", "critical", unit, f"SECOND_TPM {unit} {tpm}", evidence)
        raise RefusedError(
            "second_tpm",
            f"{unit} is another TPM than this one; if it was replaced: ostiary fleet replace {unit}",
            alarm,
        )
    other = db.execute(sa.select(identities.c.unit).where(identities.c.tpm == tpm, in_service)).scalar()
    if other is not None and other != unit:
        raise RefusedError(
            "second_unit", f"this TPM is {other} already; to move it: ostiary fleet replace {other}"
        )


def take(store: Store, db: Connection, held: Session, graded: Graded, measured: str, now_ms: int) -> None:
    """Mark the claim as used by this TPM, and the TPM as the unit; or neither. Raises RefusedError."""
    unit, shown = held.unit, held.shown
    # Guarded: of two TPMs that come at once with one claim, one gets it.
    taken = (
        sa.update(claims)
        .where(
            claims.c.digest == held.claim,
            sa.or_(claims.c.used_by.is_(None), claims.c.used_by == held.tpm),
        )
        .values(used_ms=sa.func.coalesce(claims.c.used_ms, now_ms), used_by=held.tpm)
    )
    if held.claim and db.execute(taken).rowcount != 1:
        raise used(unit, held.tpm)
    check_places(db, unit, held.tpm)
    audit = shown.keys[1].p256().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _register(store, db, unit, audit, now_ms)
    row: dict[str, Any] = {
        "unit": unit,
        "tpm": held.tpm,
        "grade": graded.grade.value,
        "note": graded.note,
        "endorsement": shown.endorsement.raw,
        "certificate": graded.certificate,
        "attestation": shown.attestation.raw,
        "tls": shown.keys[0].raw,
        "exchange": shown.keys[2].raw if len(shown.keys) > 2 else None,
        "measured": measured,
        "proved_ms": now_ms,
    }
    if identity_of(db, unit) is None:
        db.execute(sa.insert(identities).values(**row, enrolled_ms=now_ms))
    else:
        db.execute(sa.update(identities).where(identities.c.unit == unit, in_service).values(row))


def proved_again(db: Connection, held: Session, measured: str, now_ms: int) -> None:
    same = (identities.c.unit == held.unit, identities.c.tpm == held.tpm, in_service)
    done = db.execute(sa.update(identities).where(*same).values(measured=measured, proved_ms=now_ms))
    revoked = db.execute(sa.select(units.c.revoked_ms).where(units.c.unit == held.unit)).scalar()
    if done.rowcount != 1 or revoked is not None:
        raise RefusedError("revoked", f"{held.unit} was revoked or replaced meanwhile; ask the desk")


def _register(store: Store, db: Connection, unit: UnitId, audit: bytes, now_ms: int) -> None:
    """Register the unit under its audit key; in place of another key's where that log is empty."""
    known = store.known(db, unit, audit, now_ms)
    if known.size == 0:
        fresh = {"public_key": audit, "revoked_ms": None}
        db.execute(sa.update(units).where(units.c.unit == unit).values(fresh))
    elif bytes(known.public_key) != audit:
        raise RefusedError(
            "log",
            f"{unit} has sent events under another audit key (a new disk?); to begin a new log: "
            f"ostiary fleet replace {unit}",
        )
    elif known.revoked_ms is not None:
        raise RefusedError("revoked", f"{unit} was revoked; to let it in: ostiary fleet replace {unit}")
