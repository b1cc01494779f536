"""Every page, as every role; and everything that must be refused."""

from __future__ import annotations

import csv
import io
import json
import threading
import zipfile

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import ROLES, Viewer
from sync.dashboard.accounts.sessions import IDLE_MS
from sync.dashboard.app import PAGES
from sync.dashboard.emergency import lockdown, muster
from sync.dashboard.guard import HEADERS, ROLL_CALL, ROLL_CALL_CSP
from sync.dashboard.incidents import incidents
from sync.dashboard.schema import incidents as table
from sync.dashboard.schema import sessions
from sync.dashboard.site import places
from sync.dashboard.site.places import Place
from sync.registry.database.schema import events, units
from sync.registry.verification import Alarm
from tests.sync.dashboard.conftest import PASSWORD, SCOPED, Hospital, token_of

GETS = [(path, right) for method, path, _, right in PAGES if method == "GET"]


def _address(hospital: Hospital, path: str, unit: str = "st-mary/pharmacy-1") -> str:
    """A path of the table with things that exist in it."""
    with hospital.store.reading() as db:
        mine = (events.c.unit == unit, events.c.person.is_not(None))
        row = db.execute(sa.select(events.c.sequence, events.c.person).where(*mine).limit(1)).one()
    site, name = unit.split("/")
    values = {
        "site": site,
        "unit": name,
        "door": "door-1",
        "sequence": str(row.sequence),
        "person": row.person,
        "incident": "1",
        "run": "1",
        "muster": "1",
        "hold": "1",
        "handover": "1",
        "plan": "1",
        "request": "1",
        "visit": "1",
    }
    for part, value in values.items():
        path = path.replace(f"{{{part}:str}}", value)
    return path


def prepare_runs(hospital: Hospital) -> None:
    """A drill and a roll call, so that their pages show something."""
    viewer = Viewer("desk", "desk", (), "", "")
    now_ms = hospital.now_ms()
    drilled = {
        "name": "Drill",
        "site": "st-mary",
        "zones": ("icu",),
        "plan": 0,
        "drill": True,
        "now_ms": now_ms,
    }
    lockdown.start(hospital.store, hospital.signer, viewer, **drilled)  # type: ignore[arg-type]
    muster.start(hospital.store, viewer, "st-mary", now_ms)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_opens_its_pages_and_no_other(hospital: Hospital, role: str) -> None:
    with hospital.client(role) as client:
        client.get("/incidents")  # gathers them
        prepare_runs(hospital)
        for path, right in GETS:
            query = "?site=st-mary&zone=icu" if path == "/lockdown/start" else ""
            answer = client.get(_address(hospital, path) + query)
            allowed = right is None or right in ROLES[role]
            assert (answer.status_code in (200, 303)) == allowed, (path, answer.status_code)
            assert answer.status_code in (200, 303, 403)
            wanted = dict(HEADERS)
            if path.startswith(ROLL_CALL):
                wanted["Content-Security-Policy"] = ROLL_CALL_CSP
            assert all(answer.headers[name] == value for name, value in wanted.items())
            assert answer.headers["cache-control"] == "no-store"


def test_no_answer_is_kept_by_a_cache_or_shown_in_a_frame(hospital: Hospital) -> None:
    """The words themselves, not the constants that they are read from."""
    with hospital.client("auditor") as client:
        form = {"csrf": token_of(client.get("/events").text), "form": "csv"}
        answers = [client.get(path) for path in ("/login", "/events", "/nowhere", "/proofs/st-mary/icu-1")]
        answers.append(client.post("/events/export", data=form))
        client.cookies.clear()
        answers += [client.get(path) for path in ("/events", "/stream", "/api/v1/events")]
    for answer in answers:
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} <= {
            *policy
        }
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"].startswith("no-store")
        assert answer.headers["referrer-policy"] == "same-origin"


