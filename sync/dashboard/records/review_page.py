"""Record and examine: the events of a day that somebody must have looked at, signed off by who did."""

from __future__ import annotations

import datetime as dt
import json

import sqlalchemy as sa
from starlette.responses import Response

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import covers, within
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.events import events_query
from sync.dashboard.events.events_query import Filter
from sync.dashboard.events.shown import show
from sync.dashboard.schema import reviews
from sync.dashboard.site import places
from sync.dashboard.web import Call, redirect
from sync.dashboard.wording.words import ALARMS, ATTACKS
from sync.registry.database.schema import events

DAYS = 30
MAX_FINDING = 2000
RISKY = (*ALARMS, *ATTACKS, "LOCKOUT_MAX_ATTEMPTS", "PASSBACK_DETECTED")
SHOWN_MOST = 200


def overview(call: Call) -> Response:
    today = dt.datetime.fromtimestamp(call.now_ms / 1000, call.zone).date()
    chosen = _day(call.query.get("day") or (today - dt.timedelta(days=1)).isoformat(), today)
    with call.backend.store.reading() as db:
        # Somebody who looked at a part of the house has not looked at all of it.
        seen = [
            row
            for row in db.execute(sa.select(reviews).order_by(reviews.c.id))
            if covers(json.loads(row.scopes), call.viewer.scopes)
        ]
        done = {row.day: row for row in seen}
        known = places.load(db)
        rows = db.execute(_risky(call, chosen).limit(SHOWN_MOST + 1)).all()
    days = [(today - dt.timedelta(days=back)).isoformat() for back in range(1, DAYS + 1)]
    return call.page(
        "review.html",
        day=chosen,
        over=chosen < today.isoformat(),
        days=[(day, done.get(day)) for day in days],
        open_days=sum(day not in done for day in days),
        rows=[show(row, known, call.zone) for row in rows[:SHOWN_MOST]],
        more=len(rows) > SHOWN_MOST,
        signed=[row for row in seen if row.day == chosen],
    )


def sign(call: Call) -> Response:
    """Sign off a day that is over."""
    today = dt.datetime.fromtimestamp(call.now_ms / 1000, call.zone).date()
    day, finding = _day(call.form.get("day", ""), today), call.text("finding", MAX_FINDING)
    if day >= today.isoformat():
        raise RefusedError("This day is not over. Sign it off tomorrow.")
    with call.backend.store.transaction() as db:
        times = db.execute(
            sa.select(sa.func.count()).select_from(_risky(call, day).order_by(None).subquery())
        )
        seen = int(times.scalar_one())
        values = {"day": day, "account": call.viewer.account, "time_ms": call.now_ms, "events": seen}
        scopes = json.dumps(call.viewer.scopes)
        db.execute(sa.insert(reviews).values(**values, finding=finding, scopes=scopes))
        journal.append(db, call.viewer.account, "review", f"{day}: {finding}", call.now_ms, rows=seen)
    return redirect(f"/review?day={day}")


def _risky(call: Call, day: str) -> sa.Select[tuple[object, ...]]:
    when = Filter(since=day, until=day).conditions(call.zone)
    return (
        sa.select(*events_query.SHOWN)
        .where(*when, sa.or_(events.c.kind.in_(RISKY), events.c.silent_alarm == 1))
        .where(within(call.viewer.scopes, events.c.unit, events.c.door))
        .order_by(events.c.time_ms.desc())
    )


def _day(text: str, today: dt.date) -> str:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as err:
        raise not_found() from err
    if len(text) != 10 or day > today or day.year < 2000:
        raise not_found()
    return text
