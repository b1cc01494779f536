"""The registry's own clock is wrong: what it says of units, and what it deletes, does not hang on that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.events import UnitId
from sync.registry.clock import ALONE_S, BelievedClock
from sync.registry.database.membership import Looked
from sync.registry.database.schema import events, units
from sync.registry.ingest.ingest import Ingest
from sync.registry.reports import status
from sync.registry.watch.anomalies import Detector
from sync.registry.watch.rules import load_rules
from sync.registry.watch.upkeep import Upkeep, doubt, listen
from sync.transport.health import signed_health, write_health
from tests.sync.parts import START_MS, event
from tests.sync.registry.ingest.test_ingest import REGISTRY, Registry, Unit

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


class Machine:
    """Its wall clock is what somebody set; its running time only goes on."""

    def __init__(self) -> None:
        self.true_ms, self.off_ms = START_MS, 0

    def wall_ms(self) -> int:
        return self.true_ms + self.off_ms

    def running_s(self) -> float:
        return (self.true_ms - START_MS) / 1000 + 5_000.0

    def passes(self, seconds: float) -> None:
        self.true_ms += round(seconds * 1000)

    def clock(self, newest_ms: int = 0) -> BelievedClock:
        return BelievedClock(self.wall_ms, self.running_s, newest_ms=newest_ms)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -2 * HOUR_MS, YEAR_MS, -YEAR_MS])
def test_time_goes_on_when_the_machines_clock_jumps_and_the_units_do_not(
    machine: Machine, jump_ms: int
) -> None:
    clock = machine.clock()
    clock.heard("a", machine.true_ms)
    machine.off_ms = jump_ms
    for _ in range(50):
        machine.passes(20)
        clock.heard("a", machine.true_ms - 3000)
        assert abs(clock.now_ms() - machine.true_ms) <= 1
    assert clock.off_ms == jump_ms
    machine.off_ms = 0
    assert (clock.now_ms(), clock.off_ms) == (machine.true_ms, 0)


def test_a_clock_that_is_set_right_is_followed_once_units_bear_it_out(machine: Machine) -> None:
    machine.off_ms = -YEAR_MS  # an empty battery, and no time server yet
    clock = machine.clock()
    machine.passes(5)
    machine.off_ms = 0
    assert clock.now_ms() == machine.true_ms - YEAR_MS, "nobody has said anything"
    clock.heard("a", machine.true_ms)
    assert clock.now_ms() == machine.true_ms


def test_a_jump_that_nobody_says_anything_about_is_followed_after_an_hour(machine: Machine) -> None:
    clock = machine.clock()
    machine.off_ms = 3 * HOUR_MS
    assert clock.off_ms == 3 * HOUR_MS
    machine.passes(ALONE_S - 1)
    assert clock.off_ms == 3 * HOUR_MS
    machine.passes(2)
    assert clock.off_ms == 0


def test_no_unit_alone_sets_the_registrys_clock(machine: Machine) -> None:
    clock = machine.clock(newest_ms=machine.true_ms - 1000)
    for ahead_ms in (-YEAR_MS, YEAR_MS, 3 * HOUR_MS):
        clock.heard("liar", machine.true_ms + ahead_ms)
        assert clock.now_ms() == machine.true_ms
    for name in ("b", "c"):
        clock.heard(name, machine.true_ms)
    machine.passes(30)
    assert clock.now_ms() == machine.true_ms


@pytest.mark.parametrize("off_ms", [YEAR_MS, -YEAR_MS])
def test_a_registry_that_starts_with_a_wrong_clock_goes_by_its_units(machine: Machine, off_ms: int) -> None:
    machine.off_ms = off_ms
    clock = machine.clock(newest_ms=machine.true_ms - 5000)
    clock.heard("a", machine.true_ms)
    assert clock.now_ms() == machine.true_ms
    assert clock.off_ms == off_ms


def test_voices_that_were_late_at_the_start_do_not_keep_the_clock_back(machine: Machine) -> None:
    """What units had signed before they could send it is minutes old when a worker comes up."""
    machine.off_ms = 30 * 24 * HOUR_MS
    clock = machine.clock(newest_ms=machine.true_ms - 150_000)
    for name in ("a", "b"):
        clock.heard(name, machine.true_ms - 140_000)
    assert clock.now_ms() == machine.true_ms - 140_000
    machine.passes(5)
    for name in ("a", "b", "c"):
        clock.heard(name, machine.true_ms)
    assert clock.now_ms() == machine.true_ms
    clock.heard("a", machine.true_ms + HOUR_MS)
    assert clock.now_ms() == machine.true_ms


def test_a_registry_that_was_off_for_days_believes_its_clock(machine: Machine) -> None:
    clock = machine.clock(newest_ms=machine.true_ms - 48 * HOUR_MS)
    assert (clock.now_ms(), clock.proved) == (machine.true_ms, False)
    clock.heard("a", machine.true_ms)
    assert clock.now_ms() == machine.true_ms
    clock.heard("b", machine.true_ms)
    assert (clock.now_ms(), clock.proved) == (machine.true_ms, True)


def test_what_a_time_server_corrects_every_day_is_followed_at_once(machine: Machine) -> None:
    clock = machine.clock(newest_ms=machine.true_ms)
    for _ in range(20):
        machine.passes(60)
        machine.off_ms += 900
        assert clock.off_ms == 0


class Site:
    """A registry with units whose clocks are right, on a machine whose clock need not be."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.machine, self.registry = machine, Registry(f"sqlite:///{folder}/registry.db")
        self.registry.clock.now_ms = machine.true_ms
        self.units = [self.registry.register(Unit(f"site/unit-{n}")) for n in range(5)]
        self.counter = 0
        self.starts()

    def starts(self) -> None:
        store = self.registry.store
        self.clock = self.machine.clock(store.newest_ms())
        self.worker = Ingest(store, REGISTRY, self.clock.now_ms, clock=self.clock)

    def lives(self) -> None:
        """Ten seconds: every unit says how it is, and sends an event."""
        self.machine.passes(10)
        self.counter += 1
        now_ms = self.machine.true_ms
        told = {"counter": self.counter, "time_ms": now_ms, "pending": 0}
        healths = [
            (unit.unit, signed_health(unit.unit, write_health("online", told, {}), unit.signer))
            for unit in self.units
        ]
        assert not self.worker.health(healths)
        self.registry.take(*(self.events(unit) for unit in self.units), worker=self.worker)

    def events(self, unit: Unit, count: int = 1, **changes: Any) -> Any:
        now_ms = self.machine.true_ms
        fields = {"time_ms": now_ms, "monotonic_ms": now_ms - START_MS, "person": None, **changes}
        first = len(unit.bodies) + 1
        return unit.batch([event(number, **fields) for number in range(first, first + count)])

    def received(self) -> list[int]:
        with self.registry.store.reading() as db:
            return list(db.execute(sa.select(events.c.received_ms).order_by(events.c.received_ms)).scalars())


