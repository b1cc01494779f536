"""The quick form of scripts/bad-world: every scenario that takes seconds, with real processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bad_world import clocks_and_disks, disks, machine, networks, odd_clocks, sounds_and_badges
from tests.bad_world.world import Ended, NotCheckedError, World
from tests.e2e.sound_server import SoundServer, require_sound
from tests.speech import Reading

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

SCENARIOS = (
    *clocks_and_disks.SCENARIOS,
    *odd_clocks.SCENARIOS,
    *disks.SCENARIOS,
    *sounds_and_badges.SCENARIOS,
    *machine.SCENARIOS,
    *networks.SCENARIOS,
)


@pytest.fixture(scope="module")
def world(reader: list[Reading]) -> Iterator[World]:
    require_sound()
    # Not pytest's own folder, which no other user may enter: one scenario runs as another user.
    with tempfile.TemporaryDirectory(prefix="ostiary-world-") as folder, SoundServer() as sound:
        yield World.made(Path(folder), sound, reader)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.__name__))
def test_the_unit_ends_in_its_defined_state(world: World, scenario: Callable[[World], Ended]) -> None:
    try:
        ended = scenario(world)
    except NotCheckedError as err:
        pytest.skip(f"NOT CHECKED: {err}")
    assert all(ended)
