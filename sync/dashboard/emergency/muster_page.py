"""The roll call after an evacuation."""

from __future__ import annotations

from collections import Counter

from starlette.responses import Response

from sync.dashboard.accounts.rights import site_within
from sync.dashboard.emergency import muster
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.events.shown import short_person
from sync.dashboard.site import places
from sync.dashboard.web import Call, redirect

MAX_NAME = 80


def overview(call: Call) -> Response:
    with call.backend.store.reading() as db:
        runs = muster.recent(db, call.viewer)
        sites = sorted({p.site for p in places.load(db).values() if site_within(call.viewer.scopes, p.site)})
    return call.page("muster.html", runs=runs, sites=sites)


def start(call: Call) -> Response:
    number = muster.start(call.backend.store, call.viewer, call.text("site", 32), call.now_ms)
    return redirect(f"/muster/{number}")


def one(call: Call) -> Response:
    """Shows names where the site has brought them, for a pseudonym cannot be called out; on record."""
    number = call.number("muster")
    with call.backend.store.reading() as db:
        found = muster.one(db, call.viewer, number)
        if found is None:
            raise not_found()
        rows = muster.people(db, number)
    names = call.backend.names
    call.note("reveal" if names else "read", f"roll call {number} of {found.site}", len(rows))
    lines = []
    for row in rows:
        name = names.name(row.person) if names is not None and row.person else None
        lines.append((row, row.visitor or name or short_person(row.person or "")))
    missing = Counter(row.zone for row in rows if row.safe_ms is None)
    return call.page("muster_run.html", run=found, lines=lines, missing=missing, total=len(rows))


def act(call: Call) -> Response:
    number, action = call.number("muster"), call.form.get("action", "")
    store = call.backend.store
    with store.reading() as db:
        if muster.one(db, call.viewer, number) is None:
            raise not_found()
    if action == "safe":
        entry = call.form.get("entry", "")
        if not entry.isascii() or not entry.isdigit() or len(entry) > 16:
            raise not_found()
        muster.mark_safe(store, number, int(entry), call.viewer.account, call.now_ms)
    elif action == "visitor":
        muster.add_visitor(
            store, number, call.text("name", MAX_NAME), call.text("zone", MAX_NAME), call.now_ms
        )
    elif action == "end":
        muster.end(store, number, call.viewer.account, call.now_ms)
    else:
        raise RefusedError("A roll call can mark somebody safe, add a visitor, or end.")
    return redirect(f"/muster/{number}")
