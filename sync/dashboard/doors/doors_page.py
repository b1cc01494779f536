"""Every door at a glance, and one door."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from markupsafe import Markup
from starlette.responses import Response

from sync.dashboard.accounts.rights import Right, within
from sync.dashboard.doors import doors, holds, passers
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.events import events_query
from sync.dashboard.events.events_query import Filter
from sync.dashboard.events.shown import Shown, show
from sync.dashboard.incidents import incidents
from sync.dashboard.site import places
from sync.dashboard.site.places import EGRESS, LOCKING, Place
from sync.dashboard.web import Call, environment, redirect, signer_of
from sync.dashboard.wording import drawing, languages, words
from sync.dashboard.wording.languages import duration
from sync.dashboard.wording.words import ATTACKS, GRANTED, REFUSED
from sync.registry.database.schema import events, units
from sync.registry.reports.status import unit_status

DAY_MS = 86_400_000
MAX_WHY = 200
DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TROUBLE = ("silent", "offline", "revoked")


def overview(call: Call) -> Response:
    with call.backend.store.reading() as db:
        found = doors.overview(db, call.viewer, call.zone, call.now_ms)
        work = incidents.open_count(db, call.viewer) if call.viewer.may(Right.INCIDENTS) else 0
    midnight_ms = doors.midnight_ms(call.now_ms, call.zone)
    groups = [
        (site, zone, [_tile_of(view, call, midnight_ms) for view in members])
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
    return call.page("doors.html", groups=groups, tally=tally)


def hold(call: Call) -> Response:
    """Have the door stand unlocked until an hour."""
    unit, name = _own_door(call)
    begins_ms = call.moment("begins") if call.form.get("begins") else call.now_ms
    holds.ask(
        call.backend.store, signer_of(call), call.viewer, unit, name, begins_ms, call.moment("ends"),
        _conditions(call), call.text("why", MAX_WHY), call.now_ms,
    )  # fmt: skip
    return redirect(f"/doors/{unit}/{name}")


def end_hold(call: Call) -> Response:
    unit, name = _own_door(call)
    holds.end(call.backend.store, signer_of(call), call.viewer, unit, name, call.number("hold"), call.now_ms)
    return redirect(f"/doors/{unit}/{name}")


def plan_hold(call: Call) -> Response:
    """Have the door stand unlocked on days of every week."""
    unit, name = _own_door(call)
    signer_of(call)
    days = tuple(day for day in range(7) if call.form.get(f"day-{day}"))
    hours = [_clock(call.form.get(word, "")) for word in ("begins", "ends")]
    conditions = _conditions(call)
    holds.plan(call.backend.store, call.viewer, unit, name, days, hours[0], hours[1], conditions, call.now_ms)
    return redirect(f"/doors/{unit}/{name}")


def drop_plan(call: Call) -> Response:
    unit, name = _own_door(call)
    number = call.number("plan")
    holds.drop_plan(call.backend.store, signer_of(call), call.viewer, unit, name, number, call.now_ms)
    return redirect(f"/doors/{unit}/{name}")


def who(call: Call) -> Response:
    """All people whom the rules let through, by the rules' ids; on record."""
    unit, name = _own_door(call)
    with call.backend.store.reading() as db:
        found = passers.wanted(db, unit, name, call.now_ms)
        place = places.place_of(places.load(db), unit, name)
    if found is None:
        raise not_found()
    people = sorted({uid for permit in found.permits for uid in permit.people})
    call.note("read", f"who may pass {unit}/{name}", len(people))
    return call.page("passers.html", place=place, passers=found, people=people)


def _own_door(call: Call) -> tuple[str, str]:
    """(unit, door) of the address, if this account may see it. Raises RefusedError."""
    unit, name = f"{call.path['site']}/{call.path['unit']}", call.path["door"]
    with call.backend.store.reading() as db:
        known = db.execute(sa.select(units.c.unit).where(units.c.unit == unit)).first()
        seen = db.execute(sa.select(within(call.viewer.scopes, sa.literal(unit), sa.literal(name)))).scalar()
        here = (unit, name) in places.load(db) or db.execute(
            sa.select(events.c.sequence).where(events.c.unit == unit, events.c.door == name).limit(1)
        ).first()
    if not known or not seen or not here:
        raise not_found()
    return unit, name


