"""The biometric ledger, sensitive rooms, and doors that people can leave."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.errors import DashboardError
from sync.dashboard.records import ledger, rooms
from sync.dashboard.site import places
from sync.dashboard.site.places import NEEDS
from sync.registry.database.schema import events
from tests.sync.dashboard.conftest import Hospital

AUDITOR = Viewer("auditor", "auditor", (), "", "")
DRUGS = "st-mary/pharmacy-2"
DAY_MS = 86_400_000


def _happens(hospital: Hospital, kind: str, at_ms: int, person: str | None, unit: str = DRUGS) -> None:
    with hospital.store.transaction() as db:
        newest = sa.select(events).where(events.c.unit == unit).order_by(events.c.sequence.desc()).limit(1)
        row = db.execute(newest).one()
        values = dict(row._mapping) | {
            "sequence": row.sequence + 1, "kind": kind, "time_ms": at_ms, "person": person, "door": "door-1",
            "silent_alarm": None,
        }  # fmt: skip
        db.execute(sa.insert(events).values(**values))


def _held(hospital: Hospital, person: str, viewer: Viewer = AUDITOR) -> list[ledger.Held]:
    with hospital.store.reading() as db:
        return [one for one in ledger.read(db, viewer) if one.person == person]


PERSON = "11111111-2222-8333-8444-555555555555"
OTHER = "11111111-2222-8333-8444-666666666666"


def test_a_voiceprint_is_held_until_its_receipt_comes(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    _happens(hospital, "ENROLLED", now_ms - 3000, PERSON)
    assert [one.state for one in _held(hospital, PERSON)] == ["held"]
    _happens(hospital, "ERASURE_BEGUN", now_ms - 2000, PERSON)
    assert [one.state for one in _held(hospital, PERSON)] == ["owed"]
    _happens(hospital, "FORGOTTEN", now_ms - 1000, PERSON)
    assert [one.state for one in _held(hospital, PERSON)] == ["erased"]
    _happens(hospital, "ENROLLED", now_ms, PERSON)
    assert [one.state for one in _held(hospital, PERSON)] == ["held"]


def test_the_clock_runs_from_the_last_time_somebody_was_let_in(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    _happens(hospital, "ENROLLED", now_ms - 2 * DAY_MS, PERSON)
    assert _held(hospital, PERSON)[0].due_ms() == now_ms - 2 * DAY_MS + ledger.TERM_DAYS * DAY_MS
    _happens(hospital, "GRANTED", now_ms - DAY_MS, PERSON)
    assert _held(hospital, PERSON)[0].due_ms() == now_ms - DAY_MS + ledger.TERM_DAYS * DAY_MS


def test_tags_limit_the_ledger(hospital: Hospital) -> None:
    _happens(hospital, "ENROLLED", hospital.now_ms(), PERSON)
    limited = Viewer("x", "auditor", ("st-mary/icu",), "", "")
    assert _held(hospital, PERSON, limited) == []


def test_a_shift_tells_who_went_in_with_whom(hospital: Hospital) -> None:
    now_ms = hospital.now_ms() + DAY_MS  # nothing else has happened yet
    for kind, second, person in (
        ("AWAITING_SECOND_PERSON", 0, PERSON), ("GRANTED", 12, OTHER), ("DOOR_OPENED", 14, None),
        ("DOOR_CLOSED", 44, None), ("GRANTED", 500, OTHER), ("AWAITING_SECOND_PERSON", 600, PERSON),
        ("DENIED_VOICE", 700, PERSON),
    ):  # fmt: skip
        _happens(hospital, kind, now_ms + second * 1000, person)
    with hospital.store.reading() as db:
        found = rooms.shift(db, AUDITOR, places.load(db), now_ms, now_ms + DAY_MS)
    room = next(room for room in found if room.place.unit == DRUGS)
    assert [(passage.person, passage.first) for passage in room.passages] == [(OTHER, PERSON), (OTHER, "")]
    assert (room.waited, room.refused, room.longest_open_ms) == (1, 1, 30_000)
    assert {room.place.zone for room in found} <= {"pharmacy", "nicu"}


def test_the_page_of_sensitive_rooms_and_the_ledger_show(hospital: Hospital) -> None:
    with hospital.client("admin") as client:
        assert "Controlled drugs room" in client.get("/rooms?hours=24").text
        page = client.get("/ledger").text
    assert "erased" in page
    assert "/people/" in page


def _file(folder: Path, locking: str, egress: list[str]) -> Path:
    path = folder / "doors.toml"
    path.write_text(f'[doors."a/b/c"]\nlabel = "x"\nlocking = "{locking}"\negress = {egress!r}\n', "utf-8")
    return path


@pytest.mark.parametrize("locking", NEEDS)
def test_a_door_that_people_could_not_leave_is_refused(tmp_path: Path, locking: str) -> None:
    needs = list(NEEDS[locking])
    assert places.read(_file(tmp_path, locking, needs))[0].egress.split()
    for missing in needs:
        with pytest.raises(DashboardError, match=missing):
            places.read(_file(tmp_path, locking, [need for need in needs if need != missing]))


def test_a_voice_check_is_never_on_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DashboardError, match="never on the way out"):
        places.read(_file(tmp_path, "clinical", ["staff_keys", "voice"]))
