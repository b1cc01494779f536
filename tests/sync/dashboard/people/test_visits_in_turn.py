"""A unit obeys the last command it got: whatever happens at once, that carries the newest end of a visit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.demo.demo_data import DemoData
from sync.dashboard.demo.demo_events import DemoSize
from sync.dashboard.migrations import prepare
from sync.dashboard.people import visits
from sync.dashboard.schema import visit_units
from sync.keys import FileSigner
from sync.registry.database.schema import commands, events
from sync.registry.database.store import Store
from tests.sync.between import Interrupted, Other, after_the_first_transaction
from tests.sync.dashboard.conftest import PASSWORD, Hospital
from tests.sync.services import postgres

DESK = Viewer("desk", "desk", (), "", "")
DAY_MS = 86_400_000


def begun(hospital: Hospital) -> int:
    """A visit of two days; its number."""
    with hospital.store.reading() as db:
        seen = sa.select(events.c.person).where(events.c.unit.like("st-mary/%"), events.c.person.is_not(None))
        person = db.execute(seen.limit(1)).scalar_one()
    now_ms = hospital.now_ms()
    return visits.ask(
        hospital.store, hospital.signer, DESK, person, "st-mary", "facilities", "agency nurse", now_ms,
        now_ms + 2 * DAY_MS, now_ms,
    )  # fmt: skip


def last_told(hospital: Hospital) -> list[tuple[int, int | None]]:
    """Of each unit's last command: the end that it carries, and the number that the visit remembers it by."""
    last = sa.select(commands.c.unit, sa.func.max(commands.c.counter).label("counter")).group_by(
        commands.c.unit
    )
    newest = last.subquery()
    mine = sa.and_(commands.c.unit == newest.c.unit, commands.c.counter == newest.c.counter)
    query = sa.select(commands.c.arguments, commands.c.counter, visit_units.c.counter.label("kept"))
    query = query.join(newest, mine).join(visit_units, visit_units.c.unit == commands.c.unit)
    with hospital.store.reading() as db:
        rows: list[Any] = list(db.execute(query))
    assert all(row.kept == row.counter for row in rows)
    return [(json.loads(row.arguments)["ends_ms"], row.kept) for row in rows]


def test_who_repeats_a_visit_never_tells_an_end_that_was_changed_meanwhile(hospital: Hospital) -> None:
    store, signer, number = hospital.store, hospital.signer, begun(hospital)
    later_ms = hospital.now_ms() + DAY_MS + 1  # nobody has answered: all are to be told again

    def ended() -> None:
        visits.end(store, signer, DESK, number, later_ms)

    with after_the_first_transaction(store, ended):
        assert visits.tell_due(store, signer, later_ms) == 0
    told = last_told(hospital)
    assert len(told) > 1
    assert {ends_ms for ends_ms, _ in told} == {later_ms}
    assert {counter for _, counter in told} == {2}, "each was told twice, the second time the end"


def test_a_visit_and_what_tells_of_it_are_one(hospital: Hospital) -> None:
    """Between the two somebody else could have told it first, and each unit would be told twice."""
    store, signer = hospital.store, hospital.signer
    now_ms = hospital.now_ms()
    asked = []

    def chores() -> None:
        asked.append(visits.tell_due(store, signer, now_ms))

    seen = begun(hospital)
    for change in (
        lambda: visits.change(store, signer, DESK, seen, now_ms + DAY_MS, now_ms),
        lambda: visits.end(store, signer, DESK, seen, now_ms),
        lambda: visits.lift(store, signer, DESK, seen, "has a contract", now_ms),
    ):
        with after_the_first_transaction(store, chores):
            change()
    assert asked == [0, 0, 0]
    with store.reading() as db:
        told = db.execute(sa.select(commands.c.unit, sa.func.count()).group_by(commands.c.unit)).all()
    assert {times for _, times in told} == {4}


@pytest.mark.e2e
def test_on_postgresql_who_ends_a_visit_waits_for_who_is_telling_it(tmp_path: Path) -> None:
    with postgres() as cluster:
        store = Store.open(cluster.url)
        prepare(store)
        hospital = Hospital(tmp_path, store, FileSigner.generate())
        data = DemoData(store, hospital.now_ms(), DemoSize(doors=6, days=2, per_day=8))
        data.make()
        for role in ("desk", "facilities"):
            token = hospital.accounts.invite(role, (), "test", hospital.now_ms())
            hospital.accounts.accept(token, role, PASSWORD, hospital.now_ms())
        number, later_ms = begun(hospital), hospital.now_ms() + DAY_MS + 1
        other = Other(store, lambda: visits.end(store, hospital.signer, DESK, number, later_ms))
        assert visits.tell_due(store, Interrupted(hospital.signer, other.begin), later_ms) > 0
        assert other.end() == []
        told = last_told(hospital)
        assert {ends_ms for ends_ms, _ in told} == {later_ms}
        assert {counter for _, counter in told} == {3}
        store.close()
