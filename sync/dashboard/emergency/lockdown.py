"""Lock-down plans: zones in an order; for each door when it was asked, since when it is locked, or why not.

Doors are asked by the registry's own signed commands, so the unit decides whether to obey, answers with its
signature, and a worker repeats the command until it does. A drill asks every unit to report instead: it
measures the same way to every door and back, and locks nothing. Egress stays free in every case.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer, sees
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import plans, run_doors, runs
from sync.dashboard.site import places
from sync.dashboard.site.places import Place, place_of
from sync.events import Signer, UnitId
from sync.orders.commands import Command
from sync.registry.commands import issued as orders
from sync.registry.database.schema import commands, units
from sync.registry.database.store import Store
from sync.registry.database.transactions import insert
from sync.registry.reports.status import unit_status

LIFE_MS = 30 * 60_000
"""A unit that comes back within half an hour still locks; after that a person decides anew."""
SHARE = 0.95
TIMER = Viewer("timer", "admin", (), "", "")
"""The account that ends a lock-down whose time is over: in the journal and in the commands."""
LONGEST_MINUTES = 24 * 60
MOST, AT_ONCE = 20, 100
State = Literal["locked", "asked", "unreachable", "refused"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Zones of one site, in the order in which they are locked."""

    id: int
    name: str
    site: str
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunDoor:
    """One door of a run. `took_ms` runs from the order to the unit's answer."""

    place: Place
    rank: int
    state: State
    asked_ms: int
    locked_ms: int | None
    took_ms: int | None
    why: str
    seen_ms: int | None
    released: bool
    """It has answered to the end of the lock-down too."""


@dataclass(frozen=True, slots=True)
class Run:
    """A lock-down or a drill, and how far it has come."""

    id: int
    name: str
    site: str
    drill: bool
    account: str
    started_ms: int
    ended_by: str | None
    ended_ms: int | None
    until_ms: int | None
    """When it ends by itself."""
    doors: tuple[RunDoor, ...]

    @property
    def locked(self) -> int:
        return sum(door.state == "locked" for door in self.doors)

    @property
    def most_locked_ms(self) -> int | None:
        """How long it took until 95 % of the doors were locked; None while they are not."""
        times = sorted(door.locked_ms - self.started_ms for door in self.doors if door.locked_ms is not None)
        needed = math.ceil(SHARE * len(self.doors))
        return times[needed - 1] if 0 < needed <= len(times) else None

    @property
    def settled(self) -> bool:
        """Nothing more is expected: all doors answered, to the end too if it was ended."""
        answered = all(door.state in ("locked", "refused") for door in self.doors)
        return answered and (self.ended_ms is None or self.drill or all(door.released for door in self.doors))


def listed(db: Connection, viewer: Viewer) -> list[Plan]:
    query = sa.select(plans).where(plans.c.removed_ms.is_(None)).order_by(plans.c.site, plans.c.name)
    found = [Plan(row.id, row.name, row.site, tuple(json.loads(row.zones))) for row in db.execute(query)]
    return [plan for plan in found if doors_of(db, viewer, plan.site, plan.zones)]


def doors_of(db: Connection, viewer: Viewer, site: str, zones: Sequence[str]) -> list[Place]:
    """The doors of these zones that this account may lock, in the order of the zones."""
    registered = set(db.execute(sa.select(units.c.unit).where(units.c.revoked_ms.is_(None))).scalars())
    found = [
        place
        for place in places.load(db).values()
        if place.site == site and place.zone in zones and place.unit in registered
        if sees(viewer.scopes, site, place.zone)
    ]
    return sorted(found, key=lambda place: (zones.index(place.zone), place.label))


def save(store: Store, viewer: Viewer, name: str, site: str, zones: Sequence[str], now_ms: int) -> int:
    """Keep a plan. Raises RefusedError when it has no door that this account may lock."""
    with store.transaction() as db:
        if not doors_of(db, viewer, site, zones):
            raise RefusedError("These zones have no door that your account may lock.")
        values = {"name": name, "site": site, "zones": json.dumps(list(zones)), "created_by": viewer.account}
        number = insert(db, plans, **values)
        journal.append(db, viewer.account, "plan", f"{name}: {site} {' '.join(zones)}", now_ms)
        return number


