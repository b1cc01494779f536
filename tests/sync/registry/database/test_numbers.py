"""A number that somebody wrote down never means another thing: none is given twice, on either database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.dashboard import schema as dashboard
from sync.dashboard.migrations import prepare
from sync.registry.campaigns.placing import drop
from sync.registry.database.campaign_tables import campaigns
from sync.registry.database.schema import metadata
from sync.registry.database.store import Store
from sync.registry.database.transactions import insert
from tests.sync.services import postgres

ROOT = Path(__file__).parents[4]
ROW = {"model": "m", "centre": b"", "times": 1, "reporters": 1, "first_ms": 1, "last_ms": 1, "likeness": 1000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgres() as running:
        yield running.url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    sqlite = request.param == "sqlite"
    made = Store.open(f"sqlite:///{tmp_path}/registry.db" if sqlite else request.getfixturevalue("cluster"))
    prepare(made)
    yield made
    made.close()


def test_a_campaign_that_was_dropped_leaves_its_number_to_no_other(store: Store) -> None:
    with store.transaction() as db:
        first = insert(db, campaigns, **ROW, state="forming", origin="")
        drop(db, [first])
    with store.transaction() as db:
        assert insert(db, campaigns, **ROW, state="forming", origin="") > first


def numbered(tables: sa.MetaData) -> list[str]:
    return sorted(table.name for table in tables.sorted_tables if "id" in table.c and _counts(table.c["id"]))


def _counts(column: sa.Column[object]) -> bool:
    return isinstance(column.type, sa.Integer)


def test_every_number_of_the_registry_is_given_once(store: Store) -> None:
    """SQLite gives the number of a row that was deleted last anew, unless the table says otherwise."""
    names = numbered(metadata)
    assert {"alarms", "campaigns", "requests", "watch_list"} <= set(names)
    with store.reading() as db:
        for name in names:
            if db.dialect.name == "sqlite":
                made = sa.text("SELECT sql FROM sqlite_master WHERE name = :name")
                assert "AUTOINCREMENT" in str(db.execute(made, {"name": name}).scalar_one()), name
            else:
                asked = sa.text("SELECT pg_get_serial_sequence(:name, 'id')")
                assert db.execute(asked, {"name": name}).scalar_one(), name


def test_nothing_that_the_dashboard_numbers_is_ever_deleted() -> None:
    """Its tables count on from the highest number that is there, so the highest stays."""
    names = set(numbered(dashboard.metadata))
    variables = {
        name for name, table in vars(dashboard).items() if isinstance(table, sa.Table) and table.name in names
    }
    assert {"incidents", "approvals", "runs", "holds", "visits"} <= variables
    deleted = {
        (path.name, name)
        for path in (ROOT / "sync").rglob("*.py")
        for name in re.findall(r"sa\.delete\((?:\w+\.)?(\w+)\)", path.read_text("utf-8"))
    }
    assert ("accounts.py", "sessions") in deleted
    assert {found for found in deleted if found[0] != "housekeeping.py" and found[1] in variables} == set()
