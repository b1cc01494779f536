"""Two workers that keep documents: what one read before a change is not signed after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.registry.database.fleet_tables import changes, documents
from sync.registry.fleet.issuer import DocumentIssuer
from tests.device.unit.fleet_world import Hospital, rules
from tests.sync.between import Other
from tests.sync.services import postgres

pytestmark = pytest.mark.e2e
FIRST, LAST = "st-mary/desk", "st-mary/ward"


def test_on_postgresql_the_last_document_of_a_unit_is_what_it_should_be(tmp_path: Path) -> None:
    with postgres() as cluster:
        hospital = Hospital(tmp_path / "hospital", cluster.url)
        try:
            for name in (FIRST, LAST):
                hospital.unit(name)
            hospital.want_rules("all", rules(3), 3)
            hospital.settle()

            def change() -> None:
                hospital.want(f"unit:{LAST}", software="1.2.3")
                hospital.issuer.round()

            other = Other(hospital.registry, change)
            left, asked = [other.begin], list[str]()

            def looked(*told: Any) -> None:
                asked.append(told[2])
                # It has read what the units should have, and looks at what they have.
                begun = any("DELETE" in one and changes.name in one for one in asked)
                if left and begun and f"FROM {documents.name}" in told[2]:
                    left.pop()()

            sa.event.listen(hospital.registry.engine, "before_cursor_execute", looked)
            DocumentIssuer(hospital.registry, hospital.key, hospital.clock.ms).round()
            sa.event.remove(hospital.registry.engine, "before_cursor_execute", looked)
            assert other.end() == []
            before = counters(hospital)
            DocumentIssuer(hospital.registry, hospital.key, hospital.clock.ms).round()  # looks at everything
            assert counters(hospital) == before
        finally:
            hospital.close()


def counters(hospital: Hospital) -> dict[str, int]:
    with hospital.registry.reading() as db:
        return {row.unit: row.counter for row in db.execute(sa.select(documents))}
