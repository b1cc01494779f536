"""What a page keeps of the doors is what it would read anew."""

from __future__ import annotations

import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.doors import doors, seen
from sync.registry.database.store import Store
from tests.sync.dashboard.conftest import Hospital, happens

DESK = Viewer("desk", "desk", (), "", "")


def overview(store: Store, hospital: Hospital, now_ms: int) -> list[doors.DoorView]:
    with store.reading() as db:
        return doors.overview(db, DESK, hospital.settings.time_zone, now_ms)


def test_doors_kept_in_memory_are_as_those_that_are_read_anew(hospital: Hospital) -> None:
    asked: list[str] = []
    first = overview(hospital.store, hospital, hospital.now_ms())
    sa.event.listen(hospital.store.engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
    for unit, times in (("st-mary/icu-1", 3), ("st-mary/icu-2", 40), ("st-mary/icu-1", seen.MOST_NEW + 1)):
        happens(hospital, times, unit)
        now_ms = hospital.now_ms()
        asked.clear()
        kept = overview(hospital.store, hospital, now_ms)
        of_events = [text for text in asked if "FROM events" in text or "JOIN events" in text]
        assert len(of_events) == (1 if times < seen.MOST_NEW else 2)
        asked.clear()
        assert overview(hospital.store, hospital, now_ms) == kept
        assert not [text for text in asked if "FROM events" in text or "JOIN events" in text]
        fresh = Store.open(f"sqlite:///{hospital.folder}/registry.db")
        assert overview(fresh, hospital, now_ms) == kept != first
        fresh.close()
    tomorrow_ms = now_ms + 86_400_000
    assert all(view.granted == view.refused == 0 for view in overview(hospital.store, hospital, tomorrow_ms))
    assert overview(hospital.store, hospital, now_ms) == kept


def test_a_tile_kept_for_one_account_shows_another_nothing_more(hospital: Hospital) -> None:
    with hospital.client("admin") as admin, hospital.client("wall") as wall:
        theirs = admin.get("/doors").text
        shown = wall.get("/doors").text
        german = admin.get("/doors", headers={"Accept-Language": "de"}).text
    assert "Locked" in theirs
    assert "Verriegelt" in german or "verriegelt" in german
    assert "tag attack" not in shown
    assert "/incidents" not in shown
