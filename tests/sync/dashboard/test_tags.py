"""An account with tags: what lies outside does not exist for it, on no page, in no form and no record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from sync.dashboard.accounts import approvals, journal
from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.app import PAGES
from sync.dashboard.doors import holds
from sync.dashboard.incidents import incidents
from sync.dashboard.people import visits
from sync.dashboard.records import handover
from sync.dashboard.schema import accounts, metadata
from sync.registry.database.schema import events
from tests.sync.dashboard.conftest import PASSWORD, Hospital, token_of
from tests.sync.dashboard.test_pages import _address, prepare_runs

DESK = Viewer("desk", "desk", (), "", "")
OWN = {"/logout", "/theme", "/language", "/handover", "/account/password"}
"""Forms about nothing but oneself, or about what is one's own."""


@pytest.fixture
def elsewhere(hospital: Hospital) -> Iterator[TestClient]:
    """An administrator of another site, in a hospital where everything has happened at the first."""
    now_ms = hospital.now_ms()
    for _ in range(2):  # the second look closes what is over
        incidents.gather(hospital.store, now_ms)
    prepare_runs(hospital)
    with hospital.store.reading() as db:
        seen = (events.c.unit.like("st-mary/%"), events.c.person.is_not(None))
        person = db.execute(sa.select(events.c.person).where(*seen).limit(1)).scalar_one()
    visits.ask(
        hospital.store, hospital.signer, DESK, person, "st-mary", "desk", "a locum", now_ms,
        now_ms + 86_400_000, now_ms,
    )  # fmt: skip
    holds.ask(
        hospital.store, hospital.signer, DESK, "st-mary/pharmacy-1", "door-1", now_ms, now_ms + 3_600_000,
        holds.Conditions(), "beds", now_ms,
    )  # fmt: skip
    holds.plan(
        hospital.store, DESK, "st-mary/pharmacy-1", "door-1", (0,), dt.time(8), dt.time(9),
        holds.Conditions(), now_ms,
    )  # fmt: skip
    handover.hand_over(hospital.store, DESK, "a word about st-mary", now_ms)
    approvals.ask(hospital.store, approvals.FORGET, {"person": person}, "left st-mary", "desk", now_ms)
    token = hospital.accounts.invite("admin", ["harbour-clinic"], "console", now_ms)
    hospital.accounts.accept(token, "porter", PASSWORD, now_ms)
    with hospital.client("porter") as client:
        yield client


def everything(hospital: Hospital) -> dict[str, list[object]]:
    """Every row of the page's tables, but for what any visit leaves, and what is counted once an hour beside
    the pages."""
    left = {"dashboard_journal", "dashboard_sessions", "dashboard_failures"}
    left |= {"dashboard_door_figures", "dashboard_stamps"}
    with hospital.store.reading() as db:
        return {
            name: [tuple(row) for row in db.execute(sa.select(table))]
            for name, table in metadata.tables.items()
            if name not in left
        }


def test_no_page_shows_what_lies_outside_the_tags(hospital: Hospital, elsewhere: TestClient) -> None:
    for method, path, _, _ in PAGES:
        if method != "GET":
            continue
        answer = elsewhere.get(_address(hospital, path))
        if "{" in path or path == "/lockdown/start":
            assert answer.status_code == 404, path
        else:
            assert answer.status_code in (200, 303), path
            shown = answer.text.replace("st-mary/pharmacy, harbour-clinic", "")  # the form's example of tags
            assert "st-mary" not in shown, path


def test_no_form_changes_what_lies_outside_the_tags(hospital: Hospital, elsewhere: TestClient) -> None:
    before = everything(hospital)
    token = token_of(elsewhere.get("/account").text)
    with hospital.store.reading() as db:
        mine = (events.c.unit == "st-mary/pharmacy-1", events.c.person.is_not(None))
        person = db.execute(sa.select(events.c.person).where(*mine)).scalars().first()
    filled = {
        "csrf": token, "site": "st-mary", "zone": "icu", "zones": "icu", "name": "x", "why": "x",
        "form": "csv", "what": "x", "note": "x", "finding": "x", "text": "x", "sponsor": "desk",
        "person": str(person),
        "ends": "2026-11-26T18:00", "begins": "08:00", "day-0": "1", "answer": "agree", "account": "desk",
        "role": "wall", "tags": "harbour-clinic", "entry": "1", "drill": "", "minutes": "", "hold:1": "on",
        "day": "2026-11-24",
    }  # fmt: skip
    for method, path, _, _ in PAGES:
        if method != "POST" or path in OWN or path.startswith("/account/passkey") or path == "/review":
            continue
        for action in ("acknowledge", "resolve", "safe", "visitor", "end", "change", "answer", "lift"):
            answer = elsewhere.post(_address(hospital, path), data=filled | {"action": action})
            if path == "/events/export":
                assert "st-mary/" not in answer.text
                assert "st-mary/" not in elsewhere.post(path, data={"csrf": token, "form": "csv"}).text
                break
            assert answer.status_code in (400, 403, 404), (path, action, answer.status_code)
            if "action" not in path and "{" not in path:
                break
    assert everything(hospital) == before


def test_nobody_takes_over_or_ends_an_account_that_sees_more(
    hospital: Hospital, elsewhere: TestClient
) -> None:
    page = elsewhere.get("/accounts").text
    assert "porter" in page
    assert "facilities" not in page.partition("<tbody>")[2].partition("</tbody>")[0]
    form = {"csrf": token_of(page), "role": "admin", "tags": "harbour-clinic", "account": "admin"}
    assert elsewhere.post("/accounts", data=form).status_code == 404
    assert elsewhere.post("/accounts/disable", data=form).status_code == 404
    with hospital.store.reading() as db:
        assert not db.execute(sa.select(accounts).where(accounts.c.disabled_ms.is_not(None))).all()


def test_a_person_who_looked_at_a_part_has_not_reviewed_the_day(
    hospital: Hospital, elsewhere: TestClient
) -> None:
    form = {"csrf": token_of(elsewhere.get("/review").text), "day": "2026-11-24", "finding": "Quiet here."}
    assert elsewhere.post("/review", data=form).status_code == 303
    assert "Quiet here." in elsewhere.get("/review?day=2026-11-24").text
    with hospital.client("auditor") as whole:
        assert "Quiet here." not in whole.get("/review?day=2026-11-24").text
        whole.post(
            "/review", data=form | {"csrf": token_of(whole.get("/review").text), "finding": "All seen."}
        )
    assert "All seen." in elsewhere.get("/review?day=2026-11-24").text


def test_the_journal_shows_an_account_with_tags_what_its_own_did(
    hospital: Hospital, elsewhere: TestClient
) -> None:
    journal.record(
        hospital.store, "desk", "reveal", "the name of somebody at st-mary: ill", hospital.now_ms()
    )
    page = elsewhere.get("/journal").text
    assert "ill" not in page.partition("<tbody>")[2]
    assert "porter" in page
    assert "ill" not in elsewhere.get("/journal?account=desk").text.partition("<tbody>")[2]
