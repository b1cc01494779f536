"""Emergency access, looked at the next day."""

from __future__ import annotations

from collections import Counter

from starlette.responses import Response

from sync.dashboard.errors import RefusedError
from sync.dashboard.records import emergency
from sync.dashboard.web import Call, redirect

MAX_FINDING = 2000
PREFIXES = ("event:", "hold:", "run:")


def overview(call: Call) -> Response:
    with call.backend.store.reading() as db:
        found = emergency.read(db, call.viewer, call.zone, call.now_ms)
    states = Counter(one.state for one in found)
    return call.page(
        "emergency.html",
        found=found,
        waiting=states["waits"] + states["overdue"],
        overdue=states["overdue"],
        done=states["reviewed"],
    )


def review(call: Call) -> Response:
    """Those that were ticked, with one finding."""
    keys = sorted(name for name in call.form if name.startswith(PREFIXES))
    if not keys:
        raise RefusedError("Tick what you looked at.")
    finding = call.text("finding", MAX_FINDING)
    emergency.review(call.backend.store, call.viewer, call.zone, keys, finding, call.now_ms)
    return redirect("/emergency")
