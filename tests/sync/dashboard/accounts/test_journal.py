"""The record of who looked at what."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts import journal
from sync.dashboard.errors import DashboardError
from sync.dashboard.schema import journal as table
from sync.registry.database.schema import access
from tests.sync.dashboard.conftest import Hospital


def test_an_edited_entry_is_found(hospital: Hospital) -> None:
    for number in range(5):
        journal.record(hospital.store, "anna", "read", f"person {number}", 1000 + number)
    with hospital.store.transaction() as db:
        db.execute(sa.update(table).where(table.c.subject == "person 3").values(subject="person 4"))
    with pytest.raises(DashboardError, match="edited"):
        journal.check(hospital.store)


def test_a_removed_entry_is_found(hospital: Hospital) -> None:
    for number in range(5):
        journal.record(hospital.store, "anna", "read", f"person {number}", 1000 + number)
    with hospital.store.transaction() as db:
        db.execute(sa.delete(table).where(table.c.subject == "person 3"))
    with pytest.raises(DashboardError, match="missing"):
        journal.check(hospital.store)


def test_a_hash_that_somebody_kept_shows_that_the_end_was_cut_off(hospital: Hospital) -> None:
    journal.record(hospital.store, "anna", "read", "person 1", 1000)
    number, head = journal.check(hospital.store)
    assert journal.contains(hospital.store, head.hex())
    with hospital.store.transaction() as db:
        db.execute(sa.delete(table).where(table.c.number == number))
    assert journal.check(hospital.store)[0] == number - 1
    assert not journal.contains(hospital.store, head.hex())


def test_writers_at_the_same_time_make_one_chain(hospital: Hospital) -> None:
    before, _ = journal.check(hospital.store)

    def write() -> None:
        for number in range(10):
            journal.record(hospital.store, "anna", "read", f"person {number}", number)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.check(hospital.store)[0] == before + 40


def test_reads_and_exports_count_for_the_rule_about_hoarders(hospital: Hospital) -> None:
    journal.record(hospital.store, "anna", "export", "events", 1000, rows=60_000)
    journal.record(hospital.store, "anna", "login", "anna", 1000)
    with hospital.store.reading() as db:
        found = db.execute(sa.select(access.c.action, access.c.rows).where(access.c.account == "anna")).all()
    assert [tuple(row) for row in found] == [("export", 60_000)]
