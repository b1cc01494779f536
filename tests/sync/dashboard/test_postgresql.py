"""The same pages on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.app import PAGES
from sync.dashboard.demo import demo_records
from sync.dashboard.demo.demo_data import DemoData
from sync.dashboard.demo.demo_events import DemoSize
from sync.dashboard.errors import RefusedError
from sync.dashboard.events.events_query import Filter
from sync.dashboard.insight import attacks, counted, figures
from sync.dashboard.live.feed import Feed
from sync.dashboard.migrations import analyse, prepare
from sync.dashboard.people import visits
from sync.keys import FileSigner
from sync.registry.database.schema import events
from sync.registry.database.store import Store
from tests.sync.between import Other
from tests.sync.dashboard.conftest import PASSWORD, Hospital, token_of
from tests.sync.dashboard.records.test_reports import daily_reports, morning_ms
from tests.sync.dashboard.test_browser import Unit
from tests.sync.dashboard.test_pages import _address, prepare_runs
from tests.sync.mail_server import MailServer
from tests.sync.services import Postgres, postgres

pytestmark = pytest.mark.e2e
ADMIN = Viewer("admin", "admin", (), "", "")


def _figures_are_those_of_the_events(hospital: Hospital) -> None:
    """PostgreSQL's arithmetic puts each score into the bin that Python does, and each attack on its day."""
    now_ms, day_ms = hospital.now_ms(), 86_400_000
    counted.count(hospital.store, hospital.settings.time_zone, now_ms)
    with hospital.store.transaction() as db:
        scored = db.execute(sa.select(events.c.phrase_llr).where(events.c.phrase_llr.is_not(None))).scalars()
        bins = [0] * figures.BINS
        for value in scored:
            at = int((value - figures.LOW) / (figures.HIGH - figures.LOW) * figures.BINS)
            bins[min(figures.BINS - 1, max(0, at))] += 1
        found = counted.load(db, ADMIN)
        assert found is not None
        here = found.now["phrase_llr"]
        assert [a + b for a, b in zip(here["granted"], here["refused"], strict=True)] == bins
        granted = sa.select(sa.func.max(events.c.time_ms)).where(events.c.kind == "GRANTED")
        last = db.execute(granted).scalar_one()
        like = dict(db.execute(sa.select(events).limit(1)).one()._mapping)
        attack = like | {"sequence": 900_000, "kind": "DENIED_SPOOF", "time_ms": last}
        db.execute(sa.insert(events).values(**attack))
        since_ms = last - 2 * day_ms + 1
        assert attacks.by_day(db, ADMIN, since_ms, 3)[1, "DENIED_SPOOF"] >= 1
        db.execute(sa.delete(events).where(events.c.sequence == 900_000))


def test_every_page_list_and_export_answers_on_postgresql(tmp_path: Path) -> None:
    with postgres() as cluster:
        store = Store.open(cluster.url)
        prepare(store)
        prepare(store)
        hospital = Hospital(tmp_path, store, FileSigner.generate())
        data = DemoData(store, hospital.now_ms(), DemoSize(doors=6, days=2, per_day=8))
        stored = data.make()
        analyse(store)
        accounts, now_ms = hospital.accounts, hospital.now_ms()
        for role in ("admin", "desk", "facilities"):
            accounts.accept(accounts.invite(role, (), "test", now_ms), role, PASSWORD, now_ms)
        demo_records.fill(store, hospital.signer, data, now_ms)
        assert visits.tell_due(store, hospital.signer, now_ms) <= 4  # the silent unit has not answered
        with MailServer() as server:
            reports = [daily_reports(hospital, server) for _ in range(2)]
            assert [one.step(morning_ms(hospital, 7)) for one in reports] == [True, False]
        with hospital.client("admin") as client:
            assert client.get("/incidents").status_code == 200
            prepare_runs(hospital)
            for method, path, _, _ in PAGES:
                if method == "GET":
                    query = "?site=st-mary&zone=icu" if path == "/lockdown/start" else ""
                    answer = client.get(_address(hospital, path) + query)
                    assert answer.status_code in (200, 303), (path, answer.text[-500:])
            _figures_are_those_of_the_events(hospital)
            assert "Counted at " in client.get("/health-of-units").text
            assert "Locum anaesthetist" in client.get("/visits").text
            page = client.get("/emergency").text
            key = page.partition('name="hold:')[2].partition('"')[0]
            form = {"csrf": token_of(page), f"hold:{key}": "on", "finding": "It was so."}
            assert client.post("/emergency", data=form).status_code == 303
            assert "It was so." in client.get("/emergency").text
            for query in (
                "show=refused",
                "zone=icu",
                "zone=icu&show=attacks",
                "reason=other_voice",
                "site=st-mary",
            ):
                assert client.get(f"/events?{query}").status_code == 200, query
            seen, address = 0, "/events"
            while address:
                html = client.get(address).text
                seen += html.count('data-key="')
                address = html.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
            token = token_of(client.get("/account").text)
            exported = client.post("/events/export", data={"csrf": token, "form": "json"}).text.splitlines()
        with store.reading() as db:
            count = db.execute(sa.select(sa.func.count()).select_from(events)).scalar_one()
        assert seen == count == stored == len(exported)
        assert journal.check(store)[0] >= 5
        store.close()


