"""`scripts/fleet-100` in little: real broker, claim service and worker, three units."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.fleet_100 import Fleet, converge, fleet_of, forgotten, revoked

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_of(3, None, tmp_path_factory.mktemp("fleet")) as made:
        yield made


def test_every_unit_comes_to_what_is_wanted_and_forgets_whom_it_is_told_to(fleet: Fleet) -> None:
    assert len(converge(fleet)) == 3
    assert len(forgotten(fleet)) == 3


def test_units_that_are_revoked_are_off_the_broker_singly_and_together(fleet: Fleet) -> None:
    assert len(revoked(fleet, 1)) == 3
    assert not any(member.agent.link.connected for member in fleet.members.values())
