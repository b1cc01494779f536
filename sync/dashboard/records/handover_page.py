"""The page on which one shift hands over to the next."""

from __future__ import annotations

import json

from starlette.responses import Response

from sync.dashboard.accounts.rights import Right
from sync.dashboard.incidents.incidents_page import where
from sync.dashboard.records import handover
from sync.dashboard.site import places
from sync.dashboard.web import Call, redirect
from sync.dashboard.wording import words

MAX_TEXT = 4000


def overview(call: Call) -> Response:
    with call.backend.store.reading() as db:
        now = handover.still_open(db, call.viewer, call.now_ms)
        rows = handover.listed(db, call.viewer)
        known = places.load(db)
    lines = [(row, words.alarm(row.kind), where(row, known)) for row in now.incidents]
    return call.page(
        "handover.html",
        now=now,
        lines=lines,
        handovers=[(row, json.loads(row.left_open)) for row in rows],
        may_lock=call.viewer.may(Right.LOCK_DOWN),
    )


def write(call: Call) -> Response:
    handover.hand_over(call.backend.store, call.viewer, call.text("text", MAX_TEXT), call.now_ms)
    return redirect("/handover")


def accept(call: Call) -> Response:
    handover.accept(call.backend.store, call.viewer, call.number("handover"), call.now_ms)
    return redirect("/handover")
