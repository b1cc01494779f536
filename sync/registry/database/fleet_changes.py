"""Whether anything changed that units' documents are made of: noted by whatever writes one of those tables.

Working out every document takes seconds at thousands of people, so it is done when there is a cause.
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
    """From now on each statement that writes such a table leaves a note, in its own transaction."""
    sa.event.listen(engine, "after_execute", _note)


def take(db: Connection) -> bool:
    """Whether there were notes; they are gone with this transaction, and there again if it fails.

    One that another transaction has not committed yet is seen the next time: ids are no order of commits.
    """
    return db.execute(sa.delete(changes)).rowcount > 0


def _note(db: Connection, statement: Any, _many: Any, _one: Any, _options: Any, _result: Any) -> None:
    if getattr(statement, "is_dml", False) and statement.table in WATCHED:
        db.execute(sa.insert(changes).values())
