"""Every door at a glance, and one door."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from sync.dashboard.accounts.rights import Right, within
from sync.dashboard.doors import doors
from sync.dashboard.errors import not_found
from sync.dashboard.events import events_query
from sync.dashboard.events.events_query import Filter
from sync.dashboard.events.shown import show
from sync.dashboard.incidents import incidents
from sync.dashboard.site import places
from sync.dashboard.site.places import EGRESS, LOCKING
from sync.dashboard.web import Call
from sync.dashboard.wording import drawing
from sync.dashboard.wording.words import ATTACKS, GRANTED, REFUSED
from sync.registry.schema import events, units
from sync.registry.status import unit_status

DAY_MS = 86_400_000
TROUBLE = ("silent", "offline", "revoked")


def overview(call: Call) -> Response:
    with call.desk.store.reading() as db:
        found = doors.overview(db, call.viewer, call.zone, call.now_ms)
        work = incidents.open_count(db, call.viewer) if call.viewer.may(Right.INCIDENTS) else 0
    groups = [
        (site, zone, list(members))
        for (site, zone), members in groupby(found, key=lambda view: (view.place.site, view.place.zone_label))
    ]
    tally = {
        "doors": len(found),
        "alarm": sum(view.tone == "alarm" for view in found),
        "down": sum(view.tone == "down" for view in found),
        "trouble": sum(view.unit_state in TROUBLE for view in found),
        "granted": sum(view.granted for view in found),
        "refused": sum(view.refused for view in found),
        "attacks": sum(view.attacks for view in found),
        "incidents": work,
    }
    midnight_ms = doors.midnight_ms(call.now_ms, call.zone)
    return call.page("doors.html", groups=groups, tally=tally, trouble=TROUBLE, midnight_ms=midnight_ms)


def door(call: Call) -> Response:
    unit, name = f"{call.path['site']}/{call.path['unit']}", call.path["door"]
    with call.desk.store.reading() as db:
        row = db.execute(sa.select(units).where(units.c.unit == unit)).one_or_none()
        seen = within(call.viewer.scopes, sa.literal(unit), sa.literal(name))
        known = places.load(db)
        here = (events.c.unit == unit, events.c.door == name)
        exists = (unit, name) in known or db.execute(
            sa.select(events.c.sequence).where(*here).limit(1)
        ).first()
        if row is None or not exists or not db.execute(sa.select(seen)).scalar():
            raise not_found()
        views = [v for v in doors.overview(db, call.viewer, call.zone, call.now_ms, unit)]
        view = next((v for v in views if v.place.door == name), None)
        newest = events_query.page(db, Filter(unit=unit, door=name), call.viewer.scopes, call.zone, limit=15)
        since_ms = doors.midnight_ms(call.now_ms, call.zone) - 29 * DAY_MS
        day = ((events.c.time_ms - since_ms) // DAY_MS).label("day")
        days = sa.select(day, events.c.kind, sa.func.count().label("times"))
        counted = db.execute(
            days.where(*here, events.c.time_ms >= since_ms).group_by(day, events.c.kind)
        ).all()
        reasons = db.execute(
            sa.select(events.c.reason, sa.func.count().label("times"))
            .where(*here, events.c.time_ms >= since_ms, events.c.kind.in_(REFUSED))
            .group_by(events.c.reason)
            .order_by(sa.desc("times"))
            .limit(8)
        ).all()
    if view is None:
        raise not_found()
    chart = drawing.bars(
        _days(counted, since_ms, call.zone), ("granted", "refused", "attack"), "The last 30 days"
    )
    status = unit_status(row, call.now_ms)
    shown = [show(r, known, call.zone, public=call.viewer.public) for r in newest.rows]
    return call.page(
        "door.html",
        view=view,
        unit=status,
        locking=LOCKING.get(view.place.locking, ""),
        egress=[EGRESS[word] for word in view.place.egress.split() if word in EGRESS],
        rows=shown,
        chart=chart,
        reasons=reasons,
    )


def _days(counted: Iterable[Any], since_ms: int, zone: dt.tzinfo) -> list[tuple[str, dict[str, int]]]:
    found: list[tuple[str, dict[str, int]]] = []
    for number in range(30):
        moment = dt.datetime.fromtimestamp((since_ms + number * DAY_MS) / 1000 + 43_200, zone)
        found.append((f"{moment.day} {moment:%b}", {"granted": 0, "refused": 0, "attack": 0}))
    for row in counted:
        day = int(row.day)
        if not 0 <= day < 30:
            continue
        if row.kind in GRANTED:
            tone = "granted"
        elif row.kind in ATTACKS:
            tone = "attack"
        elif row.kind in REFUSED:
            tone = "refused"
        else:
            continue
        found[day][1][tone] += row.times
    return found
