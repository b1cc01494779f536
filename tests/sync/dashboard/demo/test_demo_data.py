"""The demonstration's hospital: worth looking at whenever somebody makes it."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.demo.demo_data import DemoData
from sync.dashboard.demo.demo_events import DemoSize
from sync.dashboard.doors import holds
from sync.dashboard.emergency import lockdown
from sync.dashboard.incidents import incidents
from sync.dashboard.migrations import prepare
from sync.keys import FileSigner
from sync.registry.database.schema import events
from sync.registry.database.store import Store

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


def test_invented_units_do_what_they_are_ordered_so_that_the_page_shows_it(tmp_path: Path) -> None:
    clock = [int(dt.datetime(2026, 11, 30, 15, 20, tzinfo=dt.UTC).timestamp() * 1000)]
    store, signer = Store.open(f"sqlite:///{tmp_path}/registry.db"), FileSigner.generate()
    prepare(store)
    data = DemoData(store, clock[0], DemoSize(doors=2, days=1, per_day=1))
    data.make()
    door = data.doors[0]

    class Steps(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock[0] += 1000
            return clock[0] > until_ms

    def live_for(seconds: int) -> list[str]:
        nonlocal until_ms
        since_ms, until_ms = clock[0], clock[0] + seconds * 1000
        data.live(Steps(), lambda: clock[0], signer.public_key())
        here = (events.c.unit == door.unit, events.c.time_ms > since_ms)
        with store.reading() as db:
            return list(db.execute(sa.select(events.c.kind).where(*here)).scalars())

    until_ms = 0
    holds.ask(
        store, signer, ADMIN, door.unit, door.door, clock[0], clock[0] + 30_000, holds.Conditions(), "x",
        clock[0],
    )  # fmt: skip
    kinds = live_for(60)
    assert kinds.count("UNLOCKED") == kinds.count("RELOCKED") == 1
    run = {"name": "All", "site": door.site, "zones": [place.zone for place in data.doors], "plan": 0}
    lockdown.start(store, signer, ADMIN, **run, drill=False, now_ms=clock[0])
    live_for(2)
    kinds = live_for(240)
    assert "LOCK_DOWN" in kinds
    assert "GRANTED" not in kinds
    store.close()
