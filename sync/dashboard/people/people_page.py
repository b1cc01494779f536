"""One person, by pseudonym: where, when, why refused. The name is shown on request and on record."""

from __future__ import annotations

import uuid
from collections import Counter

import sqlalchemy as sa
from starlette.responses import Response

from sync.dashboard.accounts import approvals
from sync.dashboard.accounts.rights import Right, within
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.events import events_query
from sync.dashboard.events.events_query import Filter
from sync.dashboard.events.shown import short_person, show
from sync.dashboard.people import visits, visits_page
from sync.dashboard.site import places
from sync.dashboard.site.places import place_of
from sync.dashboard.web import Call, redirect
from sync.dashboard.wording.words import ATTACKS, GRANTED, REFUSED
from sync.registry.database.schema import events

MAX_REASON = 200


def person(call: Call) -> Response:
    who = _who(call)
    call.note("read", f"person {who}")
    return _page(call, who, None)


def reveal(call: Call) -> Response:
    """The name, for this answer only: the next page does not show it again."""
    who = _who(call)
    why = call.text("why", MAX_REASON)
    if call.backend.names is None:
        raise RefusedError("This page has no names; the site keeps them elsewhere.", 404)
    call.note("reveal", f"the name of {who}: {why}")
    at_ms = int(call.form["at"]) if call.form.get("at", "").isdigit() else None
    return _page(call, who, call.backend.names.name(who, at_ms) or "")


def forget(call: Call) -> Response:
    """Ask for a name to be forgotten; a second person agrees. The events keep their pseudonym."""
    who, why = _who(call), call.text("why", MAX_REASON)
    if call.backend.names is None:
        raise RefusedError("This page has no names; the site keeps them elsewhere.", 404)
    _must_be_seen(call, who)
    approvals.ask(
        call.backend.store, approvals.FORGET, {"person": who}, why, call.viewer.account, call.now_ms
    )
    return redirect("/approvals" if call.viewer.may(Right.APPROVE) else f"/people/{who}")


def _must_be_seen(call: Call, who: str) -> None:
    mine = (events.c.person == who, within(call.viewer.scopes, events.c.unit, events.c.door))
    with call.backend.store.reading() as db:
        if db.execute(sa.select(events.c.sequence).where(*mine).limit(1)).first() is None:
            raise not_found()


def _page(call: Call, who: str, name: str | None) -> Response:
    mine = (events.c.person == who, within(call.viewer.scopes, events.c.unit, events.c.door))
    with call.backend.store.reading() as db:
        found = events_query.page(db, Filter(person=who), call.viewer.scopes, call.zone, limit=25)
        if not found.rows:
            raise not_found()
        known = places.load(db)
        counts = db.execute(
            sa.select(
                events.c.unit,
                events.c.door,
                events.c.kind,
                sa.func.count().label("times"),
                sa.func.max(events.c.time_ms).label("last_ms"),
            )
            .where(*mine)
            .group_by(events.c.unit, events.c.door, events.c.kind)
        ).all()
        reasons = db.execute(
            sa.select(events.c.reason, sa.func.count().label("times"))
            .where(*mine, events.c.kind.in_(REFUSED))
            .group_by(events.c.reason)
            .order_by(sa.desc("times"))
            .limit(8)
        ).all()
        may_answer = call.viewer.may(Right.SPONSOR)
        temporary = visits.listed(db, call.viewer, call.now_ms, who) if call.viewer.may(Right.VISITS) else []
        sites = visits.sites_of(db, call.viewer, who) if may_answer else []
        sponsors = visits.sponsors(db) if may_answer else []
    doors: dict[tuple[str, str], Counter[str]] = {}
    last: dict[tuple[str, str], int] = {}
    for row in counts:
        key = (row.unit, row.door)
        tone = "granted" if row.kind in GRANTED else "attacks" if row.kind in ATTACKS else "refused"
        if row.kind in GRANTED or row.kind in REFUSED:
            doors.setdefault(key, Counter())[tone] += row.times
        last[key] = max(last.get(key, 0), row.last_ms)
    table = sorted(
        ((place_of(known, *key), counted, last[key]) for key, counted in doors.items()),
        key=lambda line: -line[2],
    )
    return call.page(
        "person.html",
        who=who,
        short=short_person(who),
        name=name,
        may_forget=call.viewer.may(Right.FORGET) and call.backend.names is not None,
        may_reveal=call.viewer.may(Right.REVEAL) and call.backend.names is not None,
        rows=[show(row, known, call.zone) for row in found.rows],
        table=table,
        reasons=reasons,
        totals={tone: sum(c[tone] for _, c, _ in table) for tone in ("granted", "refused", "attacks")},
        temporary=temporary,
        states=visits.STATES,
        sites=[s for s in sites if all(v.site != s or v.state == "lifted" for v in temporary)],
        sponsors=sponsors,
        able=call.backend.signer is not None,
        suggested=visits_page.suggested_end(call),
        seen_ms=max(last.values(), default=None),
    )


def _who(call: Call) -> str:
    try:
        return str(uuid.UUID(call.path["person"]))
    except ValueError as err:
        raise not_found() from err