@pytest.fixture
def site(tmp_path: Path, machine: Machine) -> Site:
    return Site(tmp_path, machine)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("jump_ms", [HOUR_MS, -2 * HOUR_MS, YEAR_MS, -YEAR_MS])
def test_a_registry_whose_clock_jumps_accuses_no_unit_and_stores_at_the_right_time(
    site: Site, jump_ms: int, restarts: bool
) -> None:
    site.lives()
    began = site.machine.true_ms
    first = site.events(site.units[0])
    site.registry.take(first, worker=site.worker)
    for unit in site.units:
        unit.oldest = len(unit.bodies) + 1  # they have their receipts
    site.lives()
    site.machine.off_ms = jump_ms
    if restarts:
        site.starts()
    site.lives()
    site.registry.take(first, worker=site.worker)  # it lay at the broker all the while
    site.lives()
    assert set(site.registry.alarms()) == {"WORKER_CLOCK"}
    assert site.registry.alarms()["WORKER_CLOCK"]["evidence"] == {"off_ms": jump_ms}
    assert began - 10_000 <= site.received()[0] <= site.received()[-1] <= site.machine.true_ms


def test_a_detector_whose_clock_was_ahead_sees_what_comes_afterwards(site: Site) -> None:
    site.lives()
    detector = Detector(site.registry.store, load_rules())
    detector.step(site.machine.true_ms)
    detector.step(site.machine.true_ms + YEAR_MS, units=False)
    site.machine.passes(60)
    door = {"kind": "DENIED_SPOOF", "reason": "not_live", "door": "pharmacy"}
    site.registry.take(site.events(site.units[1], 5, **door), worker=site.worker)
    site.machine.passes(10)
    detector.step(site.machine.true_ms)
    assert "SPOOF_BURST" in site.registry.alarms()