def remove(store: Store, viewer: Viewer, number: int, now_ms: int) -> None:
    with store.transaction() as db:
        mine = next((plan for plan in listed(db, viewer) if plan.id == number), None)
        if mine is None:
            raise RefusedError("There is no such plan.", 404)
        db.execute(sa.update(plans).where(plans.c.id == number).values(removed_ms=now_ms))
        journal.append(db, viewer.account, "plan removed", mine.name, now_ms)


def start(
    store: Store,
    signer: Signer,
    viewer: Viewer,
    *,
    name: str,
    site: str,
    zones: Sequence[str],
    plan: int,
    drill: bool,
    now_ms: int,
    minutes: int = 0,
) -> int:
    """Order every door of the zones to lock, first zone first; the run's number.

    One transaction: all doors are asked, or, should this process die meanwhile, none is and nothing says that
    one was. After `minutes` it ends by itself; 0: only when somebody ends it.
    """
    with store.transaction() as db:
        doors = doors_of(db, viewer, site, zones)
        if not doors:
            raise RefusedError("These zones have no door that your account may lock.")
        values = {"plan": plan, "name": name, "site": site, "drill": int(drill), "account": viewer.account}
        until_ms = now_ms + minutes * 60_000 if minutes and not drill else None
        run = insert(db, runs, **values, started_ms=now_ms, until_ms=until_ms)
        what = "drill" if drill else "lock-down"
        journal.append(db, viewer.account, what, f"run {run}: {name}, {site} {' '.join(zones)}", now_ms)
        action, asked = "report_health" if drill else "lock_down", list[dict[str, int | str]]()
        ranks = {unit: rank for rank, unit in enumerate(dict.fromkeys(place.unit for place in doors))}
        left = set(ranks)
        for number, zone in enumerate(zones):
            mine = [UnitId(p.unit) for p in doors if p.zone == zone and p.unit in left]
            left.difference_update(mine)
            # What was issued first is sent first: a millisecond apart keeps the zones in their order.
            issued_ms = now_ms - (len(zones) - 1 - number)
            for order in _order(db, signer, mine, action, viewer, issued_ms):
                unit = order.unit
                asked.append({"run": run, "unit": unit, "rank": ranks[unit], "counter": order.counter})
        if asked:
            db.execute(sa.insert(run_doors), asked)
    return run


def end(store: Store, signer: Signer, viewer: Viewer, run: int, now_ms: int) -> None:
    """Order the doors of a run to go by their rules again, in one transaction. Raises RefusedError."""
    with store.transaction() as db:
        mine = one(db, viewer, run, now_ms)
        if mine is None:
            raise RefusedError("There is no such lock-down.", 404)
        done = sa.update(runs).where(runs.c.id == run, runs.c.ended_ms.is_(None))
        if db.execute(done.values(ended_ms=now_ms, ended_by=viewer.account)).rowcount != 1:
            raise RefusedError("This lock-down has been ended already.", 409)
        journal.append(db, viewer.account, "lock-down ended", f"run {run}: {mine.name}", now_ms)
        if mine.drill:
            return
        asked = list(dict.fromkeys(UnitId(door.place.unit) for door in mine.doors))
        ended = [
            {"b_unit": order.unit, "end_counter": order.counter}
            for order in _order(db, signer, asked, "end_lock_down", viewer, now_ms)
        ]
        if ended:
            here = (run_doors.c.run == run, run_doors.c.unit == sa.bindparam("b_unit"))
            db.execute(sa.update(run_doors).where(*here), ended)


def end_due(store: Store, signer: Signer, now_ms: int) -> None:
    """End what was to end by itself by now."""
    over = (runs.c.until_ms <= now_ms, runs.c.ended_ms.is_(None))
    with store.reading() as db:
        due = list(db.execute(sa.select(runs.c.id).where(*over)).scalars())
    for run in due:
        # Of several workers one ends it.
        with contextlib.suppress(RefusedError):
            end(store, signer, TIMER, run, now_ms)


def recent(db: Connection, viewer: Viewer, now_ms: int) -> list[Run]:
    """The newest first, `MOST` at most."""
    return list(islice(_seen(db, viewer, now_ms, sa.true()), MOST))


