"""The same pages on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.dashboard import journal
from sync.dashboard.app import PAGES
from sync.dashboard.demo_data import DemoData, DemoSize
from sync.dashboard.migrations import analyse, prepare
from sync.keys import FileSigner
from sync.registry.schema import events
from sync.registry.store import Store
from tests.sync.dashboard.conftest import PASSWORD, Hospital, token_of
from tests.sync.dashboard.test_pages import _address, prepare_runs
from tests.sync.services import postgres

pytestmark = pytest.mark.e2e


def test_every_page_list_and_export_answers_on_postgresql(tmp_path: Path) -> None:
    with postgres() as cluster:
        store = Store.open(cluster.url)
        prepare(store)
        prepare(store)
        hospital = Hospital(tmp_path, store, FileSigner.generate())
        stored = DemoData(store, hospital.now_ms(), DemoSize(doors=6, days=2, per_day=8)).make()
        analyse(store)
        accounts, now_ms = hospital.accounts, hospital.now_ms()
        accounts.accept(accounts.invite("admin", (), "test", now_ms), "admin", PASSWORD, now_ms)
        with hospital.client("admin") as client:
            assert client.get("/incidents").status_code == 200
            prepare_runs(hospital)
            for method, path, _, _ in PAGES:
                if method == "GET":
                    query = "?site=st-mary&zone=icu" if path == "/lockdown/start" else ""
                    answer = client.get(_address(hospital, path) + query)
                    assert answer.status_code in (200, 303), (path, answer.text[-500:])
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
