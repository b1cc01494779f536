"""Holds: doors that stand unlocked for a while, by a signed command; the door begins and ends it itself.

The command carries its end, so a door that hears nothing more locks all the same. It obeys only where its own
rules say `may_be_held`; a lock-down ends a hold for good. A weekly hold is one command a day, sent half a day
ahead, so that a door that loses its network in the night still keeps the day. A hold and its command, an end
and its command, are one transaction: nobody can end a hold whose command is still to be given.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import holds, weekly_holds
from sync.events import Signer, UnitId
from sync.registry.commands import issued as orders
from sync.registry.database.schema import commands
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, insert, take_turn

LONGEST_MS = 24 * 3600 * 1000
AHEAD_MS = 12 * 3600 * 1000
LATEST_MS = 48 * 3600 * 1000
TIMER = "timer"
State = Literal["asked", "accepted", "refused", "ended", "over"]
STATES = {
    "asked": "asked, not answered yet",
    "accepted": "the door will do it",
    "refused": "the door refused",
    "ended": "ended",
    "over": "over",
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions besides the hours."""

    first_person: bool = False
    """The hold begins once a person was let in."""
    on_holidays: bool = True


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold of one door, and what the door said."""

    id: int
    begins_ms: int
    ends_ms: int
    conditions: Conditions
    account: str
    why: str
    state: State
    answer: str
    """Why it refused."""
    weekly: bool

    @property
    def open(self) -> bool:
        """Whether somebody can still end it."""
        return self.state in ("asked", "accepted")


def ask(
    store: Store,
    signer: Signer,
    viewer: Viewer,
    unit: str,
    door: str,
    begins_ms: int,
    ends_ms: int,
    conditions: Conditions,
    why: str,
    now_ms: int,
) -> int:
    """Have a door stand unlocked; the hold's number. Raises RefusedError."""
    if not begins_ms < ends_ms or ends_ms <= now_ms:
        raise RefusedError("A hold ends after it begins, and later than now.")
    if ends_ms - begins_ms > LONGEST_MS or begins_ms > now_ms + LATEST_MS:
        raise RefusedError("A hold lasts a day at most and begins within two days.")
    with store.transaction() as db:
        row = _row(unit, door, begins_ms, ends_ms, conditions, viewer.account, why, now_ms)
        number = insert(db, holds, **row)
        what = f"{unit}/{door} until {_clock(ends_ms)}: {why}"
        journal.append(db, viewer.account, "door held open", what, now_ms)
        _send(db, signer, number, row, now_ms)
    return number


def end(store: Store, signer: Signer, viewer: Viewer, unit: str, door: str, hold: int, now_ms: int) -> None:
    """Lock it again now. Raises RefusedError when there is nothing to end."""
    with store.transaction() as db:
        if not _end(db, signer, viewer, unit, door, hold, now_ms):
            raise RefusedError("This hold is over already.", 409)


def plan(
    store: Store,
    viewer: Viewer,
    unit: str,
    door: str,
    days: tuple[int, ...],
    begins: dt.time,
    ends: dt.time,
    conditions: Conditions,
    now_ms: int,
) -> None:
    """Hold a door on these days of every week (0 is Monday). Raises RefusedError."""
    if not days or begins == ends:
        raise RefusedError("A weekly hold has days, and ends at another time than it begins.")
    hours = f"{begins:%H:%M} to {ends:%H:%M}"
    with store.transaction() as db:
        db.execute(
            sa.insert(weekly_holds).values(
                unit=unit,
                door=door,
                days="".join(map(str, sorted(days))),
                begins=f"{begins:%H:%M}",
                ends=f"{ends:%H:%M}",
                first_person=int(conditions.first_person),
                on_holidays=int(conditions.on_holidays),
                account=viewer.account,
                made_ms=now_ms,
            )
        )
        journal.append(db, viewer.account, "weekly hold", f"{unit}/{door}: {hours}", now_ms)


def drop_plan(
    store: Store, signer: Signer, viewer: Viewer, unit: str, door: str, number: int, now_ms: int
) -> None:
    """Remove a weekly hold and end those it has asked for. Raises RefusedError."""
    mine = (weekly_holds.c.id == number, weekly_holds.c.unit == unit, weekly_holds.c.door == door)
    with store.transaction() as db:
        take_turn(db, Turn.HOLDS)  # what asks for the next half day has asked, or sees that it is removed
        done = sa.update(weekly_holds).where(*mine, weekly_holds.c.removed_ms.is_(None))
        if db.execute(done.values(removed_ms=now_ms)).rowcount != 1:
            raise RefusedError("There is no such weekly hold.", 404)
        journal.append(db, viewer.account, "weekly hold removed", f"{unit}/{door}", now_ms)
        running = (holds.c.plan == number, holds.c.ended_ms.is_(None), holds.c.ends_ms > now_ms)
        for hold in list(db.execute(sa.select(holds.c.id).where(*running)).scalars()):
            _end(db, signer, viewer, unit, door, hold, now_ms)


def ask_due(store: Store, signer: Signer, zone: dt.tzinfo, now_ms: int) -> None:
    """Ask for the weekly holds of the next half day; of several workers one asks for each day."""
    with store.reading() as db:
        plans = db.execute(sa.select(weekly_holds).where(weekly_holds.c.removed_ms.is_(None))).all()
    for row in plans:
        for begins_ms, ends_ms, day in _windows(row, zone, now_ms):
            conditions = Conditions(bool(row.first_person), bool(row.on_holidays))
            slot = f"{row.id}:{day}"
            with store.transaction() as db:
                take_turn(db, Turn.HOLDS)
                gone = sa.select(weekly_holds.c.id).where(
                    weekly_holds.c.id == row.id, weekly_holds.c.removed_ms.is_not(None)
                )
                asked = sa.select(holds.c.id).where(holds.c.slot == slot)
                if db.execute(gone).first() or db.execute(asked).first():
                    continue
                made = _row(
                    row.unit, row.door, begins_ms, ends_ms, conditions, row.account, "every week", now_ms
                )
                number = insert(db, holds, **made, plan=row.id, slot=slot)
                journal.append(db, TIMER, "door held open", f"{row.unit}/{row.door}: {day}", now_ms)
                _send(db, signer, number, made, now_ms)


