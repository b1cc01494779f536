"""The quick form of scripts/bad-world: every scenario that takes seconds, with real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.bad_world import clocks_and_disks, networks, sounds_and_badges
from tests.bad_world.world import Ended, NotCheckedError, World
from tests.e2e.sound_server import SoundServer, require_sound
from tests.speech import Reading

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

SCENARIOS = (*clocks_and_disks.SCENARIOS, *sounds_and_badges.SCENARIOS, *networks.SCENARIOS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, reader: list[Reading]) -> Iterator[World]:
    require_sound()
    with SoundServer() as sound:
        yield World.made(tmp_path_factory.mktemp("world"), sound, reader)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.__name__))
def test_the_unit_ends_in_its_defined_state(world: World, scenario: Callable[[World], Ended]) -> None:
    try:
        ended = scenario(world)
    except NotCheckedError as err:
        pytest.skip(f"NOT CHECKED: {err}")
    assert all(ended)
