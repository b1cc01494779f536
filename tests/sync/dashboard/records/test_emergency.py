"""Emergency access is looked at the next day, by somebody else than the person who asked for it."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.doors import holds
from sync.dashboard.emergency import lockdown
from sync.dashboard.errors import RefusedError
from sync.dashboard.records import emergency
from sync.registry.database.schema import events
from tests.sync.dashboard.conftest import Hospital, token_of

DESK = Viewer("desk", "desk", (), "", "")
ADMIN = Viewer("admin", "admin", (), "", "")
AUDITOR = Viewer("auditor", "auditor", (), "", "")
DAY_MS = 86_400_000


@pytest.fixture
def quiet(hospital: Hospital) -> Hospital:
    """Nothing of the demonstration itself."""
    with hospital.store.transaction() as db:
        db.execute(sa.delete(events).where(events.c.kind.in_(emergency.KINDS)))
    return hospital


def held(hospital: Hospital, by: Viewer) -> None:
    now_ms = hospital.now_ms()
    holds.ask(
        hospital.store, hospital.signer, by, "st-mary/pharmacy-1", "door-1", now_ms, now_ms + 3_600_000,
        holds.Conditions(), "Resuscitation trolley", now_ms,
    )  # fmt: skip


def read(hospital: Hospital, viewer: Viewer = AUDITOR, later_ms: int = 0) -> list[emergency.Exceptional]:
    with hospital.store.reading() as db:
        return emergency.read(db, viewer, dt.UTC, hospital.now_ms() + later_ms)


def test_what_went_around_the_voice_check_waits_until_somebody_looked(quiet: Hospital) -> None:
    held(quiet, DESK)
    run = {"name": "Intruder", "site": "st-mary", "zones": ("icu",), "plan": 0}
    lockdown.start(quiet.store, quiet.signer, DESK, **run, drill=False, now_ms=quiet.now_ms())
    lockdown.start(quiet.store, quiet.signer, DESK, **run, drill=True, now_ms=quiet.now_ms())
    base = {"month": 202611, "received_ms": 0, "event_id": "x", "reason": "fire_input", "keystore": "tpm",
            "body": b"", "unit": "st-mary/icu-1", "door": "door-1", "sequence": 10**6}  # fmt: skip
    with quiet.store.transaction() as db:
        db.execute(sa.insert(events).values(**base, kind="EMERGENCY_RELEASE", time_ms=quiet.now_ms()))
    found = read(quiet)
    assert sorted(one.key.partition(":")[0] for one in found) == ["event", "hold", "run"]
    assert {one.state for one in found} == {"waits"}
    assert {one.state for one in read(quiet, later_ms=2 * DAY_MS)} == {"overdue"}
    with quiet.client("auditor") as client:
        page = client.get("/emergency").text
        assert "Resuscitation trolley" in page
        keys = {one.key: "on" for one in found}
        signed = {"csrf": token_of(page), "finding": "The ward confirmed it."}
        assert client.post("/emergency", data=signed).status_code == 400  # nothing ticked
        assert client.post("/emergency", data=signed | keys | {"finding": ""}).status_code == 400
        assert client.post("/emergency", data=signed | keys).status_code == 303
        assert client.post("/emergency", data=signed | keys).status_code == 409
        assert "The ward confirmed it." in client.get("/emergency").text
    assert {one.state for one in read(quiet, later_ms=2 * DAY_MS)} == {"reviewed"}
    assert journal.entries(quiet.store, limit=1)[0].action == "emergency access reviewed"


def test_nobody_reviews_what_they_asked_for_themselves(quiet: Hospital) -> None:
    held(quiet, ADMIN)
    (one,) = read(quiet)
    with pytest.raises(RefusedError, match="Somebody else looks"):
        emergency.review(quiet.store, ADMIN, dt.UTC, [one.key], "Fine.", quiet.now_ms())
    with quiet.client("admin") as client:
        page = client.get("/emergency").text
        assert "somebody else looks" in page
        assert f'name="{one.key}"' not in page
    emergency.review(quiet.store, AUDITOR, dt.UTC, [one.key], "Fine.", quiet.now_ms())
    assert [found.state for found in read(quiet)] == ["reviewed"]


def test_an_account_reviews_only_what_it_may_see(quiet: Hospital) -> None:
    held(quiet, DESK)
    (one,) = read(quiet)
    elsewhere = Viewer("other", "auditor", ("harbour-clinic",), "", "")
    assert read(quiet, elsewhere) == []
    with pytest.raises(RefusedError, match="no such"):
        emergency.review(quiet.store, elsewhere, dt.UTC, [one.key], "Fine.", quiet.now_ms())
    assert len(read(quiet, Viewer("one", "auditor", ("st-mary/pharmacy",), "", ""))) == 1


def test_a_hold_of_every_week_is_no_emergency(quiet: Hospital) -> None:
    now = dt.datetime.fromtimestamp(quiet.now_ms() / 1000, dt.UTC) + dt.timedelta(hours=1)
    holds.plan(
        quiet.store, DESK, "st-mary/pharmacy-1", "door-1", tuple(range(7)), now.time().replace(microsecond=0),
        (now + dt.timedelta(hours=1)).time(), holds.Conditions(), quiet.now_ms(),
    )  # fmt: skip
    holds.ask_due(quiet.store, quiet.signer, dt.UTC, quiet.now_ms())
    assert read(quiet) == []
