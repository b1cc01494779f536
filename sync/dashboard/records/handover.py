"""Hand-over of a shift: what is open, what the next shift must know, and who took it over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer, covers
from sync.dashboard.emergency import lockdown
from sync.dashboard.errors import RefusedError
from sync.dashboard.incidents import incidents
from sync.dashboard.schema import handovers
from sync.registry.database.store import Store
from sync.registry.database.transactions import insert

MOST = 20


@dataclass(frozen=True, slots=True)
class Open:
    """What one shift leaves to the next."""

    incidents: list[Any]
    unseen: int
    unowned: int
    lockdowns: list[lockdown.Run]

    def numbers(self) -> dict[str, Any]:
        return {
            "incidents": [row.id for row in self.incidents],
            "unseen": self.unseen,
            "unowned": self.unowned,
            "lockdowns": [run.id for run in self.lockdowns],
        }


def still_open(db: Connection, viewer: Viewer, now_ms: int) -> Open:
    found = incidents.listed(db, viewer, resolved=False)
    runs = lockdown.in_force(db, viewer, now_ms)
    unseen = sum(row.acknowledged_ms is None for row in found)
    return Open(list(found), unseen, sum(row.owner is None for row in found), runs)


def hand_over(store: Store, viewer: Viewer, text: str, now_ms: int) -> int:
    """Write down what is open now, with a word to the next shift."""
    with store.transaction() as db:
        left = still_open(db, viewer, now_ms).numbers()
        values = {"account": viewer.account, "scopes": json.dumps(viewer.scopes), "time_ms": now_ms}
        number = insert(db, handovers, **values, text=text, left_open=json.dumps(left))
        journal.append(db, viewer.account, "hand-over", f"{number}: {len(left['incidents'])} open", now_ms)
    return number


def accept(store: Store, viewer: Viewer, number: int, now_ms: int) -> None:
    """Take over what somebody else left. Raises RefusedError."""
    with store.transaction() as db:
        mine = next((row for row in listed(db, viewer) if row.id == number), None)
        if mine is None:
            raise RefusedError("There is no such hand-over.", 404)
        if mine.account == viewer.account:
            raise RefusedError("Somebody else takes over what you leave.", 409)
        done = sa.update(handovers).where(handovers.c.id == number, handovers.c.accepted_ms.is_(None))
        if db.execute(done.values(accepted_by=viewer.account, accepted_ms=now_ms)).rowcount != 1:
            raise RefusedError("This was taken over already.", 409)
        journal.append(db, viewer.account, "took over", f"hand-over {number} of {mine.account}", now_ms)


def listed(db: Connection, viewer: Viewer) -> list[Any]:
    """The newest `MOST` whose writer saw nothing that this account may not see."""
    rows = db.execute(sa.select(handovers).order_by(handovers.c.id.desc()))
    return list(islice((row for row in rows if covers(viewer.scopes, json.loads(row.scopes))), MOST))
