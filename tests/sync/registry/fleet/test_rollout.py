"""New models in stages: a canary, per cent, all; halted by a unit that goes back and by changed rates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.errors import SyncError
from sync.events import unit_id
from sync.keys import FileSigner
from sync.registry.database.fleet_tables import documents
from sync.registry.database.schema import events
from sync.registry.database.store import Store, month_of
from sync.registry.fleet import rollout, wanted
from sync.registry.fleet.issuer import DocumentIssuer
from sync.registry.fleet.status import screen
from sync.registry.reports.status import open_alarms
from tests.sync.parts import START_MS, Clock

UNITS = [f"st-mary/door-{number}" for number in range(10)]
NEW = {"manifest": ["ab" * 32, 500], "signature": "00" * 64, "key": "11" * 32}
OLD = {"manifest": ["cd" * 32, 500], "signature": "00" * 64, "key": "11" * 32}
DAY_MS = 86_400_000


class Fleet:
    """Ten units that report what the test has them report."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = Store.open(f"sqlite:///{folder}/r.db")
        key = FileSigner.load_or_create(folder / "commands.key")
        for name in UNITS:
            self.store.register(unit_id(name), name.encode(), START_MS - 30 * DAY_MS)
        wanted.set_tags(self.store, unit_id(UNITS[3]), frozenset({"tag:canary"}))
        wanted.want(self.store, "all", "bundle", OLD, "desk", self.clock())
        self.issuer = DocumentIssuer(self.store, key, self.clock)
        self.counts = 0
        self.sequence = 0

    def start(self, soak_s: int = 60, attempts: int = 0) -> None:
        rollout.start(self.store, "all", NEW, "tag:canary", (20, 100), soak_s, attempts, "desk", self.clock())

    def given(self) -> set[str]:
        """Who is to have the new models by now."""
        self.issuer.round()
        with self.store.reading() as db:
            rolling = rollout.rolling(db)
        return {name for name in UNITS if rolling.bundle_of(name, frozenset({"all"})) == NEW}

    def report(self, names: set[str], standing: str = "applied", bundle: dict[str, Any] = NEW) -> None:
        numbers = self.numbers()
        told = {}
        for name in sorted(names):
            self.counts += 1
            facts = {
                "models": f"sha256:{bundle['manifest'][0][:16]}",
                "standing": standing,
                "why": "none",
                "document": numbers[name],
            }
            told[unit_id(name)] = json.dumps({"counter": self.counts, "state": "online", "facts": facts})
        self.store.save_health(told, self.clock())

    def numbers(self) -> dict[str, int]:
        with self.store.reading() as db:
            return {row.unit: row.counter for row in db.execute(sa.select(documents))}

    def attempts(self, unit: str, kinds: dict[str, int], at_ms: int) -> None:
        rows = []
        for kind, times in kinds.items():
            for _ in range(times):
                self.sequence += 1
                rows.append(
                    {
                        "unit": unit,
                        "sequence": self.sequence,
                        "month": month_of(at_ms),
                        "received_ms": at_ms,
                        "event_id": str(self.sequence),
                        "time_ms": at_ms,
                        "door": "door",
                        "kind": kind,
                        "reason": "none",
                        "keystore": "tpm",
                        "body": b"",
                    }
                )
        with self.store.transaction() as db:
            db.execute(sa.insert(events), rows)

    def newest(self) -> dict[str, Any]:
        self.issuer.round()
        with self.store.reading() as db:
            found = rollout.newest(db)
        assert found is not None
        return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.store.close()


def test_it_goes_from_the_canary_to_all_once_each_stage_has_confirmed_and_lasted(fleet: Fleet) -> None:
    fleet.start()
    assert fleet.given() == {UNITS[3]}
    fleet.clock.now_ms += 61_000
    assert fleet.given() == {UNITS[3]}, "time alone is not enough"
    for many in (3, 10):
        fleet.report(fleet.given())
        given = fleet.given()
        assert UNITS[3] in given
        assert many - 1 <= len(given) <= many
        fleet.clock.now_ms += 61_000
    fleet.report(fleet.given())
    assert fleet.newest()["state"] == "done"
    with fleet.store.reading() as db:
        assert wanted.wishes(db).of("bundle", frozenset({"all"})) == NEW


def test_a_unit_that_went_back_halts_it_and_the_screen_says_so(fleet: Fleet) -> None:
    fleet.start()
    fleet.given()
    fleet.report({UNITS[3]}, "went_back", OLD)
    found = fleet.newest()
    assert (found["state"], found["why"]) == ("halted", f"{UNITS[3]} took the new models back")
    fleet.issuer.round()
    raised = [(one["kind"], one["times"], one["evidence"]["why"]) for one in open_alarms(fleet.store)]
    assert raised == [("ROLL_OUT_HALTED", 1, found["why"])], "somebody is told, once"
    fleet.clock.now_ms += DAY_MS
    assert fleet.given() == {UNITS[3]}, "nobody else gets it"
    told = screen(fleet.store, fleet.clock())
    assert not told.well
    assert any("halted" in line for line in told.lines())


@pytest.mark.parametrize(
    ("after", "halted"),
    [
        ({"GRANTED": 180, "DENIED_VOICE": 20}, ""),
        ({"GRANTED": 120, "DENIED_VOICE": 80}, "refusals rose to 40% instead of 10%"),
        ({"GRANTED": 180, "DENIED_SPOOF": 20}, "attacks rose to 10% instead of 0%"),
        ({"GRANTED": 200}, "refusals fell to 0% instead of 10%"),
        ({"GRANTED": 3, "DENIED_VOICE": 3}, ""),
    ],
)
def test_refusals_or_attacks_that_changed_at_the_same_doors_halt_it(
    fleet: Fleet, after: dict[str, int], halted: str
) -> None:
    fleet.attempts(UNITS[3], {"GRANTED": 360, "DENIED_VOICE": 40}, START_MS - 2 * DAY_MS)
    fleet.attempts(UNITS[5], {"DENIED_VOICE": 500}, START_MS - 2 * DAY_MS)  # another door's past is not asked
    fleet.start(attempts=20)
    fleet.given()
    fleet.report({UNITS[3]})
    fleet.clock.now_ms += 10_000
    fleet.attempts(UNITS[3], after, fleet.clock() - 5_000)
    found = fleet.newest()
    assert found["state"] == ("halted" if halted else "running")
    assert found["why"].startswith(halted)


def test_too_few_attempts_keep_a_stage_waiting(fleet: Fleet) -> None:
    fleet.start(attempts=20)
    fleet.given()
    fleet.report({UNITS[3]})
    fleet.clock.now_ms += 61_000
    found = fleet.newest()
    assert (found["stage"], found["why"]) == ("canary", "0 of 20 attempts seen with them")


def test_one_at_a_time_with_a_canary_and_rising_stages(fleet: Fleet) -> None:
    now = fleet.clock()
    for percents in ((), (10, 5, 100), (10, 50), (0, 100)):
        with pytest.raises(SyncError, match="rising per cents"):
            rollout.start(fleet.store, "all", NEW, "tag:canary", percents, 1, 1, "desk", now)
    with pytest.raises(SyncError, match="no unit is in tag:nobody"):
        rollout.start(fleet.store, "all", NEW, "tag:nobody", (100,), 1, 1, "desk", now)
    fleet.start()
    with pytest.raises(SyncError, match="has not ended"):
        fleet.start()
    assert rollout.stop(fleet.store, "desk", now)
    assert fleet.given() == {UNITS[3]}, "who has them keeps them"