def test_two_administrators_who_disable_each_other_do_not_leave_nobody(tmp_path: Path) -> None:
    with postgres() as cluster:
        store = Store.open(cluster.url)
        prepare(store)
        hospital = Hospital(tmp_path, store, FileSigner.generate())
        accounts, now_ms = hospital.accounts, hospital.now_ms()
        for name in ("ada", "zoe"):
            accounts.accept(accounts.invite("admin", (), "test", now_ms), name, PASSWORD, now_ms)
        other = Other(store, lambda: accounts.disable("zoe", "ada", now_ms))
        left = [other.begin]

        def looked(*told: Any) -> None:
            if left and told[2].startswith("UPDATE dashboard_accounts"):
                left.pop()()

        sa.event.listen(store.engine, "before_cursor_execute", looked)
        accounts.disable("ada", "zoe", now_ms)
        sa.event.remove(store.engine, "before_cursor_execute", looked)
        assert [type(err) for err in other.end()] == [RefusedError]
        store.close()


def test_a_database_killed_for_ten_seconds_loses_no_event_and_the_stream_says_so(tmp_path: Path) -> None:
    with postgres() as cluster:
        store = Store.open(cluster.url)
        prepare(store)
        hospital = Hospital(tmp_path, store, FileSigner.generate())
        unit = Unit(hospital)
        unit.happens()
        with ThreadPoolExecutor(max_workers=1) as own:  # the browser of other tests has a loop in this thread
            told = own.submit(asyncio.run, _outage(hospital, unit, cluster)).result()
    kinds = [line.partition("\n")[0] for line in told]
    stale, fresh = kinds.index("event: stale"), kinds.index("event: fresh")
    assert stale < fresh
    keys = [
        event["key"]
        for line in told
        if "event: events" in line
        for event in json.loads(line.partition("data: ")[2])
    ]
    assert keys == [f"st-mary/new-1#{number}" for number in range(2, 9)]


async def _outage(hospital: Hospital, unit: Unit, cluster: Postgres) -> list[str]:
    """What one page hears: three events, an outage of ten seconds, and the four that happened after it."""
    feed = Feed(hospital.store, hospital.now_ms, hospital.settings.time_zone)
    reader = asyncio.create_task(feed.run())
    told: list[str] = []

    async def listen() -> None:
        viewer = Viewer("desk", "desk", (), "", "")
        async for line in feed.listen(viewer, Filter(), "", lambda: True):
            told.append(line.decode())

    async def until(true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 180
        while not true():
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.05)

    listener = asyncio.create_task(listen())
    await asyncio.sleep(1.5)
    await asyncio.to_thread(unit.happens, 3)
    await until(lambda: "#4" in "".join(told))
    await asyncio.to_thread(cluster.kill)
    await until(lambda: feed.stale_since_ms is not None)
    await asyncio.sleep(10)
    await asyncio.to_thread(cluster.start)
    await until(lambda: feed.stale_since_ms is None)
    await asyncio.to_thread(unit.happens, 4)
    await until(lambda: "#8" in "".join(told))
    for task in (listener, reader):
        task.cancel()
    return told
