"""Temporary people: a sponsor answers for them, and their access ends by itself at every door of the site.

A visit gives no access that the rules do not give: it limits the time in which they count for one person. It
goes to each unit as a signed command that carries its end, so a unit without a network ends it too; a unit
that was away, or came later, is told again until it has answered. What changes a visit and what tells of it
take turns: a unit obeys the last command it got, which must never carry an older end than the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import ROLES, Right, Viewer, at_whole_sites, site_within, within
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import accounts, visit_units, visits
from sync.dashboard.wording.words import LET_IN
from sync.events import Signer, UnitId
from sync.registry.commands import issued as orders
from sync.registry.database.schema import commands, events, units
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, insert, take_turn

DAY_MS = 86_400_000
LONGEST_MS = 90 * DAY_MS
"""After that their sponsor confirms again that they are still here."""
SOON_MS = 3 * DAY_MS
FRESH_MS = 14 * DAY_MS
GRACE_MS = 60_000
"""A unit's clock may be off by so much."""
LIFE_MS = DAY_MS
AGAIN_MS = 3_600_000
LIFT_FOR_MS = 30 * DAY_MS
MOST = 200
MOST_NEW = 20
State = Literal["waiting", "here", "soon", "ended", "lifted"]
STATES = {
    "waiting": "not begun",
    "here": "here",
    "soon": "ends soon",
    "ended": "ended",
    "lifted": "not temporary any more",
}


@dataclass(frozen=True, slots=True)
class Visit:
    """One person's time at one site, and how far the doors know of it."""

    id: int
    person: str
    site: str
    what: str
    sponsor: str
    answered: bool
    """Whether the sponsor still has an account; else nobody answers for this person."""
    begins_ms: int
    ends_ms: int
    state: State
    units: int
    told: int
    """Units that have answered that they keep it."""
    refused: int
    last_ms: int | None
    """When the person was last let in at the site."""
    late: int
    """Times they were let in after the end; there should be none."""


def ask(
    store: Store, signer: Signer, viewer: Viewer, person: str, site: str, sponsor: str, what: str,
    begins_ms: int, ends_ms: int, now_ms: int,
) -> int:  # fmt: skip
    """Make a person temporary at a site; the visit's number. Raises RefusedError."""
    _check_times(begins_ms, ends_ms, now_ms)
    with store.transaction() as db:
        take_turn(db, Turn.VISITS)
        _check_site(db, viewer, person, site)
        _check_sponsor(db, sponsor)
        same = (visits.c.person == person, visits.c.site == site, visits.c.lifted_ms.is_(None))
        if db.execute(sa.select(visits.c.id).where(*same)).first() is not None:
            raise RefusedError("This person is temporary here already: change the end.", 409)
        values = {"person": person, "site": site, "sponsor": sponsor, "what": what, "begins_ms": begins_ms}
        number = insert(db, visits, **values, ends_ms=ends_ms, made_by=viewer.account, made_ms=now_ms)
        about = f"{number}: {person} at {site}, {sponsor} answers: {what}"
        journal.append(db, viewer.account, "temporary", about, now_ms)
        _tell(store, db, signer, now_ms, number)
    return number


def change(store: Store, signer: Signer, viewer: Viewer, number: int, ends_ms: int, now_ms: int) -> None:
    """Give a visit another end. Raises RefusedError."""
    with store.transaction() as db:
        take_turn(db, Turn.VISITS)
        row = _mine(db, viewer, number)
        begins_ms = min(row.begins_ms, ends_ms - 1000)
        _check_times(begins_ms, ends_ms, now_ms)
        _set(db, number, begins_ms=begins_ms, ends_ms=ends_ms)
        journal.append(db, viewer.account, "visit changed", f"{number}: {row.person}", now_ms)
        _tell(store, db, signer, now_ms, number)


