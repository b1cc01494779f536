"""A broker that is away is one alarm and not one for each unit; who is silent alone has an alarm alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sync.dashboard.incidents import incidents
from sync.dashboard.migrations import prepare
from sync.dashboard.schema import incidents as rows
from sync.registry.reports import status
from sync.registry.reports.status import SILENT_AFTER_MS, UnitState, UnitStatus
from sync.registry.watch.anomalies import Detector
from sync.registry.watch.rules import load_rules
from sync.registry.watch.silence import Outage, Silence
from tests.sync.registry.ingest.test_ingest import Registry, Unit

STEP_MS = 10_000
MINUTE_MS = 60_000


class World:
    """Units that report each minute, each at a moment of its own, while `heard` says so of them."""

    def __init__(self, sites: dict[str, int], least_units: int = 3) -> None:
        self.names = [f"{site}/unit-{n}" for site, count in sites.items() for n in range(count)]
        self.now_ms = 10**12
        self.last = {name: self.now_ms - number * 7_000 for number, name in enumerate(self.names)}
        self.silence = Silence(least_units)
        self.alone: set[str] = set()
        self.outages: set[Outage] = set()

    def passes(self, minutes: float, heard: Callable[[str], bool] = lambda _: True) -> None:
        for _ in range(int(minutes * MINUTE_MS / STEP_MS)):
            self.now_ms += STEP_MS
            for name, last in self.last.items():
                due = heard(name) and self.now_ms - last >= MINUTE_MS
                # Who comes back does so at once or at its own next report: both are in here.
                self.last[name] = self.now_ms if due else last
            alone, outages = self.silence.look([*map(self.status, self.names)], self.now_ms)
            self.alone |= {unit.unit for unit in alone}
            self.outages |= set(outages)

    def status(self, name: str) -> UnitStatus:
        state: UnitState = "silent" if self.now_ms - self.last[name] > SILENT_AFTER_MS else "online"
        return UnitStatus(
            name, name.partition("/")[0], state, 1, None, self.last[name], {"every_s": 60}, {}, None
        )


def test_a_broker_away_for_minutes_is_one_outage_that_counts_its_units_and_accuses_none() -> None:
    world = World({"north": 5})
    world.passes(5)
    assert (world.alone, world.outages) == (set(), set())
    last_ms = max(world.last.values())
    world.passes(8, heard=lambda _: False)
    assert world.outages == {Outage("north", 5, last_ms)}, "the same all the time"
    world.passes(10)
    assert world.alone == set()
    assert len(world.outages) == 1


def test_who_stays_silent_after_others_are_heard_again_has_an_alarm_of_its_own() -> None:
    world = World({"north": 5})
    world.passes(5)
    world.passes(8, heard=lambda _: False)
    world.passes(2, heard=lambda name: name != "north/unit-2")
    assert world.alone == set(), "not yet"
    world.passes(4, heard=lambda name: name != "north/unit-2")
    assert world.alone == {"north/unit-2"}


def test_one_site_of_several_is_named_and_all_of_them_together_are_one() -> None:
    world = World({"north": 3, "south": 4})
    world.passes(5)
    world.passes(8, heard=lambda name: name.startswith("south"))
    assert {(one.site, one.units) for one in world.outages} == {("north", 3)}
    world.passes(5)
    world.outages.clear()
    world.passes(8, heard=lambda _: False)
    assert {(one.site, one.units) for one in world.outages} == {(None, 7)}
    world.passes(10)
    assert world.alone == set()


def test_units_that_fall_silent_one_by_one_have_their_own_and_so_do_two_of_a_small_site() -> None:
    world = World({"north": 4, "cabin": 2})
    world.passes(5)
    world.passes(6, heard=lambda name: name != "north/unit-0")
    assert world.alone == {"north/unit-0"}
    world.passes(6, heard=lambda name: name.startswith("north"))
    assert world.alone == {"north/unit-0", "cabin/unit-0", "cabin/unit-1"}
    assert world.outages == set()


def test_the_registry_raises_it_once_and_its_incident_ends_when_somebody_is_heard(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.db")
    units = [registry.register(Unit(f"north/unit-{number}")).unit for number in range(4)]
    detector = Detector(registry.store, load_rules())
    store, clock = registry.store, registry.clock
    prepare(store)

    def report() -> None:
        store.save_health({unit: '{"state": "online", "every_s": 60}' for unit in units}, clock())

    def step() -> dict[str, tuple[object, object, object]]:
        detector.step(clock())
        incidents.gather(store, clock())
        opened = status.open_alarms(store)
        return {one["kind"]: (one["unit"], one["site"], one["evidence"]["units"]) for one in opened}

    report()
    step()
    clock.now_ms += 4 * MINUTE_MS
    assert step() == {"SITE_SILENT": (None, "north", 4)}
    clock.now_ms += STEP_MS
    assert step() == {"SITE_SILENT": (None, "north", 4)}
    with store.reading() as db:
        assert [(one.subject, one.resolved_ms) for one in db.execute(rows.select())] == [
            ("SITE_SILENT north ", None)
        ]
    report()
    step()
    with store.reading() as db:
        (one,) = db.execute(rows.select())
    assert one.resolved_ms == clock()
    store.close()
