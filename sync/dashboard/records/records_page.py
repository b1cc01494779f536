"""Records that somebody must keep: the biometric ledger, and sensitive rooms by shift."""

from __future__ import annotations

from collections import Counter

from starlette.responses import Response

from sync.dashboard.events.shown import short_person
from sync.dashboard.records import ledger, rooms
from sync.dashboard.site import places
from sync.dashboard.web import Call

HOUR_MS = 3_600_000
SHIFTS = {"8": 8, "12": 12, "24": 24, "168": 168}
MOST_LINES = 500


def biometric(call: Call) -> Response:
    with call.backend.store.reading() as db:
        known = places.load(db)
        held = ledger.read(db, call.viewer)
    call.note("read", "biometric ledger", len(held))
    labels = {unit: place.label for (unit, _), place in known.items()}
    lines = [(one, short_person(one.person), labels.get(one.unit, one.unit)) for one in held[:MOST_LINES]]
    soon_ms = call.now_ms + 30 * ledger.DAY_MS
    return call.page(
        "ledger.html",
        lines=lines,
        more=len(held) - len(lines),
        states=Counter(one.state for one in held),
        people=len({one.person for one in held if one.state == "held"}),
        due=sum(one.state == "held" and one.due_ms() < soon_ms for one in held),
        soon_ms=soon_ms,
    )


def sensitive(call: Call) -> Response:
    """The shift that ends now."""
    chosen = call.query.get("hours", "8")
    hours = SHIFTS.get(chosen, 8)
    since_ms = call.now_ms - hours * HOUR_MS
    with call.backend.store.reading() as db:
        known = places.load(db)
        found = rooms.shift(db, call.viewer, known, since_ms, call.now_ms)
    passages = sorted(
        ((passage, room) for room in found for passage in room.passages), key=lambda pair: -pair[0].time_ms
    )
    call.note("read", f"sensitive rooms, {hours} hours", len(passages))
    lines = [
        (passage, room.place, short_person(passage.person), short_person(passage.first))
        for passage, room in passages[:MOST_LINES]
    ]
    return call.page(
        "rooms.html",
        rooms=found,
        lines=lines,
        hours=str(hours),
        shifts=SHIFTS,
        since_ms=since_ms,
        total=len(passages),
    )
