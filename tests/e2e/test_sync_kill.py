"""kill -9 of anything between the door and the registry: nothing lost, nothing twice, order kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.sync_world import World, run, size
from tests.sync.services import postgres

EVENTS = size("OSTIARY_KILL_EVENTS", 1200)
KILLS = size("OSTIARY_KILLS", 20)
UNITS = size("OSTIARY_KILL_UNITS", 3)
LIMIT_S = size("OSTIARY_KILL_LIMIT_S", 900)

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 60)]


def judge(
    world: World, targets: list[str], capsys: pytest.CaptureFixture[str], name: str, **more: bool
) -> None:
    tally = run(world, kills=KILLS, targets=targets, seed=7, limit_s=LIMIT_S, every_s=0.8, **more)
    with capsys.disabled():
        print(f"\n{name}: {tally}")
    assert tally.events == world.total
    assert tally.promised <= tally.events
    assert (tally.lost, tally.twice, tally.out_of_order, tally.wrong_chain) == (0, 0, 0, 0)
    assert (tally.alarms, tally.findings) == ([], 0)


def test_killing_anything_with_sqlite_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, units=UNITS, workers=1, events_per_unit=EVENTS // UNITS, pause_s=0.01)
    judge(world, ["unit", "agent", "broker", "worker", "network"], capsys, "SQLite, one worker")


def test_killing_anything_with_postgresql_and_two_workers_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with postgres() as cluster:
        world = World(
            tmp_path, units=UNITS, workers=2, events_per_unit=EVENTS // UNITS, pause_s=0.01, database=cluster
        )
        targets = ["unit", "agent", "broker", "worker", "database", "network"]
        name = "PostgreSQL, two workers, one dies for good half-way"
        judge(world, targets, capsys, name, lose_a_worker=True)
