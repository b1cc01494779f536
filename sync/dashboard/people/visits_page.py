"""Temporary people: who is here for whom and until when, and the forms that change it."""

from __future__ import annotations

import datetime as dt
import uuid

from starlette.responses import Response

from sync.dashboard.accounts.rights import Right
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.events.shown import short_person
from sync.dashboard.people import visits
from sync.dashboard.site import places
from sync.dashboard.site.places import place_of
from sync.dashboard.web import Call, redirect, signer_of

MAX_WHAT = 200


def overview(call: Call) -> Response:
    with call.backend.store.reading() as db:
        found = visits.listed(db, call.viewer, call.now_ms)
        known = places.load(db)
        fresh = visits.newcomers(db, call.viewer, call.now_ms)
    call.note("read", "temporary people", len(found))
    here = [one for one in found if one.state in ("here", "soon")]
    return call.page(
        "visits.html",
        visits=[(one, short_person(one.person)) for one in found],
        states=visits.STATES,
        here=len(here),
        soon=sum(one.state == "soon" for one in here),
        alone=sum(not one.answered for one in here),
        late=sum(one.late for one in found),
        untold=sum(one.told < one.units for one in found),
        fresh=[(row, short_person(row.person), place_of(known, row.unit, "door-1").label) for row in fresh],
        may_answer=call.viewer.may(Right.SPONSOR),
        may_lift=call.viewer.may(Right.ACCOUNTS),
        able=call.backend.signer is not None,
        suggested=suggested_end(call),
    )


def make(call: Call) -> Response:
    """Make the person temporary, by the form of their page."""
    try:
        person = str(uuid.UUID(call.form.get("person", "")))
    except ValueError as err:
        raise not_found() from err
    begins_ms = call.moment("begins") if call.form.get("begins") else call.now_ms
    visits.ask(
        call.backend.store, signer_of(call), call.viewer, person, call.text("site", 32),
        call.text("sponsor", 32), call.text("what", MAX_WHAT), begins_ms, call.moment("ends"), call.now_ms,
    )  # fmt: skip
    return redirect("/visits")


def act(call: Call) -> Response:
    """One of the buttons beside a visit."""
    store, viewer, number, now_ms = call.backend.store, call.viewer, call.number("visit"), call.now_ms
    action = call.form.get("action", "")
    if action == "answer":
        visits.answer_for(store, viewer, number, now_ms)
    elif action == "change":
        visits.change(store, signer_of(call), viewer, number, call.moment("ends"), now_ms)
    elif action == "end":
        visits.end(store, signer_of(call), viewer, number, now_ms)
    elif action == "lift":
        if not viewer.may(Right.ACCOUNTS):
            raise RefusedError("Only an administrator lets somebody stay for good.", 403)
        visits.lift(store, signer_of(call), viewer, number, call.text("why", MAX_WHAT), now_ms)
    else:
        raise not_found()
    return redirect("/visits")


def suggested_end(call: Call) -> str:
    """What a form proposes: 18:00 in a month."""
    moment = dt.datetime.fromtimestamp(call.now_ms / 1000, call.zone) + dt.timedelta(days=30)
    return f"{moment:%Y-%m-%d}T18:00"
