"""Alarms, refusals and commands have an end; what is still a matter for somebody stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.errors import SyncError
from sync.events import unit_id
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry import commands
from sync.registry.database.schema import alarms, deliveries
from sync.registry.database.schema import commands as table
from sync.registry.database.store import Store
from sync.registry.reports.status import acknowledge
from sync.registry.retention.housekeeping import DAY_MS, Tidied, tidy
from sync.registry.verification import Alarm
from tests.sync.parts import START_MS

UNIT = unit_id("st-mary/icu-2")
LATER_MS = START_MS + 91 * DAY_MS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(f"sqlite:///{tmp_path}/registry.db")
    made.register(UNIT, key_to_der(FileSigner.generate().public_key()), START_MS)
    yield made
    made.close()


def _alarm(store: Store, number: int, at_ms: int) -> None:
    with store.transaction() as db:
        store.raise_alarms(db, [Alarm("GUESSING", "warning", UNIT, str(number), {}, "door-1")], at_ms)


def test_old_alarms_that_somebody_saw_go_and_others_stay(store: Store) -> None:
    for number, at_ms in ((1, START_MS), (2, START_MS), (3, LATER_MS)):
        _alarm(store, number, at_ms)
        store.mark_delivered(number, "desk", at_ms)
    for number in (1, 3):
        assert acknowledge(store, number, "desk", LATER_MS)
    with store.transaction() as db:
        store.count_refusals(db, {("bad_signature", UNIT): 3}, START_MS)
        store.count_refusals(db, {("bad_signature", UNIT): 3}, LATER_MS)
    assert tidy(store, 90, LATER_MS) == Tidied(1, 1, 0)
    with store.reading() as db:
        assert list(db.execute(sa.select(alarms.c.id).order_by(alarms.c.id)).scalars()) == [2, 3]
        assert list(db.execute(sa.select(deliveries.c.alarm)).scalars()) == [2, 3]
    assert tidy(store, 90, LATER_MS) == Tidied(0, 0, 0)


def test_old_commands_go_but_a_counter_never_begins_again(store: Store) -> None:
    signer = FileSigner.generate()

    def order(action: str, at_ms: int) -> int:
        return commands.issue(
            store, signer, UNIT, action, {}, account="desk", now_ms=at_ms, life_ms=60_000
        ).counter

    order("lock_down", START_MS)
    for _ in range(3):
        last = order("resend" if _ < 2 else "apply_policy", START_MS)
    assert tidy(store, 90, LATER_MS).commands == 2
    with store.reading() as db:
        left = db.execute(sa.select(table.c.action).order_by(table.c.counter)).scalars().all()
    assert left == ["lock_down", "apply_policy"]
    assert order("resend", LATER_MS) == last + 1


def test_nothing_is_deleted_within_a_month(store: Store) -> None:
    with pytest.raises(SyncError, match="at least 30 days"):
        tidy(store, 29, LATER_MS)
