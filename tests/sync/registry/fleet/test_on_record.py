"""What somebody changes at the registry and the note of who did it are one commit."""

from __future__ import annotations

import ast
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.events import unit_id
from sync.fleet.provisioning import claims
from sync.registry.campaigns import known
from sync.registry.database import schema
from sync.registry.database.campaign_tables import campaigns
from sync.registry.database.engine import StoreError
from sync.registry.database.store import Store
from sync.registry.fleet import people, rollout, wanted
from sync.registry.reports import status
from sync.registry.verification import Alarm
from sync.threats.prints import MODEL, VALUES
from tests.sync.parts import START_MS

ROOT = Path(__file__).parents[4]
NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
ICU = unit_id("st-mary/icu")
ACTS: dict[str, Callable[[Store], object]] = {
    "want": lambda store: wanted.want(store, "all", "rules", None, "admin", START_MS),
    "doors": lambda store: people.allow(store, "4711", frozenset({"all"}), "admin", START_MS),
    "roll-out stopped": lambda store: rollout.stop(store, "admin", START_MS),
    "watch": lambda store: known.watch(store, 1, "seen at two doors", 7, "desk", START_MS),
    "set aside": lambda store: known.set_aside(store, 1, "a drill", "desk", START_MS),
    "acknowledge": lambda store: status.acknowledge(store, 1, "desk", START_MS),
    "claim": lambda store: claims.add_claim(
        store,
        "d1",
        ICU,
        door="icu",
        parcel=b"",
        expected=None,
        account="admin",
        now=NOW,
        lasts=dt.timedelta(1),
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(f"sqlite:///{tmp_path}/registry.db")
    with made.transaction() as db:
        made.raise_alarms(db, [Alarm("GUESSING", "warning", ICU, "1", {}, "icu")], START_MS)
        row = {"model": MODEL, "centre": bytes(VALUES), "times": 3, "reporters": 3, "first_ms": START_MS}
        db.execute(
            sa.insert(campaigns).values(**row, last_ms=START_MS, likeness=1000, state="known", origin="")
        )
    yield made
    made.close()


def everything(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.reading() as db:
        tables = {name: sa.table(name) for name in sa.inspect(db).get_table_names()}
        return {
            name: [tuple(row) for row in db.execute(sa.select(sa.text("*")).select_from(one))]
            for name, one in tables.items()
        }


@pytest.mark.parametrize("action", ACTS)
def test_a_change_that_cannot_be_put_on_record_is_not_made(store: Store, action: str) -> None:
    with store.transaction() as db:
        db.execute(
            sa.text("CREATE TRIGGER full BEFORE INSERT ON access BEGIN SELECT RAISE(ABORT, 'full'); END")
        )
    before = everything(store)
    with pytest.raises(StoreError):
        ACTS[action](store)
    assert everything(store) == before


@pytest.mark.parametrize("action", ACTS)
def test_a_change_is_on_record_once(store: Store, action: str) -> None:
    ACTS[action](store)
    with store.reading() as db:
        assert list(db.execute(sa.select(schema.access.c.action)).scalars()) == [action]


def test_only_what_reads_is_put_on_record_by_itself() -> None:
    """Reads are on record before anything is handed out; a change never in a transaction of its own."""
    reading = {"sync/registry/cli.py": 2, "sync/registry/reports/cli.py": 2}
    found: dict[str, int] = {}
    for file in (ROOT / "sync").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".log_access"):
                name = str(file.relative_to(ROOT))
                found[name] = found.get(name, 0) + 1
    assert found == reading
