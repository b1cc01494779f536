"""Everything at once, in little: what may break breaks while units write, and hostile units write as well.

Afterwards every event is stored once, every worker is at work, the alarms that should be there are, and no
honest unit is accused. `scripts/chaos` is the long form: a hundred units, ten minutes on each database.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from sync.events import unit_id
from sync.proofs.verify import verify
from sync.registry.clock import TOLERANCE_MS
from sync.registry.database.store import Store
from sync.registry.reports import export, status
from sync.registry.reports.status import SILENT_AFTER_MS
from sync.service.command_line import wall_ms
from tests.e2e.chaos_database import Database, OnPostgres, OnSqlite
from tests.e2e.chaos_world import (
    FIRST_WITHOUT_PART,
    HIGH_RISK,
    JUMPING,
    LOW_RISK,
    NOW,
    RAN_OUT,
    UNITS,
    WITHIN_S,
    WORKERS,
    World,
)
from tests.sync import fuzz

ROUNDS = int(os.environ.get("OSTIARY_CHAOS_ROUNDS", "1"))
DISK_MB = int(os.environ.get("OSTIARY_CHAOS_DISK_MB", "400"))
HOSTILE_AT_REST = int(os.environ.get("OSTIARY_CHAOS_HOSTILE", "60"))
"""How many hostile messages come when nothing is broken: of those every single one is accounted for."""
HOUR_S = 3600
ACCUSATIONS = {"FORK", "REWRITE", "GAP", "BAD_SIGNATURE", "REPLAY", "COUNTER_ROLLBACK", "BOOT_ROLLBACK"}
CLOCKS = {"CLOCK_AHEAD", "CLOCK_WRONG", "CERTIFICATE_ENDS"}

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(ROUNDS * 1200 + 900)]


@dataclass(slots=True)
class Row:
    """What one kind of strike did, over all its times."""

    times: int = 0
    events: int = 0
    hostile: int = 0
    refused: int = 0
    longest_s: float = 0.0
    whole_s: float = 0.0
    """From the blow on; units were heard of in between or not."""


class Strikes:
    """Each takes something away, lets units write, and gives it back."""

    def __init__(self, world: World) -> None:
        self.world, self.database = world, world.database
        disk = self.database.own_disk
        self.all: dict[str, Callable[[], None]] = {
            "database down": self.database_down,
            "a clock jumps": self.clock_jumps,
            "the registry's clock jumps": self.registrys_clock_jumps,
            "a worker killed": self.worker_killed,
            **({"database read-only": self.database_read_only} if disk else {}),
            **({"registry's disk full": self.registry_disk_full} if disk else {}),
            **({"units' disk full": self.unit_disk_full} if world.unit_disk else {}),
            "broker down": self.broker_down,
            "all killed, started in another month": self.all_killed,
            "a unit's certificate ran out": self.unit_certificate,
            "a worker's certificate ran out": self.worker_certificate,
            "database, broker, worker, disk at once": self.at_once,
        }
        self.in_need: set[str] = set()
        self.bursts: set[str] = set()

    def under(self) -> None:
        """While something is broken: somebody says the duress word, somebody attacks a door."""
        world = self.world
        number = FIRST_WITHOUT_PART + len(self.in_need) % (UNITS - FIRST_WITHOUT_PART)
        world.record(number, kind="DURESS", reason="duress_word")
        self.in_need.add(world.agents[number].log.unit)
        if len(self.bursts) < 3:
            for _ in range(5):
                world.record(
                    UNITS - 1 - len(self.bursts), kind="DENIED_SPOOF", reason="not_live", door="icu-2"
                )
            self.bursts.add(world.agents[UNITS - 1 - len(self.bursts)].log.unit)
        world.rests()

    def database_down(self) -> None:
        self.database.down()
        self.under()
        self.database.up()

    def database_read_only(self) -> None:
        if self.database.stops_workers:
            self.world.kill()
        self.database.read_only()
        self.world.start()
        self.under()
        self.database.writable()

    def registry_disk_full(self) -> None:
        self.database.fill()
        self.under()
        self.database.make_room()

    def unit_disk_full(self) -> None:
        assert self.world.unit_disk is not None
        self.world.unit_disk.fill()
        self.nothing_is_taken()
        self.under()
        self.world.unit_disk.make_room()
        assert self.world.record(HIGH_RISK)
        assert self.world.record(LOW_RISK)

    def nothing_is_taken(self) -> None:
        """By the logs on the full disk: the one door stays locked, the other counts."""
        assert not self.world.record(HIGH_RISK)
        assert not self.world.record(LOW_RISK)

    def broker_down(self) -> None:
        self.world.broker.kill()
        self.under()
        self.world.broker.start()

    def worker_killed(self) -> None:
        self.world.kill(f"worker-{self.world.dice.choice(WORKERS)}")
        self.under()
        self.world.start()

    def all_killed(self) -> None:
        """And they come up with a wrong clock; only ahead, for behind no certificate holds yet."""
        self.world.kill()
        self.under()
        self.world.registrys_clock.set_off(30 * 24 * HOUR_S)
        self.world.start()
        self.under()
        self.world.registrys_clock.set_off(0)

    def clock_jumps(self) -> None:
        self.world.jump_ms += self.world.dice.choice((3_600_000, -7_200_000))
        self.under()

    def registrys_clock_jumps(self) -> None:
        """Of workers and detector, while they run: on, back, and right again."""
        for off_s in (HOUR_S, -2 * HOUR_S, 0):
            self.world.registrys_clock.set_off(off_s)
            self.under()

    def unit_certificate(self) -> None:
        """It is refused at its next connection, writes on, and is renewed."""
        world, number = self.world, FIRST_WITHOUT_PART
        agent = world.agents[number]
        world.takes_certificate(number, RAN_OUT)
        world.broker.kill()
        world.broker.start()
        failures = agent.link.failures
        assert world.lives(lambda: not agent.link.connected and agent.link.failures > failures, WITHIN_S)
        self.under()
        assert not agent.link.connected, "the broker takes nobody whose certificate ran out"
        world.takes_certificate(number, NOW)

    def worker_certificate(self) -> None:
        world = self.world
        world.kill("worker-2")
        world.authority.issue("worker-2", RAN_OUT)
        world.start()
        self.under()
        world.kill("worker-2")
        world.authority.issue("worker-2", NOW)
        world.start()

    def at_once(self) -> None:
        world = self.world
        world.broker.kill()
        self.database.down()
        world.kill("worker-1", "watch")
        if world.unit_disk is not None:
            world.unit_disk.fill()
            self.nothing_is_taken()
        self.under()
        world.broker.start()
        world.start()
        self.under()
        if world.unit_disk is not None:
            world.unit_disk.make_room()
        self.database.up()


@pytest.fixture(params=[OnPostgres, OnSqlite])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    made: Database = request.param(DISK_MB)
    yield made
    made.close()


def test_whatever_breaks_every_event_is_stored_once_and_no_honest_unit_is_accused(
    tmp_path: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, database)
    try:
        assert world.lives(world.connected, WITHIN_S, writes=False)
        assert world.lives(lambda: all(map(world.messages_of, WORKERS)), WITHIN_S), "both workers began"
        assert world.lives(world.acknowledged, WITHIN_S, writes=False), world.waiting()
        strikes, table = Strikes(world), dict[str, Row]()
        for _ in range(ROUNDS):
            for name, strike in strikes.all.items():
                struck(world, name, strike, table.setdefault(name, Row()))
        at_rest = nothing_broken(world)
        with capsys.disabled():
            show(world, table, at_rest)
        assert at_rest.least <= at_rest.refused <= at_rest.most
        judge(world, strikes, max(row.whole_s for row in table.values()))
    finally:
        world.close()


def struck(world: World, name: str, strike: Callable[[], None], row: Row) -> None:
    """One strike, and then life as usual until everything that was written has its receipt."""
    written, hostile, refused = world.written, world.sent_hostile, world.refused().total()
    struck_at = time.monotonic()
    strike()
    began = time.monotonic()
    world.rests()
    assert world.lives(world.acknowledged, WITHIN_S, writes=False), (name, world.waiting())
    row.whole_s = max(row.whole_s, time.monotonic() - struck_at)
    row.times += 1
    row.events += world.written - written
    row.hostile += world.sent_hostile - hostile
    row.refused += world.refused().total() - refused
    row.longest_s = max(row.longest_s, time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class AtRest:
    """Hostile messages while nothing is broken: how many were sent and how often any was refused.

    `least`, `most`: how often that must be and can be, health by every worker and all else by one.
    """

    sent: int
    refused: int
    least: int
    most: int


def nothing_broken(world: World) -> AtRest:
    """Every worker is at work; then nothing but hostile messages comes."""
    assert world.lives(world.connected, WITHIN_S, writes=False)
    before = {number: world.messages_of(number) for number in WORKERS}
    awake = lambda: all(world.messages_of(number) > old for number, old in before.items())  # noqa: E731
    assert world.lives(awake, WITHIN_S), "both workers are at work"
    assert world.lives(world.acknowledged, WITHIN_S, writes=False)
    settled = lambda: world.lives(lambda: False, 3.0, writes=False)  # noqa: E731
    settled()
    started = world.refused().total()
    bounds = [world.attack() for _ in range(HOSTILE_AT_REST)]
    least, most = (sum(bound[side] for bound in bounds) for side in (0, 1))
    told = lambda: world.refused().total() - started  # noqa: E731
    world.lives(lambda: told() >= least, WITHIN_S, writes=False)
    settled()
    return AtRest(HOSTILE_AT_REST, told(), least, most)


def judge(world: World, strikes: Strikes, longest_s: float) -> None:
    store = Store.open(world.database.url, create=False)
    stored = world.stored(store)
    for agent in world.agents:
        assert stored[agent.log.unit] == list(range(1, agent.log.status().sequence + 1))
        data = export.bundle(store, agent.log.unit).to_bytes()
        key = world.signers[unit_id(agent.log.unit)].public_key()
        assert verify(data, key, unit=agent.log.unit).findings == []
    must = {("SOMEBODY_IN_NEED", unit) for unit in strikes.in_need}
    must |= {("SPOOF_BURST", unit) for unit in strikes.bursts}
    must |= {("CLOCK_JUMP", world.agents[JUMPING].log.unit), ("WORKER_CLOCK", None)}
    if world.unit_disk is not None:
        must.add(("UNIT_IN_TROUBLE", world.agents[LOW_RISK].log.unit))
    told = lambda: {(alarm["kind"], alarm["unit"]) for alarm in status.open_alarms(store)}  # noqa: E731
    assert world.lives(lambda: must <= told(), WITHIN_S, writes=False), must - told()
    accused = {(kind, unit) for kind, unit in told() if kind in ACCUSATIONS and unit != fuzz.NAME}
    assert accused == set()
    jumped = {unit for kind, unit in told() if kind == "CLOCK_JUMP" and unit != fuzz.NAME}
    assert jumped == {world.agents[JUMPING].log.unit}
    # The registry's own clock was wrong, not theirs; and nobody is silent who could be heard.
    wrong = CLOCKS | ({"UNIT_SILENT", "SITE_SILENT"} if longest_s * 1000 < SILENT_AFTER_MS else set())
    others = {(kind, unit) for kind, unit in told() if kind in wrong and unit != fuzz.NAME}
    assert {unit for _, unit in others} <= {world.agents[JUMPING].log.unit}, others
    first, last = world.stored_between(store)
    assert world.began_ms - TOLERANCE_MS <= first <= last <= wall_ms() + TOLERANCE_MS
    store.close()
    for reason, unit in world.refused():
        assert unit in ("", fuzz.NAME), f"{unit} is honest"
        assert reason != "unhandled", "each was refused for what it is"


def show(world: World, table: dict[str, Row], at_rest: AtRest) -> None:
    make = world.database.url.partition(":")[0]
    shown = Table(
        title=f"{UNITS} units on {make}: {world.written} events, {world.not_taken} not taken by a full log"
    )
    for name in ("strike", "times", "events", "hostile sent", "refused", "longest until all receipts, s"):
        shown.add_column(name, justify="left" if name == "strike" else "right")
    for name, row in table.items():
        shown.add_row(
            name, *map(str, (row.times, row.events, row.hostile, row.refused)), f"{row.longest_s:.1f}"
        )
    told = f"{at_rest.refused} of {at_rest.least} to {at_rest.most}"
    shown.add_row("nothing: hostile messages alone", "1", "0", str(at_rest.sent), told, "")
    Console(width=120).print("", shown, dict(world.refused()))
