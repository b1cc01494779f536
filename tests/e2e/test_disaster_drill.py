"""`scripts/disaster-drill` in little: three units, SQLite, everything of the drill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.disaster_drill import Drill, drill_of, every_day, recover

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    with drill_of(None, tmp_path_factory.mktemp("drill")) as made:
        every_day(made, 0)
        yield made


def test_a_registry_put_back_from_yesterdays_backup_gets_back_what_units_hold(drill: Drill) -> None:
    found = recover(drill, backup=True)
    assert [what for what, held in found.items() if not held] == []


def test_a_new_registry_knows_every_unit_again_and_what_they_hold(drill: Drill) -> None:
    found = recover(drill, backup=False)
    assert [what for what, held in found.items() if not held] == []
