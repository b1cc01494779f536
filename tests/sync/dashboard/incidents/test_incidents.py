"""Incidents that end by themselves, come back, and come and go."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.incidents import incidents
from sync.dashboard.schema import incidents as table
from sync.registry.database.schema import events
from sync.registry.verification import Alarm
from tests.sync.between import after_the_first_transaction
from tests.sync.dashboard.conftest import Hospital

ADMIN = Viewer("admin", "admin", (), "", "")
UNIT, DOOR = "st-mary/icu-1", "door-1"
MINUTE_MS = 60_000


class Door:
    """A door whose newest events we choose, and the alarms that follow from them."""

    def __init__(self, hospital: Hospital) -> None:
        self.store, self.now_ms = hospital.store, hospital.now_ms()

    def happens(self, kind: str, rule: str | None = None) -> None:
        """An event of `kind` now, what the detector makes of it, and what becomes of that."""
        self.sends(kind, rule)
        incidents.gather(self.store, self.now_ms)

    def sends(self, kind: str, rule: str | None = None) -> None:
        self.now_ms += MINUTE_MS
        with self.store.transaction() as db:
            mine = events.c.unit == UNIT
            row = db.execute(sa.select(events).where(mine).order_by(events.c.sequence.desc()).limit(1)).one()
            values = dict(row._mapping) | {
                "sequence": row.sequence + 1, "kind": kind, "time_ms": self.now_ms, "door": DOOR,
            }  # fmt: skip
            db.execute(sa.insert(events).values(**values))
            if rule is not None:
                raised = Alarm(rule, "critical", UNIT, f"{rule} {self.now_ms}", {}, DOOR)
                self.store.raise_alarms(db, [raised], self.now_ms)

    def row(self, rule: str) -> Any:
        with self.store.reading() as db:
            mine = (table.c.kind == rule, table.c.unit == UNIT)
            return db.execute(sa.select(table).where(*mine)).one()

    def spans(self, rule: str) -> list[tuple[int, int]]:
        with self.store.reading() as db:
            found = incidents.spans(db, self.row(rule).id)
        return [(span.resolved_ms is not None, span.by_itself) for span in found]


@pytest.fixture
def door(hospital: Hospital) -> Door:
    incidents.gather(hospital.store, hospital.now_ms())
    return Door(hospital)


def test_a_door_that_was_held_ends_its_incident_when_it_shuts_and_begins_it_again(door: Door) -> None:
    door.happens("DOOR_OPEN_TOO_LONG", "DOOR_HELD")
    assert incidents.state(door.row("DOOR_HELD")) == "new"
    door.happens("DOOR_CLOSED")
    assert incidents.state(door.row("DOOR_HELD")) == "resolved"
    door.happens("DOOR_OPEN_TOO_LONG", "DOOR_HELD")
    assert incidents.state(door.row("DOOR_HELD")) == "new"
    assert door.spans("DOOR_HELD") == [(True, 1), (False, 0)]


def test_a_door_that_is_held_again_while_its_incident_is_about_to_end_ends_it_not(door: Door) -> None:
    door.happens("DOOR_OPEN_TOO_LONG", "DOOR_HELD")
    door.sends("DOOR_CLOSED")
    with after_the_first_transaction(door.store, lambda: door.sends("DOOR_OPEN_TOO_LONG", "DOOR_HELD")):
        incidents.gather(door.store, door.now_ms)
    assert incidents.state(door.row("DOOR_HELD")) == "new"


def test_a_forced_door_stays_somebodys_matter_until_somebody_has_seen_it(door: Door) -> None:
    door.happens("DOOR_FORCED_OPEN", "DOOR_ATTACKED")
    door.happens("DOOR_CLOSED")
    row = door.row("DOOR_ATTACKED")
    assert incidents.state(row) == "new"
    incidents.acknowledge(door.store, row.id, "desk", door.now_ms)
    incidents.gather(door.store, door.now_ms)
    assert incidents.state(door.row("DOOR_ATTACKED")) == "resolved"


def test_a_unit_that_was_opened_is_not_mended_by_a_door_that_shuts(door: Door) -> None:
    door.happens("TAMPER", "DOOR_ATTACKED")
    incidents.acknowledge(door.store, door.row("DOOR_ATTACKED").id, "desk", door.now_ms)
    door.happens("DOOR_CLOSED")
    assert incidents.state(door.row("DOOR_ATTACKED")) == "seen"


def test_what_comes_and_goes_stays_open_until_it_is_quiet(door: Door) -> None:
    for _ in range(1 + incidents.FLAPPING):
        door.happens("DOOR_OPEN_TOO_LONG", "DOOR_HELD")
        before = incidents.state(door.row("DOOR_HELD"))
        door.happens("DOOR_CLOSED")
    assert before == "flapping"
    assert incidents.state(door.row("DOOR_HELD")) == "flapping"
    door.now_ms += incidents.QUIET_MS
    incidents.gather(door.store, door.now_ms)
    assert incidents.state(door.row("DOOR_HELD")) == "resolved"


def test_every_opening_counts_in_the_durations(door: Door) -> None:
    with door.store.reading() as db:
        before = incidents.durations(db, ADMIN, door.now_ms).resolved
    for _ in range(2):
        door.happens("DOOR_OPEN_TOO_LONG", "DOOR_HELD")
        door.happens("DOOR_CLOSED")
    with door.store.reading() as db:
        spans = incidents.durations(db, ADMIN, door.now_ms - 10 * MINUTE_MS)
    assert spans.resolved >= before + 2


def test_an_incident_says_which_version_runs_and_which_should(hospital: Hospital) -> None:
    evidence = {"models": {"desired": "spoof-2", "reported": "spoof-1"}, "hour": 494_343, "window_s": 90}
    alarm = Alarm("UNIT_DRIFTED", "warning", "st-mary/icu-1", "DRIFT icu-1", evidence)
    with hospital.store.transaction() as db:
        hospital.store.raise_alarms(db, [alarm], hospital.now_ms())
    incidents.gather(hospital.store, hospital.now_ms())
    with hospital.store.reading() as db:
        mine = sa.select(table.c.id).where(table.c.kind == "UNIT_DRIFTED", table.c.unit == "st-mary/icu-1")
        number = db.execute(mine).scalar_one()
    with hospital.client("desk") as client:
        page = client.get(f"/incidents/{number}").text
        german = client.get(f"/incidents/{number}", headers={"Accept-Language": "de"}).text
    assert "hour: 24 May 15:00:00, Models: spoof-1, and not spoof-2, within: 90 s" in page
    assert "Modelle: spoof-1, und nicht spoof-2" in german