def of_door(db: Connection, unit: str, door: str, now_ms: int, limit: int = 8) -> list[Hold]:
    """The newest `limit`, newest first."""
    asked = sa.and_(commands.c.unit == holds.c.unit, commands.c.counter == holds.c.counter)
    locked = (
        sa.select(sa.func.max(commands.c.counter))
        .where(commands.c.unit == unit, commands.c.action == "lock_down", commands.c.status == "done")
        .scalar_subquery()
    )
    query = (
        sa.select(holds, commands.c.status, commands.c.why.label("answer"), locked.label("locked"))
        .outerjoin(commands, asked)
        .where(holds.c.unit == unit, holds.c.door == door)
        .order_by(holds.c.id.desc())
        .limit(limit)
    )
    return [_hold(row, now_ms) for row in db.execute(query)]


def plans_of(db: Connection, unit: str, door: str) -> list[Any]:
    mine = (weekly_holds.c.unit == unit, weekly_holds.c.door == door, weekly_holds.c.removed_ms.is_(None))
    return list(db.execute(sa.select(weekly_holds).where(*mine).order_by(weekly_holds.c.id)))


def _hold(row: Any, now_ms: int) -> Hold:
    state: State = "asked"
    if row.status not in (None, "done"):
        state = "refused"
    elif row.ended_ms is not None or (row.locked or 0) > (row.counter or 0) > 0:
        state = "ended"
    elif row.ends_ms <= now_ms:
        state = "over"
    elif row.status == "done":
        state = "accepted"
    elif row.counter is None:
        state = "refused"  # it was revoked a moment ago
    conditions = Conditions(bool(row.first_person), bool(row.on_holidays))
    return Hold(
        row.id, row.begins_ms, row.ends_ms, conditions, row.account, row.why, state, row.answer or "",
        row.plan is not None,
    )  # fmt: skip


def _windows(row: Any, zone: dt.tzinfo, now_ms: int) -> list[tuple[int, int, str]]:
    """(begin, end, day) of today and tomorrow that are not over and begin within half a day."""
    found = []
    today = dt.datetime.fromtimestamp(now_ms / 1000, zone).date()
    begins, ends = dt.time.fromisoformat(row.begins), dt.time.fromisoformat(row.ends)
    for day in (today - dt.timedelta(days=1), today, today + dt.timedelta(days=1)):
        if str(day.weekday()) not in row.days:
            continue
        last = day if begins < ends else day + dt.timedelta(days=1)
        begins_ms = int(dt.datetime.combine(day, begins, zone).timestamp() * 1000)
        ends_ms = int(dt.datetime.combine(last, ends, zone).timestamp() * 1000)
        # The day with the change of the clocks may have an hour more than a hold may last.
        ends_ms = min(ends_ms, begins_ms + LONGEST_MS)
        if ends_ms > now_ms and begins_ms <= now_ms + AHEAD_MS:
            found.append((begins_ms, ends_ms, day.isoformat()))
    return found


def _row(
    unit: str, door: str, begins_ms: int, ends_ms: int, conditions: Conditions, account: str, why: str,
    now_ms: int,
) -> dict[str, Any]:  # fmt: skip
    return {
        "unit": unit, "door": door, "begins_ms": begins_ms, "ends_ms": ends_ms, "account": account,
        "first_person": int(conditions.first_person), "on_holidays": int(conditions.on_holidays),
        "why": why, "asked_ms": now_ms,
    }  # fmt: skip


def _send(db: Connection, signer: Signer, number: int, row: dict[str, Any], now_ms: int) -> None:
    names = ("door", "begins_ms", "ends_ms", "first_person", "on_holidays")
    arguments = {name: row[name] for name in names}
    counter = _order(
        db, signer, row["unit"], "hold_open", arguments, row["account"], now_ms, row["ends_ms"]
    )  # fmt: skip
    db.execute(sa.update(holds).where(holds.c.id == number).values(counter=counter))


def _end(
    db: Connection, signer: Signer, viewer: Viewer, unit: str, door: str, hold: int, now_ms: int
) -> bool:
    """Whether there was something to end."""
    mine = (holds.c.id == hold, holds.c.unit == unit, holds.c.door == door, holds.c.ended_ms.is_(None))
    done = sa.update(holds).where(*mine, holds.c.ends_ms > now_ms)
    if db.execute(done.values(ended_ms=now_ms, ended_by=viewer.account)).rowcount != 1:
        return False
    journal.append(db, viewer.account, "hold ended", f"{unit}/{door}", now_ms)
    _order(db, signer, unit, "end_hold", {"door": door}, viewer.account, now_ms, now_ms + LONGEST_MS)
    return True


def _order(
    db: Connection, signer: Signer, unit: str, action: str, arguments: dict[str, Any], account: str,
    now_ms: int, expires_ms: int,
) -> int | None:  # fmt: skip
    """The command's number; None for a unit that was revoked a moment ago: nothing reaches it."""
    life_ms = min(LONGEST_MS, expires_ms - now_ms)
    made = orders.issue_in(
        db, signer, [UnitId(unit)], action, arguments, account=account, now_ms=now_ms, life_ms=life_ms
    )
    return made[0].counter if made else None


def _clock(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
