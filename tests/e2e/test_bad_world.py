"""The quick form of scripts/bad-world: every scenario that takes seconds, with real processes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bad_world import clocks_and_disks, disks, machine, networks, odd_clocks, sounds_and_badges
from tests.bad_world.sounds_and_badges import answered
from tests.bad_world.world import PERSON, Door, Ended, NotCheckedError, World
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


class DoorThatAsksAgain(Door):
    """Says these things, one at each attempt."""

    def __init__(self, *says: str) -> None:
        self._says, self._now = iter(says), ""
        self.seen = []

    def badge(self, number: str = PERSON) -> None:
        self._now = next(self._says, "")

    def shows(self, pattern: str) -> str:
        found = [line for line in ("Please say: a b c", self._now) if re.search(pattern, line)]
        assert found, f"waits for ever after {self._now!r}"
        return found[0]


def test_an_answer_that_a_busy_machine_spoils_is_given_again_and_no_scenario_waits_for_ever(
    world: World,
) -> None:
    quiet = "DENIED_EXPIRED: nobody spoke"
    spoiled = ("DENIED_QUALITY: Part of that was lost on the way", quiet)
    judged = "DENIED_PHRASE: the words were not those on the display"
    assert answered(world, DoorThatAsksAgain(*spoiled, judged), world.sentence) == judged
    with pytest.raises(AssertionError, match="not heard in 5 tries"):
        answered(world, DoorThatAsksAgain(*[quiet] * 9), world.sentence)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.__name__))
def test_the_unit_ends_in_its_defined_state(world: World, scenario: Callable[[World], Ended]) -> None:
    try:
        ended = scenario(world)
    except NotCheckedError as err:
        pytest.skip(f"NOT CHECKED: {err}")
    assert all(ended)