def in_force(db: Connection, viewer: Viewer, now_ms: int) -> list[Run]:
    """The lock-downs, and no drills, that have not been ended; the newest first."""
    return list(_seen(db, viewer, now_ms, sa.and_(runs.c.ended_ms.is_(None), runs.c.drill == 0)))


def _seen(db: Connection, viewer: Viewer, now_ms: int, which: sa.ColumnElement[bool]) -> Iterator[Run]:
    """Those that this account may see, the newest first."""
    sites = {scope.partition("/")[0] for scope in viewer.scopes}
    query = sa.select(runs.c.id).where(which, runs.c.site.in_(sites) if sites else sa.true())
    numbers = db.execute(query.order_by(runs.c.id.desc())).scalars().all()
    place_of_unit = _place_of_unit(db)
    seen = cache(lambda unit: _sees(viewer, place_of_unit(unit)))
    for start in range(0, len(numbers), AT_ONCE):
        some = numbers[start : start + AT_ONCE]
        hidden = set()  # by their doors alone: reading a run whole costs far more
        if sites:
            doors = sa.select(run_doors.c.run, run_doors.c.unit).where(run_doors.c.run.in_(some))
            hidden = {run for run, unit in db.execute(doors) if not seen(unit)}
        for number in some:
            if number not in hidden and (run := one(db, viewer, number, now_ms)) is not None:
                yield run


def _sees(viewer: Viewer, place: Place) -> bool:
    return sees(viewer.scopes, place.site, place.zone)


def _place_of_unit(db: Connection) -> Callable[[str], Place]:
    known = places.load(db)
    by_unit = {unit: place for (unit, _), place in known.items()}
    return lambda unit: by_unit.get(unit) or place_of(known, unit, "")


def one(db: Connection, viewer: Viewer, number: int, now_ms: int) -> Run | None:
    """A run, if this account may see every door of it."""
    row = db.execute(sa.select(runs).where(runs.c.id == number)).one_or_none()
    if row is None:
        return None
    place_of_unit = _place_of_unit(db)
    asked = sa.and_(commands.c.unit == run_doors.c.unit, commands.c.counter == run_doors.c.counter)
    ending = commands.alias("ending")
    freed = sa.and_(ending.c.unit == run_doors.c.unit, ending.c.counter == run_doors.c.end_counter)
    told = (commands.c.issued_ms, commands.c.status, commands.c.why, commands.c.answered_ms)
    query = (
        sa.select(run_doors, *told, ending.c.status.label("freed"), units)
        .join(commands, asked)
        .outerjoin(ending, freed)
        .join(units, units.c.unit == run_doors.c.unit)
        .where(run_doors.c.run == number)
        .order_by(run_doors.c.rank)
    )
    rows = db.execute(query).all()
    found = []
    for line in rows:
        place = place_of_unit(line.unit)
        if not _sees(viewer, place):
            return None
        found.append(_door(line, place, now_ms))
    return Run(
        row.id, row.name, row.site, bool(row.drill), row.account, row.started_ms, row.ended_by, row.ended_ms,
        row.until_ms,
        tuple(found),
    )  # fmt: skip


def _door(line: Any, place: Place, now_ms: int) -> RunDoor:
    status = unit_status(line, now_ms)
    state: State = "asked"
    if line.status == "done":
        state = "locked"
    elif line.status is not None:
        state = "refused"
    elif status.state in ("silent", "offline", "revoked"):
        state = "unreachable"
    locked_ms = line.answered_ms if state == "locked" else None
    took_ms = locked_ms - line.issued_ms if locked_ms is not None else None
    why = line.why or "" if state == "refused" else ""
    return RunDoor(
        place, line.rank, state, line.issued_ms, locked_ms, took_ms, why, status.heard_ms or None,
        line.freed == "done",
    )  # fmt: skip


def _order(
    db: Connection, signer: Signer, names: Sequence[UnitId], action: str, viewer: Viewer, now_ms: int
) -> list[Command]:
    """The commands to these units, without those that were revoked a moment ago."""
    return orders.issue_in(
        db, signer, names, action, {}, account=viewer.account, now_ms=now_ms, life_ms=LIFE_MS
    )
