"""Notes each change to the tables that units' documents are made from.

Working out every document takes seconds at thousands of people, so it is done only after a change.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from sync.registry.database.fleet_tables import (
    cards,
    changes,
    enrolments,
    envelopes,
    holdings,
    passes,
    rollouts,
    unit_tags,
    wanted,
)

WATCHED = frozenset({cards, enrolments, envelopes, holdings, passes, rollouts, unit_tags, wanted})


def watch(engine: Engine) -> None:
    """Have each statement that writes such a table leave a note, in its own transaction."""
    sa.event.listen(engine, "after_execute", _note)


def take(db: Connection) -> bool:
    """Whether there were notes. This transaction deletes them; if it fails, they are there again.

    A note that another transaction has not committed yet is seen the next time.
    """
    return db.execute(sa.delete(changes)).rowcount > 0


def _note(db: Connection, statement: Any, _many: Any, _one: Any, _options: Any, _result: Any) -> None:
    if getattr(statement, "is_dml", False) and statement.table in WATCHED:
        db.execute(sa.insert(changes).values())