def end(store: Store, signer: Signer, viewer: Viewer, number: int, now_ms: int) -> None:
    """End a visit now: no door of the site lets this person in. Raises RefusedError."""
    with store.transaction() as db:
        take_turn(db, Turn.VISITS)
        row = _mine(db, viewer, number)
        if row.ends_ms <= now_ms:
            raise RefusedError("This visit is over already.", 409)
        _set(db, number, begins_ms=min(row.begins_ms, now_ms - 1000), ends_ms=now_ms)
        journal.append(db, viewer.account, "visit ended", f"{number}: {row.person}", now_ms)
        _tell(store, db, signer, now_ms, number)


def answer_for(store: Store, viewer: Viewer, number: int, now_ms: int) -> None:
    """`viewer` answers for this person from now on. Raises RefusedError."""
    with store.transaction() as db:
        row = _mine(db, viewer, number)
        _check_sponsor(db, viewer.account)
        db.execute(sa.update(visits).where(visits.c.id == number).values(sponsor=viewer.account))
        about = f"{number}: {row.person}, before: {row.sponsor}"
        journal.append(db, viewer.account, "answers for", about, now_ms)


def lift(store: Store, signer: Signer, viewer: Viewer, number: int, why: str, now_ms: int) -> None:
    """Let the person stay for good: only the rules count again. Raises RefusedError."""
    with store.transaction() as db:
        take_turn(db, Turn.VISITS)
        row = _mine(db, viewer, number)
        _set(db, number, lifted_ms=now_ms)
        journal.append(db, viewer.account, "visit lifted", f"{number}: {row.person}: {why}", now_ms)
        _tell(store, db, signer, now_ms, number)


def tell_due(store: Store, signer: Signer, now_ms: int) -> int:
    """Tell units that do not know a visit, or enrolled the person anew since; returns how many commands."""
    with store.reading() as db:
        waiting = [row.id for row, _ in _waiting(db, now_ms)]
    told = 0
    for number in waiting:
        with store.transaction() as db:
            take_turn(db, Turn.VISITS)
            told += _tell(store, db, signer, now_ms, number)  # as it stands now: it may have been changed
    return told


def listed(db: Connection, viewer: Viewer, now_ms: int, person: str | None = None) -> list[Visit]:
    """Those that end next first; after them those that ended in the last month."""
    query = sa.select(visits, accounts.c.disabled_ms, accounts.c.name).outerjoin(
        accounts, accounts.c.name == visits.c.sponsor
    )
    recent = sa.and_(visits.c.lifted_ms.is_(None), visits.c.ends_ms > now_ms - LIFT_FOR_MS)
    query = query.where(recent) if person is None else query.where(visits.c.person == person)
    over = sa.case((visits.c.ends_ms <= now_ms, 1), else_=0)
    query = query.where(at_whole_sites(viewer.scopes, visits.c.site))
    mine = db.execute(query.order_by(over, visits.c.ends_ms, visits.c.id).limit(MOST)).all()
    told = _told(db, [row.id for row in mine])
    return [_visit(db, row, told.get(row.id, (0, 0)), now_ms) for row in mine]


def unanswered(db: Connection, now_ms: int) -> int:
    """How many people are here whose sponsor has no account any more."""
    gone = sa.or_(accounts.c.name.is_(None), accounts.c.disabled_ms.is_not(None))
    query = sa.select(sa.func.count()).select_from(
        visits.outerjoin(accounts, accounts.c.name == visits.c.sponsor)
    )
    here = (visits.c.lifted_ms.is_(None), visits.c.ends_ms > now_ms, gone)
    return int(db.execute(query.where(*here)).scalar_one())


