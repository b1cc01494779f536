"""Two who act on one thing at the same moment, on PostgreSQL: the second sees what the first has done."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.provisioning import claims, recovery
from sync.keys import FileSigner
from sync.orders.desired import Holding, Statement
from sync.proofs.bundle import key_to_der
from sync.registry import readmission
from sync.registry.database.fleet_tables import rollouts
from sync.registry.database.schema import units
from sync.registry.database.store import Store
from sync.registry.fleet import people, rollout, wanted
from tests.sync.between import Other
from tests.sync.services import postgres

pytestmark = pytest.mark.e2e
NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
NOW_MS = claims.milliseconds(NOW)
ICU = unit_id("st-mary/icu")
BUNDLE: dict[str, Any] = {"manifest": ["00" * 32, 1], "signature": "", "key": ""}
Act = Callable[[], object]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgres() as running:
        yield running.url


@pytest.fixture
def store(cluster: str) -> Iterator[Store]:
    made = Store.open(cluster)
    yield made
    with made.engine.begin() as db:
        db.execute(sa.text("DROP SCHEMA public CASCADE"))
        db.execute(sa.text("CREATE SCHEMA public"))
    made.close()


def registered(store: Store) -> None:
    store.register(ICU, key_to_der(FileSigner.generate().public_key()), NOW_MS)


def meanwhile(store: Store, statement: str, first: Act, second: Act) -> list[Exception]:
    """`second` begins when `first` is about to run a statement that begins so; what `second` failed with."""
    other = Other(store, second)
    left = [other.begin]

    def looked(*told: Any) -> None:
        if left and str(told[2]).startswith(statement):
            left.pop()()

    sa.event.listen(store.engine, "before_cursor_execute", looked)
    first()
    sa.event.remove(store.engine, "before_cursor_execute", looked)
    assert not left, f"there was no {statement}"
    return other.end()


def test_one_request_that_two_approve_closes_the_log_once(store: Store) -> None:
    registered(store)
    number = readmission.ask(store, ICU, account="ada", why="board burnt", now_ms=NOW_MS)
    failed = meanwhile(
        store,
        "INSERT INTO units",
        lambda: readmission.approve(store, number, account="zoe", now_ms=NOW_MS),
        lambda: readmission.approve(store, number, account="eve", now_ms=NOW_MS),
    )
    assert [str(err).partition(";")[0] for err in failed] == [f"there is no open request {number}"]
    assert set(store.public_keys()) == {ICU, f"{ICU}~1"}


def test_a_stop_that_comes_while_a_roll_out_is_looked_at_says_whether_it_was_in_time(store: Store) -> None:
    with store.transaction() as db:
        row = {"scope": "all", "bundle": json.dumps(BUNDLE), "canary": "tag:canary", "percents": "[100]"}
        row |= {"state": "running", "why": "looked at", "account": "ada"}
        numbers = {"soak_s": 0, "attempts": 0, "stage": 1, "stage_ms": 0, "started_ms": 0}
        db.execute(sa.insert(rollouts).values(**row, **numbers))

    def looks() -> None:
        with store.transaction() as db:
            rollout.assess(db, NOW_MS)

    def stops() -> None:
        assert not rollout.stop(store, "zoe", NOW_MS), "the look had brought it to its end"

    assert meanwhile(store, "UPDATE fleet_rollouts", looks, stops) == []
    with store.reading() as db:
        state = db.execute(sa.select(rollouts.c.state)).scalar_one()
        wished = wanted.wishes(db).layers.get("bundle", ())
    assert (state, len(wished)) == ("done", 1)


def test_of_two_roll_outs_that_begin_at_once_one_runs(store: Store) -> None:
    registered(store)
    wanted.set_tags(store, ICU, frozenset({"tag:canary"}))

    def starts() -> None:
        rollout.start(store, "all", BUNDLE, "tag:canary", (100,), 0, 0, "ada", NOW_MS)

    failed = meanwhile(store, "INSERT INTO fleet_rollouts", starts, starts)
    assert [str(err).partition(";")[0] for err in failed] == ["a roll-out has not ended"]


def test_of_two_claims_that_are_made_at_once_one_counts(store: Store) -> None:
    def makes(digest: str) -> Act:
        told: dict[str, Any] = {"door": "icu", "parcel": b"", "expected": None, "account": "ada", "now": NOW}
        return lambda: claims.add_claim(store, digest, ICU, **told, lasts=dt.timedelta(days=1))

    assert meanwhile(store, "INSERT INTO claims", makes("one"), makes("two")) == []
    assert [row.digest for row in claims.open_claims(store, NOW_MS)] == ["two"]


def test_what_a_unit_says_comes_before_the_end_of_a_recovery_or_is_too_late_for_it(store: Store) -> None:
    registered(store)
    wanted.want(store, "all", "recovering", True, "ada", NOW_MS)
    with store.transaction() as db:
        wanted.note_told(db, ICU, True, NOW_MS)
    holding = Holding("ANNA", 3, 1, "m", "2026-01", "access", 1, 2)
    failed = meanwhile(
        store,
        "SELECT fleet_wanted",
        lambda: people.heard(store, Statement(ICU, 1, (holding,)), NOW_MS),
        lambda: recovery.end(store, "zoe", NOW),
    )
    assert [type(err) for err in failed] == [SyncError], "it holds somebody who is not known here"
    with store.reading() as db:
        assert recovery.recovering(db)
        assert db.execute(sa.select(sa.func.count()).select_from(units)).scalar_one() == 1