def _conditions(call: Call) -> holds.Conditions:
    return holds.Conditions(bool(call.form.get("first_person")), not call.form.get("not_on_holidays"))


def _clock(text: str) -> dt.time:
    try:
        return dt.datetime.strptime(text, "%H:%M").time()
    except ValueError as err:
        raise RefusedError("Hours are given as HH:MM.") from err


def _tile_of(view: doors.DoorView, call: Call, midnight_ms: int) -> Markup:
    trouble = view.unit_state in TROUBLE
    when = heard = ""
    if view.last is not None:
        today = view.last.time_ms >= midnight_ms
        moment = dt.datetime.fromtimestamp(view.last.time_ms / 1000, call.zone)
        when = view.last.clock if today else languages.date(moment, "%-d %b %H:%M")
    if trouble and view.seen_ms:
        heard = duration(call.now_ms - view.seen_ms)
    attacks = 0 if call.viewer.public else view.attacks
    return _tile(
        languages.current(), view.place, view.state, view.tone, view.last, when,
        view.unit_state if trouble else "", heard, view.incidents, attacks,
    )  # fmt: skip


@functools.lru_cache(maxsize=8192)
def _tile(
    language: str,
    place: Place,
    state: str,
    tone: str,
    last: Shown | None,
    when: str,
    unit_state: str,
    heard: str,
    incidents: int,
    attacks: int,
) -> Markup:
    """One door's tile, cached by everything it shows: of a thousand doors few change. `language` is the
    request's."""
    html = environment().get_template("tile.html").render(
        place=place, state=state, tone=tone, last=last, when=when, unit_state=unit_state, heard=heard,
        trouble=bool(unit_state), incidents=incidents, attacks=attacks,
    )  # fmt: skip
    return Markup(html)  # noqa: S704 - a template's own output, escaped there


def door(call: Call) -> Response:
    unit, name = _own_door(call)
    with call.backend.store.reading() as db:
        row = db.execute(sa.select(units).where(units.c.unit == unit)).one()
        known = places.load(db)
        here = (events.c.unit == unit, events.c.door == name)
        views = doors.overview(db, call.viewer, call.zone, call.now_ms, unit)
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
        may_hold = call.viewer.may(Right.LOCK_DOWN)
        held = holds.of_door(db, unit, name, call.now_ms) if may_hold else []
        weekly = holds.plans_of(db, unit, name) if may_hold else []
        may_pass = passers.wanted(db, unit, name, call.now_ms) if call.viewer.may(Right.PEOPLE) else None
    if view is None:
        raise not_found()
    chart = drawing.bars(
        _days(counted, since_ms, call.zone),
        {"granted": languages.word("let in"), "refused": languages.word("refused"),
         "attack": languages.word("attacks")},
        languages.word("The last 30 days"),
    )  # fmt: skip
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
        may_hold=may_hold,
        able=call.backend.signer is not None,
        holds=held,
        weekly=weekly,
        hold_states=holds.STATES,
        day_names=DAY_NAMES,
        fact_names=words.FACTS,
        passers=may_pass,
        may_reveal=call.viewer.may(Right.REVEAL),
    )


def _days(counted: Iterable[Any], since_ms: int, zone: dt.tzinfo) -> list[tuple[str, dict[str, int]]]:
    found: list[tuple[str, dict[str, int]]] = []
    for number in range(30):
        moment = dt.datetime.fromtimestamp((since_ms + number * DAY_MS) / 1000 + 43_200, zone)
        found.append((languages.date(moment, "%-d %b"), {"granted": 0, "refused": 0, "attack": 0}))
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
