"""Incidents as work: who saw it, whose it is, what it was."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from starlette.responses import Response

from sync.dashboard.accounts.rights import Right, within
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.events import events_query
from sync.dashboard.events.shown import Shown, show
from sync.dashboard.incidents import incidents
from sync.dashboard.site import places
from sync.dashboard.site.places import Places, place_of
from sync.dashboard.web import Call, redirect
from sync.dashboard.wording import words
from sync.dashboard.wording.languages import date, duration, tell, word
from sync.registry.database.schema import events

MAX_NOTE = 2000
MONTH_MS = 30 * 86_400_000
ACTIONS = ("acknowledge", "own", "note", "resolve")


HOUR_MS = 3_600_000
EVIDENCE = {
    "account": "account", "ahead": "clock ahead by", "apart": "apart", "chance": "chance of that",
    "checked": "last checked", "count": "events", "counter": "counter", "doors": "doors",
    "first": "first event", "from": "from", "hour": "hour", "jump": "clock jumped by", "known": "known here",
    "last": "last heard", "off": "clock off by", "pending": "waiting at the unit", "person": "person",
    "rows": "rows", "sequence": "event", "since": "since", "size": "events", "state": "state",
    "stored": "stored here", "to": "to", "until": "until", "usual": "usual", "why": "why",
    "window": "within", "written": "written by the unit",
}  # fmt: skip
"""What an alarm's evidence is called for people."""


def listing(call: Call) -> Response:
    resolved = call.query.get("show") == "resolved"
    incidents.gather(call.backend.store, call.now_ms)
    with call.backend.store.reading() as db:
        found = incidents.listed(db, call.viewer, resolved=resolved)
        spans = incidents.durations(db, call.viewer, call.now_ms - MONTH_MS)
        waiting = incidents.open_count(db, call.viewer)
        known = places.load(db)
    lines = [(row, words.alarm(row.kind), where(row, known)) for row in found]
    return call.page(
        "incidents.html",
        lines=lines,
        resolved=resolved,
        spans=spans,
        waiting=waiting,
        flapping=incidents.FLAPPING,
    )


def one(call: Call) -> Response:
    number = call.number("incident")
    with call.backend.store.reading() as db:
        row = incidents.one(db, call.viewer, number)
        if row is None:
            raise not_found()
        known = places.load(db)
        story = incidents.story(db, number)
        proof = incidents.evidence(db, number)
        spans = incidents.spans(db, number)
        for alarm in proof:
            alarm["told"] = _told(alarm["evidence"], call.zone)
        seen = _events(call, db, proof, known)
    return call.page(
        "incident.html",
        row=row,
        title=words.alarm(row.kind),
        todo=words.what_to_do(row.kind),
        where=where(row, known),
        story=story,
        spans=spans,
        state=incidents.state(row),
        proof=proof,
        seen=seen,
        may_work=call.viewer.may(Right.WORK),
        flapping=incidents.FLAPPING,
    )


def act(call: Call) -> Response:
    number, action = call.number("incident"), call.form.get("action", "")
    store, account, now_ms = call.backend.store, call.viewer.account, call.now_ms
    with store.reading() as db:
        if incidents.one(db, call.viewer, number) is None:
            raise not_found()
    if action == "acknowledge":
        incidents.acknowledge(store, number, account, now_ms)
    elif action == "own":
        incidents.own(store, number, account, now_ms)
    elif action == "note":
        incidents.add_note(store, number, account, call.text("note", MAX_NOTE), now_ms)
    elif action == "resolve":
        incidents.resolve(store, number, account, call.text("note", MAX_NOTE), now_ms)
    else:
        raise RefusedError("There is no such step for an incident.")
    return redirect(f"/incidents/{number}")


def _told(evidence: dict[str, object], zone: dt.tzinfo) -> list[tuple[str, str]]:
    """The numbers and words of an alarm's evidence, by names for people; times as people write them."""
    found: list[tuple[str, str]] = []
    for name, value in evidence.items():
        plain = name.removesuffix("_ms").removesuffix("_s")
        label = word(EVIDENCE.get(plain, words.FACTS.get(plain, plain.replace("_", " "))))
        if isinstance(value, dict) and {"desired", "reported"} <= value.keys():
            is_now, should_be = (str(value[key])[:80] for key in ("reported", "desired"))
            found.append((label, tell("{0}, and not {1}", is_now, should_be)))
        elif isinstance(value, int) and (name == "hour" or name.endswith("_ms")):
            ms = value * HOUR_MS if name == "hour" else value
            at = dt.datetime.fromtimestamp(ms / 1000, zone) if ms > 10**12 else None
            found.append((label, date(at, "%-d %b %H:%M:%S") if at else duration(ms)))
        elif name.endswith("_s") and isinstance(value, int):
            found.append((label, duration(value * 1000)))
        elif isinstance(value, str | int | float):
            found.append((label, word(str(value)[:80])))
    return found


def where(row: object, known: Places) -> str:
    unit, site, door = (getattr(row, name) for name in ("unit", "site", "door"))
    if unit and door:
        return place_of(known, unit, door).label
    if unit:
        mine = [place.label for key, place in known.items() if key[0] == unit]
        return mine[0] if len(mine) == 1 else str(unit)
    return str(site) if site else word("everywhere")


def _events(call: Call, db: sa.Connection, proof: list[dict[str, object]], known: Places) -> list[Shown]:
    """The events that alarms name, newest first, as far as this account may see them."""
    named: list[tuple[str, int]] = []
    for alarm in proof:
        evidence = alarm["evidence"]
        for name in evidence.get("events", []) if isinstance(evidence, dict) else []:
            unit, _, sequence = str(name).rpartition("#")
            if unit and sequence.isdigit():
                named.append((unit, int(sequence)))
    if not named:
        return []
    key = sa.tuple_(events.c.unit, events.c.sequence)
    mine = within(call.viewer.scopes, events.c.unit, events.c.door)
    query = sa.select(*events_query.SHOWN).where(key.in_(named[:60]), mine).order_by(events.c.time_ms.desc())
    return [show(row, known, call.zone) for row in db.execute(query).all()]