def test_nobody_sees_anything_without_logging_in(hospital: Hospital) -> None:
    with hospital.client() as client:
        for path, _ in GETS:
            answer = client.get(_address(hospital, path))
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/login?next=%2F")
        assert client.get("/stream").status_code == 401


@pytest.mark.parametrize(("method", "path", "right"), [(m, p, r) for m, p, _, r in PAGES if m == "POST"])
def test_a_form_needs_its_own_page_and_its_token(
    hospital: Hospital, method: str, path: str, right: object
) -> None:
    address = _address(hospital, path)
    with hospital.client("admin") as client:
        token = token_of(client.get("/account").text)
        assert client.request(method, address, data={"csrf": "x" * 32}).status_code == 403
        assert client.request(method, address, data={}).status_code == 403
        foreign = {"Origin": "https://evil.example"}
        assert client.request(method, address, data={"csrf": token}, headers=foreign).status_code == 403
        cross = {"Sec-Fetch-Site": "cross-site"}
        assert client.request(method, address, data={"csrf": token}, headers=cross).status_code == 403
        same_site = {"Sec-Fetch-Site": "same-site"}
        assert client.request(method, address, data={"csrf": token}, headers=same_site).status_code == 403


def test_a_login_form_on_another_page_logs_nobody_in(hospital: Hospital) -> None:
    with hospital.client() as client:
        form = {"account": "admin", "password": PASSWORD}
        answer = client.post("/login", data=form, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_every_login_gets_a_session_of_its_own_and_ends_the_one_before(hospital: Hospital) -> None:
    with hospital.client() as client:
        prepared = {"Cookie": "ostiary=prepared-by-somebody-else"}
        client.post("/login", data={"account": "admin", "password": PASSWORD}, headers=prepared)
        first = client.cookies["ostiary"]
        assert first != "prepared-by-somebody-else"
        client.post("/login", data={"account": "desk", "password": PASSWORD})
        assert client.cookies["ostiary"] != first
        client.cookies.clear()
        assert client.get("/doors", headers={"Cookie": f"ostiary={first}"}).status_code == 303


def test_the_database_holds_no_session_that_could_be_used(hospital: Hospital) -> None:
    with hospital.client("admin") as client, hospital.store.reading() as db:
        secret = client.cookies["ostiary"]
        kept = db.execute(sa.select(sessions.c.id_hash)).scalars().all()
        assert kept
        assert secret not in kept


def test_an_idle_session_ends_but_a_wall_display_stays(hospital: Hospital) -> None:
    with hospital.client("admin") as admin, hospital.client("wall") as wall:
        hospital.ahead_ms = IDLE_MS + 60_000
        assert admin.get("/doors").status_code == 303
        assert admin.get("/stream").status_code == 401
        assert wall.get("/doors").status_code == 200


def test_a_disabled_account_is_out_at_once(hospital: Hospital) -> None:
    with hospital.client("desk") as desk:
        assert desk.get("/doors").status_code == 200
        hospital.accounts.disable("desk", "admin", hospital.now_ms())
        assert desk.get("/doors").status_code == 303


def test_logging_out_ends_the_session_and_not_only_the_cookie(hospital: Hospital) -> None:
    with hospital.client("admin") as client:
        secret, token = client.cookies["ostiary"], token_of(client.get("/account").text)
        assert client.post("/logout", data={"csrf": token}).status_code == 303
        client.cookies.clear()
        assert client.get("/doors", headers={"Cookie": f"ostiary={secret}"}).status_code == 303


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_login_leads_to_no_other_site(hospital: Hospital, wanted: str) -> None:
    with hospital.client() as client:
        answer = client.post("/login", data={"account": "admin", "password": PASSWORD, "next": wanted})
        assert answer.headers["location"] == "/"


def test_another_name_for_this_machine_gets_nothing(hospital: Hospital) -> None:
    with hospital.client("admin") as client:
        assert client.get("/doors", headers={"Host": "evil.example"}).status_code == 421


def test_tags_hide_every_other_zone_in_lists_pages_proofs_and_exports(hospital: Hospital) -> None:
    with hospital.client(SCOPED) as client:
        assert client.get("/doors/st-mary/pharmacy-1/door-1").status_code == 200
        for path in (
            "/doors/st-mary/icu-1/door-1",
            _address(hospital, "/events/{site:str}/{unit:str}/{sequence:str}", "st-mary/icu-1"),
            "/proofs/st-mary/icu-1",
        ):
            assert client.get(path).status_code == 404, path
        token = token_of(client.get("/account").text)
        assert client.post("/proofs/st-mary/icu-1/bundle", data={"csrf": token}).status_code == 404
        exported = client.post("/events/export", data={"csrf": token, "form": "json"})
        units = {json.loads(line)["unit"] for line in exported.text.splitlines()}
        assert units == {"st-mary/pharmacy-1", "st-mary/pharmacy-2", "st-mary/pharmacy-3"}
        assert "icu-1" not in client.get("/events").text
        assert "icu-1" not in client.get("/doors").text
        assert "icu-1" not in client.get("/proofs").text


def test_a_person_outside_the_tags_does_not_exist(hospital: Hospital) -> None:
    with hospital.store.reading() as db:
        inside = sa.select(events.c.person).where(
            events.c.unit.like("st-mary/pharmacy%"), events.c.person.is_not(None)
        )
        other = sa.select(events.c.person).where(events.c.person.is_not(None), events.c.person.not_in(inside))
        person = db.execute(other.limit(1)).scalar_one()
    with hospital.client(SCOPED) as client:
        assert client.get(f"/people/{person}").status_code == 404
        token = token_of(client.get("/account").text)
        answer = client.post(f"/people/{person}/name", data={"csrf": token, "why": "curious"})
        assert answer.status_code == 404
    with hospital.client("auditor") as client:
        assert client.get(f"/people/{person}").status_code == 200


def test_a_name_is_shown_on_request_with_a_reason_that_goes_on_record(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        path = _address(hospital, "/people/{person:str}")
        page = client.get(path).text
        token = token_of(page)
        assert "Who is it?" in page
        assert client.post(f"{path}/name", data={"csrf": token, "why": ""}).status_code == 400
        told = client.post(f"{path}/name", data={"csrf": token, "why": "stands at the desk"})
        assert "on record" in told.text
        newest = journal.entries(hospital.store, limit=1)[0]
        assert (newest.account, newest.action) == ("desk", "reveal")
        assert newest.subject.endswith("stands at the desk")
        name = told.text.partition("<title>")[2]
        assert hospital.backend().names is not None
        person = path.rpartition("/")[2]
        assert hospital.backend().names.name(person) in told.text  # type: ignore[union-attr]
        assert hospital.backend().names.name(person) not in client.get(path).text  # type: ignore[union-attr]
        assert name


def test_names_are_not_readable_in_the_database(hospital: Hospital) -> None:
    path = _address(hospital, "/people/{person:str}")
    name = hospital.backend().names.name(path.rpartition("/")[2])  # type: ignore[union-attr]
    assert name
    hospital.store.close()
    assert name.encode() not in b"".join(file.read_bytes() for file in hospital.folder.glob("registry.db*"))


def test_reading_a_person_is_on_record_before_it_is_shown(hospital: Hospital) -> None:
    with hospital.client("auditor") as client:
        path = _address(hospital, "/people/{person:str}")
        assert client.get(path).status_code == 200
        newest = journal.entries(hospital.store, limit=1)[0]
        assert (newest.account, newest.action, newest.subject) == (
            "auditor",
            "read",
            f"person {path.rpartition('/')[2]}",
        )


def test_an_export_cannot_run_a_formula(hospital: Hospital) -> None:
    evil = '=HYPERLINK("http://evil.example","x")'
    places.replace(hospital.store, [Place("st-mary/pharmacy-1", "door-1", evil, "pharmacy", "@SUM(A1)")])
    with hospital.client("auditor") as client:
        token = token_of(client.get("/events").text)
        form = {"csrf": token, "unit": "st-mary/pharmacy-1"}
        rows = list(
            csv.DictReader(io.StringIO(client.post("/events/export", data=form | {"form": "csv"}).text))
        )
        assert rows
        assert {row["door"] for row in rows} == {f"'{evil}"}
        assert {row["zone"] for row in rows} == {"'@SUM(A1)"}
        sheet = client.post("/events/export", data=form | {"form": "xlsx"})
        with zipfile.ZipFile(io.BytesIO(sheet.content)) as book:
            cells = book.read("xl/worksheets/sheet1.xml")
        assert b"<f>" not in cells
        assert b"HYPERLINK" in cells + book_strings(sheet.content)


def book_strings(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        return book.read("xl/sharedStrings.xml") if "xl/sharedStrings.xml" in book.namelist() else b""


def test_an_export_holds_every_event_of_the_filter_and_is_on_record(hospital: Hospital) -> None:
    with hospital.store.reading() as db:
        refused = sa.select(sa.func.count()).where(events.c.kind == "DENIED_VOICE")
        expected = db.execute(refused.select_from(events)).scalar_one()
    with hospital.client("auditor") as client:
        token = token_of(client.get("/events").text)
        form = {"csrf": token, "form": "json", "kind": "DENIED_VOICE"}
        lines = client.post("/events/export", data=form).text.splitlines()
    assert len(lines) == expected > 0
    newest = journal.entries(hospital.store, limit=1)[0]
    assert (newest.action, newest.rows) == ("export", expected)


def test_paging_shows_every_event_once(hospital: Hospital) -> None:
    seen: list[str] = []
    with hospital.client("auditor") as client:
        address = "/events?kind=GRANTED"
        while address:
            html = client.get(address).text
            seen += [part.partition('"')[0] for part in html.split('data-key="')[1:]]
            address = html.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    with hospital.store.reading() as db:
        query = sa.select(events.c.unit, events.c.sequence).where(events.c.kind == "GRANTED")
        expected = {f"{row.unit}#{row.sequence}" for row in db.execute(query)}
    assert len(seen) == len(set(seen))
    assert set(seen) == expected


@pytest.mark.parametrize(
    "query", ["kind=NOPE", "person=1", "unit=../x", "since=yesterday", "show=x", "before=1~2~3", "reason=%27"]
)
def test_an_address_that_makes_no_sense_gets_a_page_that_says_so(hospital: Hospital, query: str) -> None:
    with hospital.client("auditor") as client:
        answer = client.get(f"/events?{query}")
        assert answer.status_code == 400
        assert "This address" in answer.text


def test_a_wall_display_shows_no_person_and_no_silent_alarm(hospital: Hospital) -> None:
    with hospital.store.transaction() as db:
        newest = sa.select(sa.func.max(events.c.time_ms)).scalar_subquery()
        db.execute(
            sa.update(events)
            .where(events.c.time_ms == newest)
            .values(kind="DURESS", reason="duress_word", silent_alarm=1)
        )
        persons = (
            db.execute(sa.select(events.c.person).where(events.c.person.is_not(None)).distinct())
            .scalars()
            .all()
        )
    with hospital.client("wall") as wall, hospital.client("desk") as desk:
        shown = wall.get("/events").text + wall.get("/doors").text
        assert "uress" not in shown
        assert "silent alarm" not in shown
        assert not [person for person in persons if person[:8] in shown]
        # Nor does a filter tell what the row does not say.
        for query in (
            f"person={persons[0]}",
            "kind=DURESS",
            "reason=duress_word",
            "show=granted",
            "show=alarms",
        ):
            assert wall.get(f"/events?{query}").status_code == 404, query
            assert wall.get(f"/stream?{query}").status_code == 403, query
        assert "Duress" in desk.get("/events").text


def test_a_form_that_is_too_large_is_refused(hospital: Hospital) -> None:
    with hospital.client("admin") as client:
        assert client.post("/login", data={"account": "x" * 100_000}).status_code == 413
        assert (
            client.post("/login", content=b"{}", headers={"Content-Type": "application/json"}).status_code
            == 415
        )


def test_a_database_that_is_gone_gets_a_page_that_says_so(hospital: Hospital) -> None:
    with hospital.client("admin") as client:
        with hospital.store.transaction() as db:
            db.execute(sa.text("ALTER TABLE dashboard_sessions RENAME TO gone"))
        answer = client.get("/doors")
        assert answer.status_code == 503
        assert "Nothing was lost" in answer.text
        with hospital.store.transaction() as db:
            db.execute(sa.text("ALTER TABLE gone RENAME TO dashboard_sessions"))
        assert client.get("/doors").status_code == 200


def test_two_workers_that_gather_at_once_close_an_incident_once(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    with hospital.store.transaction() as db:
        db.execute(sa.update(units).values(seen_ms=now_ms))
    incidents.gather(hospital.store, now_ms)  # what the demonstration left
    alarms = [Alarm("UNIT_SILENT", "warning", f"st-mary/icu-{n}", f"SILENT icu-{n}", {}) for n in (1, 2, 3)]
    with hospital.store.transaction() as db:
        hospital.store.raise_alarms(db, alarms, now_ms)
    threads = [threading.Thread(target=incidents.gather, args=(hospital.store, now_ms)) for _ in range(8)]
    caught: list[BaseException] = []
    hook, threading.excepthook = threading.excepthook, lambda told: caught.append(told.exc_value or OSError())
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    threading.excepthook = hook
    incidents.gather(hospital.store, now_ms)
    assert caught == []
    with hospital.store.reading() as db:
        left = sa.select(sa.func.count()).where(table.c.kind == "UNIT_SILENT", table.c.resolved_ms.is_(None))
        assert db.execute(left).scalar_one() == 0


def _door_is_forced(hospital: Hospital) -> None:
    alarm = Alarm("DOOR_ATTACKED", "critical", "st-mary/icu-1", "ICU FORCED", {"count": 1}, "door-1")
    with hospital.store.transaction() as db:
        hospital.store.raise_alarms(db, [alarm], hospital.now_ms())


def test_acknowledging_is_not_resolving_and_resolving_needs_a_note(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        _door_is_forced(hospital)
        listing = client.get("/incidents").text
        path = listing.partition("A door was forced")[0].rpartition('href="')[2].partition('"')[0]
        token = token_of(listing)
        assert client.post(path, data={"csrf": token, "action": "acknowledge"}).status_code == 303
        assert client.post(path, data={"csrf": token, "action": "acknowledge"}).status_code == 409
        assert f'href="{path}"' in client.get("/incidents").text
        assert client.post(path, data={"csrf": token, "action": "resolve", "note": " "}).status_code == 400
        done = client.post(
            path, data={"csrf": token, "action": "resolve", "note": "A trolley held the door."}
        )
        assert done.status_code == 303
        page = client.get(path).text
        assert "A trolley held the door." in page
        assert "desk" in page
        assert f'href="{path}"' not in client.get("/incidents").text


def test_the_same_thing_again_opens_the_incident_again(hospital: Hospital) -> None:
    _door_is_forced(hospital)
    with hospital.client("desk") as client:
        html = client.get("/incidents").text
        row = html.partition("A door was forced")[0].rpartition('href="')[2].partition('"')[0]
        client.post(row, data={"csrf": token_of(html), "action": "resolve", "note": "Repaired."})
        _door_is_forced(hospital)
        assert row in client.get("/incidents").text
        assert "It happened again." in client.get(row).text
