"""The desk's work in the demonstration: temporary people, a door held open, a drill, a plan."""

from __future__ import annotations

import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.demo.demo_data import DemoData
from sync.dashboard.demo.demo_events import DAY_MS, HOUR_MS
from sync.dashboard.doors import holds
from sync.dashboard.emergency import lockdown
from sync.dashboard.people import visits
from sync.keys import FileSigner
from sync.registry.database.schema import events
from sync.registry.database.store import Store

DESK, FACILITIES = Viewer("desk", "desk", (), "", ""), Viewer("facilities", "facilities", (), "", "")
_VISITS = (
    (0, 45, "Agency nurse, intensive care"),
    (-20, 2, "Locum anaesthetist"),
    (1, 60, "Medical student, surgery"),
    (-60, 30, "Lift maintenance"),
)
"""Days from now: begin, end, what for."""


def _seen_at(store: Store, site: str) -> list[str]:
    mine = (events.c.unit.like(f"{site}/%"), events.c.person.is_not(None))
    query = sa.select(events.c.person, sa.func.max(events.c.time_ms).label("last")).where(*mine)
    with store.reading() as db:
        rows = db.execute(query.group_by(events.c.person).order_by(sa.desc("last")).limit(len(_VISITS)))
        return [str(row.person) for row in rows]


def fill(store: Store, signer: FileSigner, data: DemoData, now_ms: int) -> None:
    """The accounts `desk` and `facilities` are there; the invented units obey."""
    site = data.doors[0].site
    for (begins, ends, what), person in zip(_VISITS, _seen_at(store, site), strict=False):
        visits.ask(
            store, signer, FACILITIES, person, site, "facilities" if ends > 2 else "desk", what,
            now_ms + begins * DAY_MS, now_ms + ends * DAY_MS, now_ms,
        )  # fmt: skip
    door = data.doors[-2 if len(data.doors) > 1 else 0]
    holds.ask(
        store, signer, DESK, door.unit, door.door, now_ms, now_ms + 2 * HOUR_MS, holds.Conditions(),
        "Resuscitation: the trolley has to get through", now_ms,
    )  # fmt: skip
    zones = list(dict.fromkeys(place.zone for place in data.doors if place.site == site))
    plan = lockdown.save(store, DESK, "Intruder, whole house", site, zones, now_ms)
    lockdown.start(
        store, signer, DESK, name="Intruder, whole house", site=site, zones=zones, plan=plan, drill=True,
        now_ms=now_ms,
    )  # fmt: skip
    while data.obey(signer.public_key(), now_ms):  # one command at a time for each unit
        pass
