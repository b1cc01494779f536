"""Everything that the registry holds about one person, for an investigation or because they ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from sync.registry.database.fleet_tables import enrolments, holdings, passes
from sync.registry.database.schema import access, alarms
from sync.registry.database.store import Store
from sync.registry.reports import export


def about(store: Store, who: str, uid: str | None) -> Iterator[dict[str, Any]]:
    """Rows with `record` saying what each is: event, alarm, access (who asked about them), enrolment, pass,
    holding.

    `who` is the pseudonym. Enrolments through the fleet stand under `uid`, the badge number; without it they
    cannot be found.
    """
    for event in export.rows(store, person=who):
        yield {"record": "event", **event}
    with store.reading() as db:
        named = alarms.c.evidence.contains(who, autoescape=True)
        for alarm in db.execute(sa.select(alarms).where(named).order_by(alarms.c.id)):
            yield {"record": "alarm", **alarm._mapping, "evidence": json.loads(alarm.evidence)}
        asked = access.c.subject.contains(who, autoescape=True)
        for row in db.execute(sa.select(access).where(asked).order_by(access.c.id)):
            yield {"record": "access", **row._mapping}
        for name, table in (("enrolment", enrolments), ("pass", passes), ("holding", holdings)):
            for row in db.execute(sa.select(table).where(table.c.uid == uid)) if uid else ():
                plain = {key: value for key, value in row._mapping.items() if key != "proof"}
                yield {"record": name, **plain}
