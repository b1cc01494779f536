"""What waits for a second person."""

from __future__ import annotations

from starlette.responses import Response

from sync.dashboard.accounts import approvals
from sync.dashboard.web import Call, redirect


def listing(call: Call) -> Response:
    found = approvals.listed(call.backend.store, call.now_ms, call.viewer.scopes)
    lines = [(request, request.state(call.now_ms)) for request in found]
    return call.page("approvals.html", lines=lines, waiting=sum(state == "open" for _, state in lines))


def decide(call: Call) -> Response:
    agree = call.form.get("answer") == "agree"
    backend = call.backend
    number, viewer = call.number("request"), call.viewer
    approvals.decide(
        backend.store, backend.names, number, agree, viewer.account, call.now_ms, scopes=viewer.scopes
    )
    return redirect("/approvals")
