"""The demonstration's hospital: worth looking at whenever somebody makes it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.incidents import incidents
from sync.dashboard.migrations import prepare
from sync.dashboard.site.demo_data import DemoData, DemoSize
from sync.registry.store import Store

ADMIN = Viewer("admin", "admin", (), "", "")


@pytest.mark.parametrize("hour", [0, 9, 15, 21])
@pytest.mark.parametrize("day", [29, 30])  # a Sunday and a Monday
def test_an_incident_is_open_whatever_the_hour(tmp_path: Path, day: int, hour: int) -> None:
    now_ms = int(dt.datetime(2026, 11, day, hour, 20, tzinfo=dt.UTC).timestamp() * 1000)
    store = Store.open(f"sqlite:///{tmp_path}/registry.db")
    prepare(store)
    DemoData(store, now_ms, DemoSize(doors=3, days=1, per_day=14)).make()
    for _ in range(2):  # the second look closes what is over
        incidents.gather(store, now_ms)
    with store.reading() as db:
        found = incidents.listed(db, ADMIN, resolved=False)
    assert [row.unit for row in found if row.kind == "UNIT_SILENT"] == ["st-mary/pharmacy-3"]
    store.close()
