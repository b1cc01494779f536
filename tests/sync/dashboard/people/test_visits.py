"""Temporary people: from the form on the page to the door that stops knowing them, and back to the page."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from device.access.decision import Reason
from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.errors import RefusedError
from sync.dashboard.people import visits
from sync.dashboard.schema import visits as table
from sync.events import pseudonym
from sync.registry.database.schema import commands, events, units
from tests.sync.dashboard.conftest import Hospital, token_of
from tests.sync.dashboard.doors.test_holds import UNIT, Ward, ward

__all__ = ["ward"]
ANNA = str(pseudonym(b"k" * 32, "ANNA"))
DESK = Viewer("desk", "desk", (), "", "")
DAY_MS = 86_400_000


def happened(hospital: Hospital, kind: str, person: str = ANNA, unit: str = UNIT, ago_ms: int = 1000) -> None:
    """One more event of a person, as the registry holds it."""
    now_ms = hospital.now_ms() - ago_ms
    base = {"month": 202611, "received_ms": now_ms, "event_id": "x", "door": "ward", "reason": "none",
            "keystore": "tpm", "body": b"", "unit": unit, "time_ms": now_ms}  # fmt: skip
    with hospital.store.transaction() as db:
        last = db.execute(sa.select(sa.func.max(events.c.sequence)).where(events.c.unit == unit)).scalar_one()
        db.execute(sa.insert(events).values(**base, sequence=last + 1, kind=kind, person=person))


def form(ward: Ward, hours: float, **more: str) -> Any:
    token = token_of(ward.client.get(f"/people/{ANNA}").text)
    fields = {"person": ANNA, "site": "st-mary", "sponsor": "facilities", "what": "agency nurse"}
    return ward.client.post("/visits", data={"csrf": token, "ends": ward.until(hours), **fields, **more})


def press(ward: Ward, action: str, client: Any = None, **fields: str) -> Any:
    client = client or ward.client
    with ward.hospital.store.reading() as db:
        number = db.execute(sa.select(sa.func.max(table.c.id))).scalar_one()
    token = token_of(client.get("/visits").text)
    return client.post(f"/visits/{number}", data={"csrf": token, "action": action, **fields})


@pytest.fixture(autouse=True)
def _enrolled(ward: Ward) -> None:
    happened(ward.hospital, "ENROLLED")


def test_a_temporary_person_is_let_in_until_the_hour_and_the_door_ends_it_alone(ward: Ward) -> None:
    assert ANNA in ward.client.get("/visits").text  # enrolled lately, and not temporary
    assert form(ward, 2).status_code == 303
    page = ward.client.get("/visits").text
    assert "facilities" in page
    assert "0 of" in page
    ward.delivered()
    assert "1 of" in ward.client.get("/visits").text
    assert ward.scene.world.attempt().opens
    ward.scene.world.later(2 * 3600.0 + 60.0)  # nothing reaches it any more
    assert ward.scene.world.attempt().code is Reason.VISIT_ENDED
    assert "agency nurse" in ward.client.get(f"/people/{ANNA}").text
    with ward.hospital.store.reading() as db:
        actions = [row.action for row in db.execute(sa.select(journal.journal.c.action))]
    assert "temporary" in actions


def test_it_is_ended_prolonged_and_lifted_and_the_door_hears_of_each(ward: Ward) -> None:
    form(ward, 2)
    ward.delivered()
    assert press(ward, "end").status_code == 303
    ward.delivered()
    assert ward.scene.world.attempt().code is Reason.VISIT_ENDED
    assert press(ward, "end").status_code == 409
    assert press(ward, "change", ends=ward.until(24)).status_code == 303
    ward.delivered()
    assert ward.scene.world.attempt().opens
    assert press(ward, "lift", why="has a contract now").status_code == 403
    with ward.hospital.client("admin") as admin:
        assert press(ward, "lift", admin).status_code == 400  # without a reason
        assert press(ward, "lift", admin, why="has a contract now").status_code == 303
    ward.delivered()
    assert ward.scene.world.history.visits == 0
    assert form(ward, 2).status_code == 303  # and can become temporary again


def test_somebody_else_answers_when_the_sponsor_has_gone(ward: Ward) -> None:
    form(ward, 48)
    ward.hospital.accounts.disable("facilities", "admin", ward.hospital.now_ms())
    assert "has no account any more" in ward.client.get("/visits").text
    with ward.hospital.store.reading() as db:
        assert visits.unanswered(db, ward.hospital.now_ms()) == 1
    assert press(ward, "answer").status_code == 303
    with ward.hospital.store.reading() as db:
        assert visits.unanswered(db, ward.hospital.now_ms()) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sponsor": "auditor"}, {"sponsor": "nobody"}, {"site": "harbour-clinic"}, {"what": ""}, {"ends": ""},
        {"ends": "2099-01-01T00:00"}, {"ends": "2020-01-01T00:00"}, {"person": "x"},
        {"person": "0bd58b5e-6d5c-8d6a-b2f0-5c2d4e3f1a0b"},
    ],
)  # fmt: skip
def test_what_has_no_end_no_sponsor_or_no_person_is_refused(ward: Ward, change: dict[str, str]) -> None:
    assert form(ward, 2, **change).status_code in (400, 404)
    with ward.hospital.store.reading() as db:
        assert db.execute(sa.select(table)).all() == []
        assert db.execute(sa.select(commands.c.unit)).all() == []


def test_a_person_is_temporary_once_and_only_for_accounts_that_see_the_whole_site(ward: Ward) -> None:
    assert form(ward, 2).status_code == 303
    assert form(ward, 3).status_code == 409
    narrow = Viewer("desk", "desk", ("st-mary/icu",), "", "")
    with ward.hospital.store.reading() as db:
        assert visits.listed(db, narrow, ward.hospital.now_ms()) == []
    with pytest.raises(RefusedError, match="no such visit"):
        visits.end(ward.hospital.store, ward.hospital.signer, narrow, 1, ward.hospital.now_ms())


def test_a_unit_that_was_away_refused_or_enrolled_anew_is_told_again(ward: Ward) -> None:
    store, signer = ward.hospital.store, ward.hospital.signer
    form(ward, 24 * 60)
    ward.delivered()
    now_ms = ward.hospital.now_ms()
    assert visits.tell_due(store, signer, now_ms) == 0
    with store.transaction() as db:
        there = db.execute(
            sa.select(sa.func.count()).where(units.c.site == "st-mary", units.c.revoked_ms.is_(None))
        ).scalar_one()
    # All but the one that answered: their commands have run out a day later.
    assert visits.tell_due(store, signer, now_ms + DAY_MS + 1) == there - 1
    ward.hospital.ahead_ms += 1000
    happened(ward.hospital, "ENROLLED", ago_ms=0)  # forgotten and enrolled again: a new person to the unit
    assert visits.tell_due(store, signer, ward.hospital.now_ms() + 1) == 1
    assert visits.tell_due(store, signer, ward.hospital.now_ms() + 1) == 0


def test_a_person_who_was_let_in_after_the_end_is_shown(ward: Ward) -> None:
    form(ward, 24)
    press(ward, "end")
    ward.hospital.ahead_ms += 300_000
    happened(ward.hospital, "GRANTED", ago_ms=0)
    assert "1 after the end" in ward.client.get("/visits").text
