"""The event list, its exports, and why each decision came out as it did."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from starlette.responses import Response, StreamingResponse

from sync.dashboard.accounts import approvals
from sync.dashboard.accounts.rights import sees, within
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.events import events_query, exports
from sync.dashboard.events.events_query import Filter
from sync.dashboard.events.shown import short_person, show
from sync.dashboard.events.why import explain
from sync.dashboard.site import places
from sync.dashboard.site.places import place_of
from sync.dashboard.web import Call, redirect
from sync.dashboard.wording import drawing, words
from sync.events import Record
from sync.registry.database.schema import events


def listing(call: Call) -> Response:
    wanted = Filter.read(call.query)
    if call.viewer.public and not wanted.by_place_only:
        raise not_found()
    with call.backend.store.reading() as db:
        known = places.load(db)
        found = events_query.page(db, wanted, call.viewer.scopes, call.zone, call.query.get("before", ""))
    rows = [show(row, known, call.zone, public=call.viewer.public) for row in found.rows]
    if wanted.person:
        call.note("read", f"events of {wanted.person}", len(rows))
    mine = sorted(
        (place for place in known.values() if sees(call.viewer.scopes, place.site, place.zone)),
        key=lambda place: (place.site, place.zone, place.label),
    )
    return call.page(
        "events.html",
        rows=rows,
        wanted=wanted,
        wanted_fields=wanted.filled(),
        older=f"/events?{wanted.address(before=found.older)}" if found.older else None,
        first=not call.query.get("before"),
        stream=f"/stream?{wanted.address()}",
        doors=mine,
        zones=sorted({(place.zone_label, place.zone) for place in mine if place.zone}),
        sites=sorted({place.site for place in mine}),
        groups=words.GROUPS,
        reasons=sorted((text, name) for name, text in words.reasons().items() if text),
        person=short_person(wanted.person),
    )


def export(call: Call) -> Response:
    """On record first: an export that is not on record does not exist."""
    wanted, form = Filter.read(call.form), call.form.get("form", "csv")
    if form not in exports.MEDIA:
        raise RefusedError("An export is CSV, XLSX or JSON.")
    store, scopes = call.backend.store, call.viewer.scopes
    with store.reading() as db:
        times = exports.count(db, wanted, scopes, call.zone)
    if form == "xlsx" and times > exports.SHEET_ROWS:
        raise RefusedError("A sheet holds 1,048,575 events. Narrow the dates, or take CSV.")
    if times > call.backend.settings.bulk_rows:
        # Of these very filters and nothing else; new events since then are a few, the tags may have changed.
        about = {"form": form, "filter": wanted.address(), "tags": " ".join(scopes)}
        held = _agreed(call, about, times)
        if held is not None:
            return held
    call.note("export", f"events as {form}: {wanted.address() or 'all'}", times)
    found = exports.rows(store, wanted, scopes, call.zone)
    make = {"csv": exports.as_csv, "json": exports.as_json, "xlsx": exports.as_xlsx}[form]
    day = dt.datetime.fromtimestamp(call.now_ms / 1000, call.zone).strftime("%Y-%m-%d")
    suffix = "jsonl" if form == "json" else form
    headers = {"Content-Disposition": f'attachment; filename="events-{day}.{suffix}"'}
    return StreamingResponse(make(found), media_type=exports.MEDIA[form], headers=headers)


def _agreed(call: Call, about: dict[str, str], times: int) -> Response | None:
    """None when somebody has agreed to this export; else the page that asks for it."""
    store, account, now_ms = call.backend.store, call.viewer.account, call.now_ms
    if approvals.use_export(store, about, account, now_ms):
        return None
    if "why" not in call.form:
        wanted = Filter.read(call.form).filled()
        most = call.backend.settings.bulk_rows
        shown = {"rows": times, "most": most, "form": about["form"], "fields": wanted}
        return call.page("needs_second.html", 403, **shown)
    why = call.text("why", 200)
    approvals.ask(store, approvals.EXPORT, about | {"rows": times}, why, account, now_ms)
    return redirect("/approvals")


def why(call: Call) -> Response:
    unit = f"{call.path['site']}/{call.path['unit']}"
    sequence = call.number("sequence")
    mine = (events.c.unit == unit, events.c.sequence == sequence)
    with call.backend.store.reading() as db:
        seen = within(call.viewer.scopes, events.c.unit, events.c.door)
        row = db.execute(sa.select(*events_query.SHOWN, events.c.body).where(*mine, seen)).one_or_none()
        if row is None:
            raise not_found()
        known = places.load(db)
        around = []
        if row.person:
            near = (
                events.c.person == row.person,
                events.c.time_ms.between(row.time_ms - 600_000, row.time_ms + 600_000),
            )
            query = sa.select(*events_query.SHOWN).where(*near, seen).order_by(events.c.time_ms).limit(20)
            around = [show(r, known, call.zone) for r in db.execute(query).all()]
    record = Record.from_bytes(bytes(row.body))
    if row.person:
        call.note("read", f"event {unit}#{sequence} of {row.person}")
    place = place_of(known, row.unit, row.door)
    told = explain(record.event, place)
    pictures = [(factor, drawing.score(factor.name, factor.llr, factor.needed)) for factor in told.factors]
    return call.page(
        "why.html",
        shown=show(row, known, call.zone),
        record=record,
        event=record.event,
        place=place,
        told=told,
        pictures=pictures,
        around=around,
        received_ms=row.received_ms,
    )
