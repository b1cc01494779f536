"""Roll calls, reviews, attacks, and the doors that refuse the right people."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.emergency import muster
from sync.dashboard.insight import attacks, figures
from sync.dashboard.schema import muster_people
from sync.registry.database.schema import events
from tests.sync.dashboard.conftest import Hospital, token_of

DESK = Viewer("desk", "desk", (), "", "")
HOUR_MS = 3_600_000


def test_a_roll_call_lists_everybody_by_the_zone_of_their_last_door(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    number = muster.start(hospital.store, DESK, "st-mary", now_ms)
    with hospital.store.reading() as db:
        found = {row.person: row.seen_ms for row in muster.people(db, number)}
        granted = (events.c.kind.in_(("GRANTED", "DURESS")), events.c.unit.like("st-mary/%"))
        recent = events.c.time_ms > now_ms - 16 * HOUR_MS
        query = sa.select(events.c.person, sa.func.max(events.c.time_ms)).where(*granted, recent)
        expected = {person: ms for person, ms in db.execute(query.group_by(events.c.person)) if person}
    assert found == expected
    assert len(found) > 3


def test_a_visitor_is_added_and_marked_safe_with_names_on_record(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        token = token_of(client.get("/muster").text)
        path = client.post("/muster", data={"csrf": token, "site": "st-mary"}).headers["location"]
        visitor = {"csrf": token, "action": "visitor", "name": "A plumber", "zone": "Boiler room"}
        assert client.post(path, data=visitor).status_code == 303
        with hospital.store.reading() as db:
            query = sa.select(muster_people.c.id).where(muster_people.c.visitor == "A plumber")
            entry = db.execute(query).scalar_one()
        assert (
            client.post(path, data={"csrf": token, "action": "safe", "entry": str(entry)}).status_code == 303
        )
        page = client.get(path).text
        assert "A plumber" in page
        assert journal.entries(hospital.store, limit=1)[0].action == "reveal"
        assert client.post(path, data={"csrf": token, "action": "end"}).status_code == 303
        assert client.post(path, data=visitor).status_code == 409


def test_a_day_is_signed_off_by_the_person_who_looked(hospital: Hospital) -> None:
    yesterday = dt.datetime.fromtimestamp(hospital.now_ms() / 1000, dt.UTC).date() - dt.timedelta(days=1)
    with hospital.client("auditor") as client:
        page = client.get("/review").text
        assert yesterday.isoformat() in page
        form = {"csrf": token_of(page), "day": yesterday.isoformat(), "finding": "Nothing unusual."}
        assert client.post("/review", data=form | {"finding": ""}).status_code == 400
        today = (yesterday + dt.timedelta(days=1)).isoformat()
        assert client.post("/review", data=form | {"day": today}).status_code == 400
        assert client.post("/review", data=form).status_code == 303
        assert "Nothing unusual." in client.get("/review").text
    assert journal.entries(hospital.store, limit=1)[0].action == "review"


def test_attacks_that_follow_each_other_are_one_campaign(hospital: Hospital) -> None:
    class Row:
        def __init__(self, minute: int, unit: str) -> None:
            self.unit, self.door, self.kind, self.person = unit, "door-1", "DENIED_SPOOF", "p"
            self.time_ms = minute * 60_000

    rows = [Row(m, "a/1") for m in (0, 10, 40)] + [Row(41, "b/1")] + [Row(m, "a/2") for m in (200, 210)]
    found = attacks.campaigns(rows)
    assert [(c.site, c.times, c.doors) for c in found] == [("a", 3, (("a/1", "door-1"),))]


def test_a_refusal_counts_as_wrong_when_the_person_gets_in_right_after(hospital: Hospital) -> None:
    with hospital.store.transaction() as db:
        db.execute(sa.delete(events))
        base = {"month": 202601, "received_ms": 0, "event_id": "x", "door": "d", "reason": "none",
                "keystore": "tpm", "body": b""}  # fmt: skip
        seconds = [
            (0, "DENIED_QUALITY", "a"),
            (20, "GRANTED", "a"),
            (30, "DENIED_VOICE", "b"),
            (500, "GRANTED", "b"),
        ]
        rows = [
            {
                **base,
                "unit": "s/u",
                "sequence": n,
                "time_ms": 50_000_000 + s * 1000,
                "kind": kind,
                "person": who,
            }
            for n, (s, kind, who) in enumerate(seconds, start=1)
        ]
        db.execute(sa.insert(events), rows)
    with hospital.store.reading() as db:
        found = figures.troubles(db, 0, dt.UTC)
    assert [(t.unit, t.attempts, t.wrongly) for t in found] == [("s/u", 4, 1)]
