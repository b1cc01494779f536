"""Tokens for other systems, and what needs a second person."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from sync.dashboard.accounts import approvals, journal
from sync.dashboard.accounts.rights import Right, Viewer
from sync.dashboard.accounts.tokens import Tokens
from sync.dashboard.cli import dashboard
from sync.dashboard.errors import DashboardError, RefusedError
from sync.dashboard.schema import tokens
from sync.dashboard.site import places
from sync.registry.database.schema import events
from tests.sync.dashboard.conftest import Hospital, in_session, token_of

ADMIN = Viewer("admin", "admin", (), "", "")
DAY_MS = 86_400_000


def _made(hospital: Hospital, *rights: Right, tags: tuple[str, ...] = (), days: int = 30) -> dict[str, str]:
    by = in_session(hospital, ADMIN)
    token = Tokens(hospital.store).make("siem", rights, tags, days, by, hospital.now_ms())
    return {"Authorization": f"Bearer {token}"}


def test_a_token_reads_what_it_may_and_it_is_on_record(hospital: Hospital) -> None:
    asks = _made(hospital, Right.EVENTS)
    with hospital.client() as client:
        page = client.get("/api/v1/events?zone=icu", headers=asks).json()
        assert len(page["events"]) == 50
        assert all(event["zone"] == "Intensive care" and "person" not in event for event in page["events"])
        older = client.get(f"/api/v1/events?zone=icu&before={page['older']}", headers=asks).json()
        assert older["events"][0]["time_ms"] <= page["events"][-1]["time_ms"]
        entry = journal.entries(hospital.store, limit=1)[0]
        assert (entry.account, entry.action) == ("token:siem", "read")
        assert client.get("/api/v1/doors", headers=asks).status_code == 403
        with hospital.store.reading() as db:
            person = db.execute(sa.select(events.c.person).where(events.c.person.is_not(None))).scalar()
        assert client.get(f"/api/v1/events?person={person}", headers=asks).status_code == 403
        assert client.get("/api/v1/events?kind=NONE", headers=asks).status_code == 400


def test_a_token_that_may_sees_pseudonyms_doors_and_incidents(hospital: Hospital) -> None:
    asks = _made(hospital, Right.EVENTS, Right.PEOPLE, Right.DOORS, Right.INCIDENTS)
    with hospital.client("desk") as desk:
        desk.get("/incidents")
    with hospital.client() as client:
        assert any(e["person"] for e in client.get("/api/v1/events", headers=asks).json()["events"])
        assert len(client.get("/api/v1/doors", headers=asks).json()["doors"]) == 12
        kinds = {i["kind"] for i in client.get("/api/v1/incidents", headers=asks).json()["incidents"]}
        assert "UNIT_SILENT" in kinds


def test_tags_limit_a_token_and_nobody_gives_more_than_they_have(hospital: Hospital) -> None:
    asks = _made(hospital, Right.DOORS, tags=("st-mary/icu",))
    with hospital.client() as client:
        found = client.get("/api/v1/doors", headers=asks).json()["doors"]
        assert {door["zone"] for door in found} == {"icu"}
    limited = Viewer("some", "admin", ("st-mary/icu",), "", "")
    for tags in ((), ("st-mary",), ("st-mary/pharmacy",)):
        with pytest.raises(DashboardError):
            Tokens(hospital.store).make("more", [Right.DOORS], tags, 1, limited, hospital.now_ms())
    with pytest.raises(DashboardError):
        Tokens(hospital.store).make("names", [Right.REVEAL], (), 1, ADMIN, hospital.now_ms())


def test_a_token_ends_and_can_be_revoked_and_only_its_hash_is_kept(hospital: Hospital) -> None:
    asks = _made(hospital, Right.DOORS, days=7)
    secret = asks["Authorization"].rpartition("_")[2]
    with hospital.store.reading() as db:
        assert secret not in str(db.execute(sa.select(tokens)).all())
    assert all(secret not in entry.subject for entry in journal.entries(hospital.store))
    with hospital.client() as client:
        hospital.ahead_ms = 7 * DAY_MS - 60_000
        assert client.get("/api/v1/doors", headers=asks).status_code == 200
        hospital.ahead_ms = 7 * DAY_MS + 1
        answer = client.get("/api/v1/doors", headers=asks)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        hospital.ahead_ms = 0
        Tokens(hospital.store).revoke(asks["Authorization"].split("_")[1], ADMIN, hospital.now_ms())
        assert client.get("/api/v1/doors", headers=asks).status_code == 401


@pytest.mark.parametrize(
    "presented", ["", "Basic eDp4", "Bearer x", "Bearer ostiary_0123456789ab_" + "A" * 43]
)
def test_what_is_no_token_gets_nothing(hospital: Hospital, presented: str) -> None:
    headers = {"Authorization": presented} if presented else {}
    with hospital.client("admin") as client:  # nor does a browser's cookie
        assert client.get("/api/v1/doors", headers=headers).status_code == 401


def test_a_token_is_no_way_into_the_pages(hospital: Hospital) -> None:
    asks = _made(hospital, Right.DOORS, Right.EVENTS)
    with hospital.client() as client:
        for path in ("/doors", "/events", "/tokens"):
            assert client.get(path, headers=asks).status_code == 303
        assert client.get("/stream", headers=asks).status_code == 401


def test_an_administrator_makes_and_revokes_a_token_on_the_page(hospital: Hospital) -> None:
    with hospital.client("admin") as client:
        form = {"csrf": token_of(client.get("/tokens").text), "name": "siem", "days": "30", "tags": "st-mary"}
        assert client.post("/tokens", data=form).status_code == 400  # no right chosen
        page = client.post("/tokens", data=form | {"right-DOORS": "1"}).text
        token = re.search(r'id="token">([^<]+)<', page)
        assert token is not None
        headers = {"Authorization": f"Bearer {token[1]}"}
        assert client.get("/api/v1/doors", headers=headers).status_code == 200
        assert token[1] not in client.get("/tokens").text
        form = {"csrf": form["csrf"], "token": token[1].split("_")[1]}
        assert client.post("/tokens/revoke", data=form).status_code == 303
        assert client.get("/api/v1/doors", headers=headers).status_code == 401


def _export(client: TestClient, **more: str) -> object:
    form = {"csrf": token_of(client.get("/account").text), "form": "csv", "zone": "icu"}
    return client.post("/events/export", data=form | more)


def test_a_large_export_waits_for_a_second_person(hospital: Hospital) -> None:
    hospital.settings = replace(hospital.settings, bulk_rows=10)
    with hospital.client("auditor") as auditor, hospital.client("admin") as admin:
        asked = _export(auditor)
        assert asked.status_code == 403  # type: ignore[attr-defined]
        assert "A second person is needed" in asked.text  # type: ignore[attr-defined]
        assert _export(auditor, why="for the audit").status_code == 303  # type: ignore[attr-defined]
        token = token_of(auditor.get("/account").text)
        own = auditor.post("/approvals/1", data={"csrf": token, "answer": "agree"})
        assert own.status_code == 403
        assert _export(auditor).status_code == 403  # type: ignore[attr-defined]
        token = token_of(admin.get("/account").text)
        assert "for the audit" in admin.get("/approvals").text
        assert admin.post("/approvals/1", data={"csrf": token, "answer": "agree"}).status_code == 303
        assert _export(auditor, zone="pharmacy").status_code == 403  # type: ignore[attr-defined]
        assert _export(admin).status_code == 403  # type: ignore[attr-defined]
        taken = _export(auditor)
        assert taken.status_code == 200  # type: ignore[attr-defined]
        assert taken.headers["content-type"].startswith("text/csv")  # type: ignore[attr-defined]
        assert _export(auditor).status_code == 403  # type: ignore[attr-defined]  # once


def test_a_name_is_forgotten_when_somebody_else_agrees(hospital: Hospital) -> None:
    with hospital.store.reading() as db:
        person = db.execute(
            sa.select(events.c.person).where(events.c.person.is_not(None)).limit(1)
        ).scalar_one()
    names, now_ms = hospital.backend().names, hospital.now_ms()
    assert names is not None
    assert names.name(person)
    with hospital.client("admin") as admin:
        form = {"csrf": token_of(admin.get(f"/people/{person}").text), "why": "left the hospital"}
        assert admin.post(f"/people/{person}/forget", data=form).status_code == 303
    assert names.name(person)
    approvals.decide(hospital.store, names, 1, True, "auditor", now_ms)
    assert names.name(person) is None
    with pytest.raises(RefusedError):
        approvals.decide(hospital.store, names, 1, True, "auditor", now_ms)
    assert [e.action for e in journal.entries(hospital.store, limit=2)] == ["agreed", "asked"]


def test_what_nobody_decides_ends(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    number = approvals.ask(hospital.store, approvals.FORGET, {"person": "x"}, "why", "admin", now_ms)
    assert approvals.ask(hospital.store, approvals.FORGET, {"person": "x"}, "y", "admin", now_ms) == number
    later_ms = now_ms + approvals.OPEN_MS
    with pytest.raises(RefusedError):
        approvals.decide(hospital.store, None, number, True, "auditor", later_ms)
    assert approvals.listed(hospital.store, later_ms)[0].state(later_ms) == "ended"


def _doors(hospital: Hospital, folder: Path, voice: float) -> Result:
    file = folder / "doors.toml"
    file.write_text(
        f'[doors."st-mary/icu-1/door-1"]\nlabel = "ICU"\nthresholds = {{ voice_llr = {voice} }}\n', "utf-8"
    )
    database = f"sqlite:///{hospital.folder}/registry.db"
    return CliRunner().invoke(dashboard, ["doors", str(file), "--database", database])


def test_lower_thresholds_wait_for_a_second_person(hospital: Hospital, tmp_path: Path) -> None:
    def voice() -> float:
        with hospital.store.reading() as db:
            return places.load(db)["st-mary/icu-1", "door-1"].voice_llr

    assert _doors(hospital, tmp_path, 4.0).exit_code == 0
    assert voice() == 4.0
    lower = _doors(hospital, tmp_path, 2.0)
    assert lower.exit_code == 1
    assert "second person" in lower.output
    assert voice() == 4.0
    approvals.decide(hospital.store, None, 1, True, "auditor", hospital.now_ms())
    assert voice() == 2.0


@pytest.mark.parametrize("command", ["doors", "names"])
def test_what_a_command_changes_is_on_record_or_not_changed(
    hospital: Hospital, tmp_path: Path, command: str
) -> None:
    def change() -> Result:
        if command == "doors":
            return _doors(hospital, tmp_path, 4.0)
        people = tmp_path / "people.csv"
        people.write_text(f"person,name\n{'ab' * 16},A. Rossi\n", "utf-8")
        database = f"sqlite:///{hospital.folder}/registry.db"
        key = tmp_path / "names.key"
        args = ["names", str(people), "--names-key", str(key), "--database", database]
        return CliRunner().invoke(dashboard, args)

    def rows() -> list[list[object]]:
        tables = ("dashboard_places", "dashboard_people", "dashboard_journal")
        with hospital.store.reading() as db:
            return [list(db.execute(sa.select(sa.text("*")).select_from(sa.table(one)))) for one in tables]

    with hospital.store.transaction() as db:
        full = "BEFORE INSERT ON dashboard_journal BEGIN SELECT RAISE(ABORT, 'full'); END"
        db.execute(sa.text(f"CREATE TRIGGER full {full}"))
    before = rows()
    assert change().exit_code != 0
    assert rows() == before
    with hospital.store.transaction() as db:
        db.execute(sa.text("DROP TRIGGER full"))
    assert change().exit_code == 0
    assert journal.entries(hospital.store, limit=1)[0].action == command
