"""Every unit's document is worked out when something changed, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from sync.fleet.provisioning import recovery
from sync.keys import FileSigner
from sync.registry.database.fleet_changes import WATCHED
from sync.registry.database.fleet_tables import changes, documents, parts
from sync.registry.database.schema import metadata
from sync.registry.fleet import people, wanted
from sync.registry.fleet.issuer import RENEW_MS, DocumentIssuer
from tests.device.unit.fleet_world import Hospital, rules

DESK, WARD = "st-mary/desk", "st-mary/ward"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path / "hospital")
    made.want(f"unit:{DESK}", enrols=True)
    for name in (DESK, WARD):
        made.unit(name)
    made.want_rules("all", rules(3), 3)
    made.doors("ANNA", "all")
    made.units[DESK].enrol("ANNA", 1)
    made.settle()
    for _ in range(3):  # what it wrote itself is looked at once more
        made.issuer.published(made.issuer.round())
    yield made
    made.close()


@contextmanager
def working(hospital: Hospital) -> Iterator[list[bool]]:
    """Whether a round inside reads everybody."""
    seen: list[bool] = []

    def look(*told: object) -> None:
        seen.append("FROM fleet_enrolments" in str(told[2]))

    engine = hospital.registry.engine
    sa.event.listen(engine, "before_cursor_execute", look)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", look)


def works(hospital: Hospital, keeper: DocumentIssuer | None = None) -> bool:
    one = keeper or hospital.issuer
    with working(hospital) as seen:
        one.published(one.round())
    return any(seen)


def quiet(hospital: Hospital) -> None:
    while works(hospital):
        pass


def test_every_table_that_documents_are_made_of_is_watched() -> None:
    made_by_it = {documents, parts, changes}
    fleet = {table for table in metadata.tables.values() if table.name.startswith("fleet_")}
    assert fleet == WATCHED | made_by_it


def test_nothing_is_worked_out_while_nothing_changes(hospital: Hospital) -> None:
    for _ in range(3):
        hospital.clock.passes(1.0)
        assert not works(hospital)
    hospital.report(hospital.units[WARD])
    assert not works(hospital), "a health message that says nothing new is no cause"


def test_whatever_a_document_is_made_of_is_a_cause(hospital: Hospital) -> None:
    store, now_ms = hospital.registry, hospital.clock.ms()
    for change in (
        lambda: wanted.want(store, "all", "software", "1.2.3", "desk", now_ms),
        lambda: wanted.set_tags(store, hospital.units[WARD].name, frozenset({"zone:icu"})),
        lambda: people.allow(store, "ANNA", frozenset({f"unit:{WARD}"}), "desk", now_ms),
        lambda: people.forget(store, "ANNA", "desk", now_ms),
        lambda: store.revoke(hospital.units[WARD].name, now_ms),
    ):
        change()
        assert works(hospital)
        quiet(hospital)


class TroubledSigner:
    """Signs, but not while it is broken."""

    def __init__(self, signer: FileSigner) -> None:
        self._signer = signer
        self.broken = False

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._signer.public_key()

    def sign(self, message: bytes) -> bytes:
        if self.broken:
            raise RuntimeError("the key does not answer")
        return self._signer.sign(message)


def test_a_change_that_failed_is_no_cause_and_one_that_a_failing_round_saw_is_one_still(
    hospital: Hospital,
) -> None:
    with pytest.raises(RuntimeError):
        broken_off(hospital)
    assert not works(hospital)
    wanted.want(hospital.registry, "all", "software", "1.2.3", "desk", hospital.clock.ms())
    signer = TroubledSigner(hospital.key)
    issuer = DocumentIssuer(hospital.registry, signer, hospital.clock.ms)
    while works(hospital, issuer):
        pass
    wanted.want(hospital.registry, "all", "software", "1.2.4", "desk", hospital.clock.ms())
    signer.broken = True
    with pytest.raises(RuntimeError):
        issuer.round()
    signer.broken = False
    assert works(hospital, issuer)


def test_a_second_issuer_works_everything_out_once_and_takes_no_change_away(hospital: Hospital) -> None:
    second = DocumentIssuer(hospital.registry, hospital.key, hospital.clock.ms)
    assert works(hospital, second), "it knows nothing yet"
    wanted.want(hospital.registry, "all", "software", "1.2.3", "desk", hospital.clock.ms())
    before = counters(hospital)
    assert works(hospital, second)
    assert all(number > before[unit] for unit, number in counters(hospital).items())
    quiet(hospital)


def test_time_alone_is_a_cause_when_a_consent_ends_and_a_document_is_due(hospital: Hospital) -> None:
    with hospital.registry.reading() as db:
        ends_ms = people.Fleet.read(db).people["ANNA"].until_ms
    before = counters(hospital)
    hospital.clock.passes(RENEW_MS / 1000 + 1)
    assert works(hospital)
    assert all(number > before[unit] for unit, number in counters(hospital).items())
    quiet(hospital)
    while hospital.clock.ms() + RENEW_MS < ends_ms:
        hospital.clock.passes(RENEW_MS / 1000 + 1)
        quiet(hospital)
    hospital.clock.passes((ends_ms - hospital.clock.ms()) / 1000 + 1)
    assert works(hospital)


def test_a_unit_that_has_applied_more_than_was_issued_is_a_cause(hospital: Hospital) -> None:
    with hospital.registry.transaction() as db:
        db.execute(sa.update(documents).values(counter=1))
    hospital.report(hospital.units[WARD])
    assert works(hospital)
    assert counters(hospital)[WARD] > hospital.units[WARD].standing()[0]


def broken_off(hospital: Hospital) -> None:
    with hospital.registry.transaction() as db:
        db.execute(sa.delete(wanted.wanted))
        raise RuntimeError


def counters(hospital: Hospital) -> dict[str, int]:
    with hospital.registry.reading() as db:
        return {row.unit: row.counter for row in db.execute(sa.select(documents))}


def test_the_beginning_and_the_end_of_a_recovery_are_causes(hospital: Hospital) -> None:
    hospital.want("all", recovering=True)
    assert works(hospital)
    quiet(hospital)
    units = [unit.name for unit in hospital.units.values()]
    recovery.end(hospital.registry, "desk", hospital.clock.now.wall, anyway=units)
    assert works(hospital)