def newcomers(db: Connection, viewer: Viewer, now_ms: int) -> list[Any]:
    """Who was enrolled in the last two weeks and is not temporary: (person, unit, time_ms)."""
    known = sa.select(visits.c.person).where(visits.c.lifted_ms.is_(None))
    query = sa.select(events.c.person, events.c.unit, sa.func.max(events.c.time_ms).label("time_ms"))
    query = query.where(
        events.c.kind == "ENROLLED", events.c.time_ms > now_ms - FRESH_MS, events.c.person.is_not(None),
        events.c.person.not_in(known), within(viewer.scopes, events.c.unit, events.c.door),
    )  # fmt: skip
    query = query.group_by(events.c.person, events.c.unit).order_by(sa.desc("time_ms")).limit(MOST_NEW)
    return list(db.execute(query))


def sponsors(db: Connection) -> list[str]:
    """The accounts that may answer for somebody."""
    roles = [role for role, rights in ROLES.items() if Right.SPONSOR in rights]
    query = sa.select(accounts.c.name).where(accounts.c.role.in_(roles), accounts.c.disabled_ms.is_(None))
    return list(db.execute(query.order_by(accounts.c.name)).scalars())


def sites_of(db: Connection, viewer: Viewer, person: str) -> list[str]:
    """Where this person was seen and `viewer` sees the whole site."""
    found = sa.select(events.c.unit).where(events.c.person == person).distinct()
    sites = {unit.partition("/")[0] for unit in db.execute(found).scalars()}
    return sorted(site for site in sites if site_within(viewer.scopes, site))


def _check_times(begins_ms: int, ends_ms: int, now_ms: int) -> None:
    if not begins_ms < ends_ms or ends_ms <= now_ms:
        raise RefusedError("A visit ends after it begins, and later than now.")
    if ends_ms > now_ms + LONGEST_MS:
        raise RefusedError("A visit ends within 90 days; then say again that this person is still here.")


def _check_site(db: Connection, viewer: Viewer, person: str, site: str) -> None:
    if site not in sites_of(db, viewer, person):
        raise RefusedError("Nobody with this pseudonym was seen at that site by anybody you can see.", 404)


def _check_sponsor(db: Connection, sponsor: str) -> None:
    if sponsor not in sponsors(db):
        raise RefusedError(
            "Only an account of facilities, the desk or an administrator answers for somebody."
        )


def _mine(db: Connection, viewer: Viewer, number: int) -> Any:
    query = sa.select(visits).where(visits.c.id == number, visits.c.lifted_ms.is_(None))
    row = db.execute(query).one_or_none()
    if row is None or not site_within(viewer.scopes, row.site):
        raise RefusedError("There is no such visit.", 404)
    return row


def _set(db: Connection, number: int, **values: int) -> None:
    """Change a visit; every unit has to hear of it anew."""
    db.execute(sa.update(visits).where(visits.c.id == number).values(**values))
    db.execute(sa.update(visit_units).where(visit_units.c.visit == number).values(counter=None))


def _tell(store: Store, db: Connection, signer: Signer, now_ms: int, number: int) -> int:
    """Tell the units that wait for one visit, in the transaction that has the turn; how many commands."""
    told = 0
    for row, names in _waiting(db, now_ms, number):
        action, arguments = "lift_visit", {"person": row.person}
        if row.lifted_ms is None:
            action = "limit_visit"
            arguments = {"person": row.person, "begins_ms": row.begins_ms, "ends_ms": row.ends_ms}
        made = orders.issue_in(
            db, signer, [UnitId(name) for name in names], action, arguments, account=row.made_by,
            now_ms=now_ms, life_ms=LIFE_MS,
        )  # fmt: skip
        for command in made:
            kept = store.upsert(visit_units).values(visit=row.id, unit=command.unit, counter=command.counter)
            again = {"counter": command.counter}
            db.execute(kept.on_conflict_do_update(index_elements=["visit", "unit"], set_=again))
        told += len(made)
    return told


