"""The biometric ledger: which unit holds whose voiceprint since when, what was erased, who owes a receipt.

It is read from the units' own signed events. What was enrolled before the registry's retention began is not
in it. A voiceprint that nobody has used for three years is due (740 ILCS 14/15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts.rights import Viewer, within
from sync.registry.database.schema import events

DAY_MS = 86_400_000
TERM_DAYS = 3 * 365
MOST = 20_000
_AT_ONCE = 400
_KINDS = ("ENROLLED", "ERASURE_BEGUN", "FORGOTTEN")


@dataclass(frozen=True, slots=True)
class Held:
    """One person's voiceprint at one unit."""

    person: str
    unit: str
    enrolled_ms: int | None
    erased_ms: int | None
    begun_ms: int | None
    """An erasure was begun, and no receipt for it has come."""
    used_ms: int | None

    @property
    def state(self) -> str:
        """held, owed (a receipt) or erased."""
        if self.begun_ms is not None:
            return "owed"
        return "erased" if self.erased_ms is not None else "held"

    def due_ms(self) -> int:
        """When three years without use are over."""
        return (self.used_ms or self.enrolled_ms or 0) + TERM_DAYS * DAY_MS


def read(db: Connection, viewer: Viewer) -> list[Held]:
    """Receipts that are owed first, then by the day on which the voiceprint is due."""
    query = sa.select(events.c.unit, events.c.person, events.c.kind, events.c.time_ms)
    mine = (events.c.kind.in_(_KINDS), events.c.person.is_not(None))
    query = query.where(*mine, within(viewer.scopes, events.c.unit, events.c.door))
    rows = db.execute(query.order_by(events.c.time_ms.desc(), events.c.sequence.desc()).limit(MOST)).all()
    found: dict[tuple[str, str], dict[str, int | None]] = {}
    for row in reversed(rows):
        entry = found.setdefault((row.person, row.unit), {"enrolled": None, "erased": None, "begun": None})
        if row.kind == "ENROLLED":
            entry |= {"enrolled": row.time_ms, "erased": None, "begun": None}
        elif row.kind == "ERASURE_BEGUN":
            entry["begun"] = row.time_ms
        else:
            entry |= {"erased": row.time_ms, "begun": None}
    used = _used(db, sorted({person for person, _ in found}))
    held = [
        Held(person, unit, entry["enrolled"], entry["erased"], entry["begun"], used.get((person, unit)))
        for (person, unit), entry in found.items()
    ]
    rank = {"owed": 0, "held": 1, "erased": 2}
    return sorted(held, key=lambda one: (rank[one.state], one.due_ms(), one.unit))


def _used(db: Connection, people: Sequence[str]) -> dict[tuple[str, str], int]:
    """When each person was last let in at each unit."""
    last: dict[tuple[str, str], int] = {}
    for start in range(0, len(people), _AT_ONCE):
        some = events.c.person.in_(people[start : start + _AT_ONCE])
        query = sa.select(events.c.person, events.c.unit, sa.func.max(events.c.time_ms).label("last_ms"))
        query = query.where(some, events.c.kind == "GRANTED").group_by(events.c.person, events.c.unit)
        rows: Sequence[Any] = db.execute(query).all()
        last |= {(row.person, row.unit): row.last_ms for row in rows}
    return last
