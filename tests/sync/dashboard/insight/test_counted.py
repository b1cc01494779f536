"""Figures of all doors, counted once an hour: every event counts, one worker does it, tags limit them."""

from __future__ import annotations

import datetime as dt
import threading

import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.insight import attacks, counted, figures
from sync.registry.database.schema import events
from sync.registry.database.store import Store
from tests.sync.dashboard.conftest import SCOPED, Hospital

ADMIN = Viewer("admin", "admin", (), "", "")
NARROW = Viewer(SCOPED, "auditor", ("st-mary/pharmacy",), "", "")
DAY_MS = 86_400_000


def _load(store: Store, viewer: Viewer) -> counted.Counted:
    with store.reading() as db:
        found = counted.load(db, viewer)
    assert found is not None
    return found


def test_every_decision_of_the_window_is_in_its_bin(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    with hospital.store.transaction() as db:  # at and beyond both ends of the scale
        one = sa.select(events.c.unit, events.c.sequence).where(events.c.phrase_llr.is_not(None)).limit(4)
        for row, score in zip(db.execute(one).all(), (-99.0, -10.0, 14.9999, 99.0), strict=True):
            here = (events.c.unit == row.unit, events.c.sequence == row.sequence)
            db.execute(sa.update(events).where(*here).values(phrase_llr=score))
        rows = db.execute(sa.select(events).where(events.c.phrase_llr.is_not(None))).all()
    expected: dict[tuple[str, str], figures.Histograms] = {}
    for row in rows:
        here = expected.setdefault((row.unit, row.door), figures.empty())
        for name, _ in figures.SCORES:
            value = getattr(row, name)
            if value is not None:
                share = (value - figures.LOW) / (figures.HIGH - figures.LOW)
                at = min(figures.BINS - 1, max(0, int(share * figures.BINS)))
                here[name]["granted" if row.kind == "GRANTED" else "refused"][at] += 1
    counted.count(hospital.store, dt.UTC, now_ms)
    found = _load(hospital.store, ADMIN)
    assert {key: shapes for key, shapes in found.by_door.items() if key in expected} == expected
    for name, _ in figures.SCORES:
        for tone in ("granted", "refused"):
            columns = zip(*(shapes[name][tone] for shapes in expected.values()), strict=True)
            assert found.now[name][tone] == [sum(column) for column in columns]
    assert found.before == figures.empty()
    assert found.counted_ms == now_ms


def test_a_count_of_more_rows_than_are_held_at_once_leaves_none_out(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    base = {"month": 202611, "received_ms": now_ms, "event_id": "x", "door": "door-1", "reason": "none",
            "keystore": "tpm", "body": b"", "unit": "st-mary/icu-1"}  # fmt: skip
    # A refusal and, within 90 seconds, the same person let in: again and again, the newest an hour ago.
    pairs = figures.CHUNK + 7
    rows = [
        {**base, "sequence": 10_000 + n, "time_ms": now_ms - 3_600_000 - n * 30_000, "person": "p",
         "kind": "GRANTED" if n % 2 == 0 else "DENIED_VOICE"}
        for n in range(2 * pairs)
    ]  # fmt: skip
    with hospital.store.transaction() as db:
        db.execute(sa.delete(events))
        db.execute(sa.insert(events), rows)
        (door,) = figures.troubles(db, 0, dt.UTC)
    assert (door.attempts, door.wrongly) == (2 * pairs, pairs)


def test_one_of_several_workers_counts_and_again_an_hour_later(hospital: Hospital) -> None:
    now_ms, done = hospital.now_ms(), list[bool]()
    threads = [
        threading.Thread(target=lambda: done.append(counted.count_due(hospital.store, dt.UTC, now_ms)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert sorted(done) == [False, False, False, True]
    assert not counted.count_due(hospital.store, dt.UTC, now_ms + counted.EVERY_MS - 1)
    assert counted.count_due(hospital.store, dt.UTC, now_ms + counted.EVERY_MS)
    assert _load(hospital.store, ADMIN).counted_ms == now_ms + counted.EVERY_MS
    # A clock that was ahead and is set right does not stop the counts.
    assert counted.count_due(hospital.store, dt.UTC, now_ms)


def test_tags_limit_the_figures_and_the_page_says_when_they_were_counted(hospital: Hospital) -> None:
    client = hospital.client(SCOPED)  # not entered: nothing counts beside it
    assert "counted for the first time" in client.get("/health-of-units").text
    counted.count(hospital.store, dt.UTC, hospital.now_ms())
    all_doors, mine = _load(hospital.store, ADMIN).by_door, _load(hospital.store, NARROW).by_door
    assert {unit.split("/")[1].rpartition("-")[0] for unit, _ in mine} == {"pharmacy"}
    assert len(mine) < len(all_doors)
    page = client.get("/health-of-units").text
    assert "Counted at " in page
    assert "st-mary/pharmacy-1" in page
    assert "st-mary/icu-1" not in page


def test_all_attacks_are_counted_and_the_page_says_which_are_looked_at_one_by_one(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    base = {"month": 202611, "received_ms": now_ms, "event_id": "x", "door": "door-1", "reason": "not_live",
            "keystore": "tpm", "body": b"", "unit": "st-mary/icu-1"}  # fmt: skip
    kinds = ("DENIED_SPOOF", "DENIED_REPLAY")
    rows = [
        {
            **base,
            "sequence": 10_000 + n,
            "time_ms": now_ms - n * 1000,
            "person": f"p{n % 5}",
            "kind": kinds[n % 2],
        }
        for n in range(attacks.NEWEST + 10)
    ]
    with hospital.store.transaction() as db:
        db.execute(sa.delete(events))
        db.execute(sa.insert(events), rows)
    with hospital.store.reading() as db:
        newest = attacks.newest(db, ADMIN, 0)
        by_day = attacks.by_day(db, ADMIN, now_ms - 3 * DAY_MS, 4)
    assert [row.time_ms for row in newest] == sorted(now_ms - n * 1000 for n in range(attacks.NEWEST))
    assert by_day.total() == attacks.NEWEST + 10
    with hospital.client("admin") as client:
        page = client.get("/attacks?days=30").text
    assert f"All {attacks.NEWEST + 10} attempts are counted" in page
    assert f"those of the newest {attacks.NEWEST}" in page