def test_a_clock_ten_years_ahead_deletes_nothing_and_somebody_is_told(site: Site) -> None:
    site.lives()
    store = site.registry.store
    upkeep = Upkeep(store, REGISTRY, keep_months=36, keep_alarms=30)
    wrong_ms = site.machine.true_ms + 10 * YEAR_MS
    for _ in range(2):
        upkeep.step(store.told_times(), wrong_ms)
    assert len(site.received()) == len(site.units)
    refused = site.registry.alarms()["RETENTION_REFUSED"]
    assert (refused["times"], "is it right?" in refused["evidence"]["why"]) == (1, True)
    # Ten years on, units know of it too, and what is old goes.
    site.machine.passes(10 * YEAR_MS / 1000)
    site.starts()
    site.lives()
    upkeep.step(store.told_times(), site.machine.true_ms)
    assert len(site.received()) == len(site.units)


def test_one_unit_with_a_wrong_clock_lets_nothing_be_deleted() -> None:
    told = {UnitId(f"site/unit-{n}"): START_MS for n in range(3)}
    late_ms = START_MS + YEAR_MS
    assert doubt(told, START_MS + 24 * HOUR_MS) == ""
    assert doubt({**told, UnitId("site/liar"): late_ms}, late_ms)
    assert doubt({**told, UnitId("site/liar"): late_ms, UnitId("site/other"): late_ms}, late_ms) == ""
    assert doubt({UnitId("site/only"): START_MS}, START_MS) == "", "it has no other to bear it out"


def test_the_watch_hears_what_units_have_signed_since_it_looked_last(site: Site) -> None:
    site.lives()
    site.machine.off_ms = HOUR_MS
    clock = site.machine.clock()
    told = listen(site.registry.store, clock, None)
    assert clock.off_ms == 0, "what was signed at any time before says nothing of now"
    site.lives()
    listen(site.registry.store, clock, told)
    assert clock.off_ms == HOUR_MS


def test_a_stamp_of_days_to_come_keeps_no_dead_unit_online(site: Site) -> None:
    """As a registry of before may hold: one of its workers had another year."""
    site.lives()
    store = site.registry.store
    with store.transaction() as db:
        db.execute(sa.update(units).values(seen_ms=site.machine.true_ms + YEAR_MS))
    site.machine.passes(60)
    assert {unit.state for unit in status.unit_statuses(store, site.machine.true_ms)} == {"online"}
    site.machine.passes(600)
    assert {unit.state for unit in status.unit_statuses(store, site.machine.true_ms)} == {"silent"}


def test_a_look_after_revocations_that_lies_in_the_future_is_none(site: Site) -> None:
    store, now_ms = site.registry.store, site.machine.true_ms
    detector = Detector(store, load_rules())
    for ahead_ms in (60_000, YEAR_MS, YEAR_MS + 60_000):
        with store.transaction() as db:
            Looked(now_ms + ahead_ms, now_ms + 30 * 24 * HOUR_MS, 0, "").write(db)
        detector.step(now_ms)
        assert ("REVOCATION_UNWATCHED" in site.registry.alarms()) == (ahead_ms > HOUR_MS)
    assert len(status.open_alarms(store)) == 1, "however often it is written down"
