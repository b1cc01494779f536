"""What other systems ask with a token, as JSON; and the page where tokens are made and revoked.

Every answer of `/api/v1` is on record under the token's name. An error is `{"error": {"message": ...}}`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sync.dashboard.accounts.rights import Right
from sync.dashboard.accounts.tokens import RIGHTS, Tokens
from sync.dashboard.doors import doors
from sync.dashboard.errors import DashboardError, RefusedError
from sync.dashboard.events import events_query
from sync.dashboard.events.events_query import Filter
from sync.dashboard.events.shown import show
from sync.dashboard.incidents import incidents
from sync.dashboard.site import places
from sync.dashboard.web import Backend, Call, redirect, told
from sync.registry.database.store import StoreError

DAYS = (7, 30, 90, 366)
Answer = Callable[[Call], dict[str, Any]]


def for_tokens(answer: Answer, right: Right) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for `Authorization: Bearer TOKEN`. A browser's cookie is no way in."""

    @functools.wraps(answer)
    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(_answered, request.app.state.backend, request, answer, right)

    return endpoint


def _answered(backend: Backend, request: Request, answer: Answer, right: Right) -> Response:
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    now_ms = backend.now_ms()
    try:
        viewer = None
        if scheme.lower() == "bearer":
            viewer = Tokens(backend.store).viewer(presented.strip(), now_ms)
        if viewer is None:
            return _error(401, "Send a token that is in use: Authorization: Bearer ostiary_...")
        if not viewer.may(right):
            return _error(403, f"This token may not: {right.value}.")
        return JSONResponse(answer(Call(backend, viewer, request, now_ms)))
    except StoreError:
        return _error(
            503, "The registry's database does not answer. Nothing was lost; try again in a moment."
        )
    except RefusedError as err:
        return _error(err.status, str(err))


def _error(status: int, message: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse({"error": {"message": message}}, status, headers=headers)


def api_events(call: Call) -> dict[str, Any]:
    """Newest first, 50 at a time; `older` is the next page's `before`. Without the right to see what a
    pseudonym did, nobody is named and nobody can be asked for."""
    wanted = Filter.read(call.query)
    people = call.viewer.may(Right.PEOPLE)
    if wanted.person and not people:
        raise RefusedError("This token may not: {0}.", 403, Right.PEOPLE.value)
    with call.backend.store.reading() as db:
        known = places.load(db)
        found = events_query.page(db, wanted, call.viewer.scopes, call.zone, call.query.get("before", ""))
    call.note("read", f"api events: {wanted.address() or 'all'}", len(found.rows))
    lines = []
    for row in found.rows:
        shown = show(row, known, call.zone)
        line = {
            "unit": row.unit, "sequence": row.sequence, "door": row.door, "label": shown.place,
            "zone": shown.zone, "time": shown.iso, "time_ms": row.time_ms, "kind": row.kind,
            "reason": row.reason, "sentence": shown.sentence,
        }  # fmt: skip
        if people:
            line |= {"person": row.person, "silent_alarm": bool(row.silent_alarm)}
            line |= {name: getattr(row, name) for name in ("phrase_llr", "speaker_llr", "spoof_llr")}
        lines.append(line)
    return {"events": lines, "older": found.older}


def api_doors(call: Call) -> dict[str, Any]:
    with call.backend.store.reading() as db:
        found = doors.overview(db, call.viewer, call.zone, call.now_ms)
    call.note("read", "api doors", len(found))
    return {
        "doors": [
            {
                "unit": view.place.unit, "door": view.place.door, "label": view.place.label,
                "zone": view.place.zone, "state": view.tone, "state_text": view.state,
                "since_ms": view.since_ms, "unit_state": view.unit_state, "heard_ms": view.seen_ms,
                "granted_today": view.granted, "refused_today": view.refused, "incidents": view.incidents,
            }
            for view in found
        ]
    }  # fmt: skip


def api_incidents(call: Call) -> dict[str, Any]:
    """What is open."""
    with call.backend.store.reading() as db:
        found = incidents.listed(db, call.viewer, resolved=False)
    call.note("read", "api incidents", len(found))
    names = ("id", "kind", "severity", "unit", "site", "door", "opened_ms", "last_ms", "times", "owner",
             "acknowledged_ms", "reopened")  # fmt: skip
    return {"incidents": [{name: getattr(row, name) for name in names} for row in found]}


def listing(call: Call) -> Response:
    return _page(call, "", "")


def make(call: Call) -> Response:
    rights = [right for right in RIGHTS if call.form.get(f"right-{right.name}")]
    try:
        name = call.text("name", 32).lower()
        made = Tokens(call.backend.store).make(
            name, rights, call.tags(), call.number("days"), call.viewer, call.now_ms
        )
    except DashboardError as err:
        return _page(call, "", told(err), 400)
    return _page(call, made, "")


def revoke(call: Call) -> Response:
    Tokens(call.backend.store).revoke(call.form.get("token", ""), call.viewer, call.now_ms)
    return redirect("/tokens")


def _page(call: Call, made: str, message: str, status: int = 200) -> Response:
    found = Tokens(call.backend.store).listed(call.viewer)
    return call.page(
        "tokens.html", status, tokens=found, made=made, message=message, may_hold=RIGHTS, terms=DAYS
    )