def _waiting(db: Connection, now_ms: int, number: int | None = None) -> list[tuple[Any, list[str]]]:
    """Visits, and the units that have to be told of each."""
    live = sa.or_(visits.c.lifted_ms.is_(None), visits.c.lifted_ms > now_ms - LIFT_FOR_MS)
    chosen = live if number is None else visits.c.id == number
    rows = {row.id: row for row in db.execute(sa.select(visits).where(chosen))}
    if not rows:
        return []
    found: dict[int, set[str]] = {}
    mine = sa.and_(visit_units.c.visit == visits.c.id, visit_units.c.unit == units.c.unit)
    sent = sa.and_(commands.c.unit == units.c.unit, commands.c.counter == visit_units.c.counter)
    failed = sa.and_(commands.c.status != "done", commands.c.answered_ms <= now_ms - AGAIN_MS)
    silent = sa.and_(commands.c.status.is_(None), commands.c.expires_ms <= now_ms)
    joined = visits.join(units, sa.and_(units.c.site == visits.c.site, units.c.revoked_ms.is_(None)))
    query = (
        sa.select(visits.c.id, units.c.unit)
        .select_from(joined.outerjoin(visit_units, mine).outerjoin(commands, sent))
        .where(visits.c.id.in_(rows), sa.or_(commands.c.counter.is_(None), failed, silent))
    )
    # A person who was forgotten and enrolled again is a new person to that unit.
    enrolled = (
        sa.select(visits.c.id, events.c.unit)
        .select_from(
            visits.join(events, events.c.person == visits.c.person)
            .join(visit_units, sa.and_(visit_units.c.visit == visits.c.id,
                                       visit_units.c.unit == events.c.unit))
            .join(commands, sa.and_(commands.c.unit == events.c.unit,
                                    commands.c.counter == visit_units.c.counter))
        )
        .where(visits.c.id.in_(rows), visits.c.lifted_ms.is_(None), events.c.kind == "ENROLLED",
               events.c.received_ms > commands.c.issued_ms)
    )  # fmt: skip
    for id_, unit in (*db.execute(query), *db.execute(enrolled)):
        found.setdefault(id_, set()).add(unit)
    return [(rows[id_], sorted(names)) for id_, names in sorted(found.items())]


def _told(db: Connection, numbers: Sequence[int]) -> dict[int, tuple[int, int]]:
    """(units that keep it, units that refused) of each visit."""
    sent = sa.and_(commands.c.unit == visit_units.c.unit, commands.c.counter == visit_units.c.counter)
    done = sa.func.sum(sa.case((commands.c.status == "done", 1), else_=0))
    refused = sa.func.sum(sa.case((commands.c.status.in_(("refused", "failed", "interrupted")), 1), else_=0))
    query = sa.select(visit_units.c.visit, done, refused).join(commands, sent)
    rows = db.execute(query.where(visit_units.c.visit.in_(numbers)).group_by(visit_units.c.visit))
    return {visit: (int(done or 0), int(refused or 0)) for visit, done, refused in rows}


def _visit(db: Connection, row: Any, told: tuple[int, int], now_ms: int) -> Visit:
    here = (events.c.person == row.person, events.c.kind.in_(LET_IN), events.c.unit.like(f"{row.site}/%"))
    late = sa.func.sum(sa.case((events.c.time_ms > row.ends_ms + GRACE_MS, 1), else_=0))
    last_ms, times = db.execute(sa.select(sa.func.max(events.c.time_ms), late).where(*here)).one()
    there = sa.select(sa.func.count()).where(units.c.site == row.site, units.c.revoked_ms.is_(None))
    state: State = "here"
    if row.lifted_ms is not None:
        state = "lifted"
    elif row.ends_ms <= now_ms:
        state = "ended"
    elif row.begins_ms > now_ms:
        state = "waiting"
    elif row.ends_ms <= now_ms + SOON_MS:
        state = "soon"
    return Visit(
        row.id, row.person, row.site, row.what, row.sponsor, row.name is not None and row.disabled_ms is None,
        row.begins_ms, row.ends_ms, state, int(db.execute(there).scalar_one()), told[0], told[1], last_ms,
        int(times or 0) if row.lifted_ms is None else 0,
    )  # fmt: skip
