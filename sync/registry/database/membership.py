"""Ends a unit's place: its certificates and claims; and keeps what was last seen of the broker's list."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.events import UnitId
from sync.registry.database.schema import certificates, claims, facts, identities, in_service

_LOOKED = "revocations"


@dataclass(frozen=True, slots=True)
class Looked:
    """What the guard found at the broker: `until_ms` is when its list runs out, `trouble` a line or ''."""

    checked_ms: int
    until_ms: int
    revoked: int
    trouble: str

    @classmethod
    def read(cls, db: Connection) -> Looked | None:
        """What was written last; None before the first look."""
        value = db.execute(sa.select(facts.c.value).where(facts.c.name == _LOOKED)).scalar()
        return cls(**json.loads(bytes(value))) if value is not None else None

    def write(self, db: Connection) -> None:
        value = json.dumps(asdict(self), sort_keys=True).encode()
        changed = sa.update(facts).where(facts.c.name == _LOOKED).values(value=value)
        if db.execute(changed).rowcount == 0:
            db.execute(sa.insert(facts).values(name=_LOOKED, value=value))


def retire(db: Connection, unit: UnitId, now_ms: int) -> None:
    """Every certificate and claim of `unit` stops counting. Its TPM stays known as that unit."""
    good = (certificates.c.unit == unit, certificates.c.revoked_ms.is_(None))
    db.execute(sa.update(certificates).where(*good).values(revoked_ms=now_ms))
    counting = (claims.c.unit == unit, claims.c.withdrawn_ms.is_(None))
    db.execute(sa.update(claims).where(*counting).values(withdrawn_ms=now_ms))


def vacate(db: Connection, unit: UnitId, now_ms: int) -> None:
    """As `retire`, and the name is free for another TPM."""
    retire(db, unit, now_ms)
    gone = (identities.c.unit == unit, in_service)
    db.execute(sa.update(identities).where(*gone).values(retired_ms=now_ms))
