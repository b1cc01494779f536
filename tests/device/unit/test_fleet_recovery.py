"""A registry that was put back, or made anew: units say what they hold, and nobody is lost or comes back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device.uplink.letters.mail import SAY_AGAIN_S
from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.exchange import card
from sync.fleet.provisioning import recovery
from sync.orders.desired import Holding, Statement
from sync.proofs.bundle import key_to_der
from sync.registry.database.store import Store as Registry
from sync.registry.fleet.issuer import DocumentIssuer, FleetHandler
from sync.registry.fleet.people import Fleet
from sync.registry.fleet.wanted import TOLD, wishes
from sync.registry.ingest.ingest import Ingest
from tests.device.secure_store.people import same_voice, with_door
from tests.device.unit.fleet_world import START, Hospital, rules

DESK, WARD = unit_id("st-mary/desk"), unit_id("st-mary/ward")


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
    assert same_voice(made.units[WARD].holds()["ANNA"], with_door(1))
    yield made
    made.close()


def asked(hospital: Hospital) -> bool:
    """Whether any unit is asked what it holds."""
    with hospital.registry.reading() as db:
        return recovery.recovering(db)


def other_registry(hospital: Hospital, name: str) -> None:
    """The same site with another database behind it."""
    hospital.registry.close()
    hospital.registry = Registry.open(f"sqlite:///{hospital.folder}/{name}")
    hospital.issuer = DocumentIssuer(hospital.registry, hospital.key, hospital.clock.ms)
    hospital.desk = FleetHandler(hospital.registry, hospital.clock.ms)
    hospital.ingest = Ingest(hospital.registry, hospital.key, hospital.clock.ms)
    hospital.retained.clear()


def recognised(hospital: Hospital) -> None:
    """As the claim service does: by certificate and TPM."""
    for unit in hospital.units.values():
        key = key_to_der(unit.store.audit_signer.public_key())
        hospital.registry.register(unit.name, key, hospital.clock.ms())
        exchange = unit.store.keystore.exchange().public_key()
        hospital.admit(unit.name, card(hospital.authority, unit.name, exchange, START))


def known(hospital: Hospital) -> dict[str, tuple[str, int]]:
    with hospital.registry.reading() as db:
        fleet = Fleet.read(db)
    return {uid: (row.holder, row.number) for uid, row in fleet.people.items() if row.forgotten_ms is None}


def now_of(hospital: Hospital) -> datetime:
    return datetime.fromtimestamp(hospital.clock.ms() / 1000, UTC)


def documents(hospital: Hospital) -> dict[str, int]:
    return {name: unit.standing()[0] for name, unit in hospital.units.items()}


def test_a_new_registry_learns_everybody_from_the_units_and_nobody_is_erased_meanwhile(
    hospital: Hospital,
) -> None:
    before = documents(hospital)
    other_registry(hospital, "new.db")
    recognised(hospital)
    hospital.want("all", recovering=True)
    hospital.want(f"unit:{DESK}", enrols=True)
    hospital.settle(until=lambda: known(hospital) == {"ANNA": (DESK, 1)})
    hospital.settle()
    assert all(documents(hospital)[name] > number for name, number in before.items()), "they are heard"
    assert {name: sorted(unit.holds()) for name, unit in hospital.units.items()} == {
        DESK: ["ANNA"],
        WARD: ["ANNA"],
    }
    hospital.want("all", recovering=None)
    hospital.settle()
    for unit in hospital.units.values():
        assert same_voice(unit.holds()["ANNA"], with_door(1))
        assert unit.controller.rules.version == 3, "what it was told last stays in force"
    assert hospital.screen().well
    hospital.forget("ANNA")
    hospital.settle()
    assert all(unit.holds() == {} for unit in hospital.units.values())
    assert not hospital.screen().owing


def test_a_registry_of_yesterday_learns_what_came_since_and_brings_nobody_back(hospital: Hospital) -> None:
    with (
        closing(sqlite3.connect(hospital.folder / "registry.db")) as now,
        closing(sqlite3.connect(hospital.folder / "yesterday.db")) as then,
    ):
        now.backup(then)
    hospital.doors("BRUNO", "all")
    hospital.units[DESK].enrol("BRUNO", 2)
    hospital.settle()
    hospital.forget("ANNA")
    hospital.want_rules("all", rules(4), 4)
    hospital.settle()
    other_registry(hospital, "yesterday.db")
    hospital.want("all", recovering=True)
    hospital.settle(until=lambda: "BRUNO" in known(hospital))
    hospital.settle()
    hospital.want("all", recovering=None)
    hospital.settle()
    for unit in hospital.units.values():
        assert sorted(unit.holds()) == ["BRUNO"], "who was forgotten today stays forgotten"
    assert {line.unit for line in hospital.screen().behind} == {DESK, WARD}, "and that is shown"
    hospital.forget("ANNA")
    hospital.settle()
    assert hospital.screen().well
    assert all(unit.controller.rules.version == 3 for unit in hospital.units.values())


def test_a_recovery_does_not_end_while_a_unit_would_erase_somebody(hospital: Hospital) -> None:
    other_registry(hospital, "new.db")
    recognised(hospital)
    assert recovery.awaited(hospital.registry) == {}
    hospital.want("all", recovering=True)
    hospital.want(f"unit:{DESK}", enrols=True)
    now = datetime.fromtimestamp(hospital.clock.ms() / 1000, UTC)
    with pytest.raises(SyncError, match=f"{DESK} has not been heard since; {WARD} has not been heard since"):
        recovery.end(hospital.registry, "desk", now)
    # The ward speaks of somebody whom the unit that enrols has not yet brought back.
    hospital.offline.add(DESK)
    hospital.settle()
    with pytest.raises(
        SyncError, match=f"{WARD} holds 1 of the fleet's people, and not all of them are known here"
    ):
        recovery.end(hospital.registry, "desk", now)
    hospital.offline.clear()
    hospital.settle(until=lambda: known(hospital) == {"ANNA": (DESK, 1)})
    hospital.settle(until=lambda: len(recovery.awaited(hospital.registry)) == 1)
    hospital.clock.passes(SAY_AGAIN_S)
    hospital.settle(until=lambda: recovery.awaited(hospital.registry) == {})
    recovery.end(hospital.registry, "desk", now)
    hospital.settle()
    assert all(sorted(unit.holds()) == ["ANNA"] for unit in hospital.units.values())
    with hospital.registry.reading() as db:
        assert wishes(db).layers.get(TOLD) is None, "it is asked anew the next time"


def test_a_recovery_ends_without_one_unit_which_goes_on_being_asked_and_erases_nobody(
    hospital: Hospital,
) -> None:
    other_registry(hospital, "new.db")
    recognised(hospital)
    hospital.want("all", recovering=True)
    hospital.want(f"unit:{DESK}", enrols=True)
    hospital.offline.add(WARD)
    hospital.settle(until=lambda: known(hospital) == {"ANNA": (DESK, 1)})
    hospital.clock.passes(SAY_AGAIN_S)
    hospital.settle(until=lambda: set(recovery.awaited(hospital.registry)) == {WARD})
    with pytest.raises(SyncError, match="--without UNIT"):
        recovery.end(hospital.registry, "desk", now_of(hospital))
    assert recovery.end(hospital.registry, "desk", now_of(hospital), without=[WARD]) == (WARD,)
    assert asked(hospital), "of one unit"
    hospital.settle()
    # Back, with somebody whom only it has: it is asked, and nobody is erased there.
    ward = hospital.units[WARD]
    hospital.offline.clear()
    hospital.forget("ANNA")
    hospital.settle()
    assert sorted(ward.holds()) == ["ANNA"], "as long as it is asked its people stay"
    assert hospital.units[DESK].holds() == {}, "and at the others the registry's word counts"
    hospital.clock.passes(SAY_AGAIN_S)
    hospital.settle(until=lambda: recovery.awaited(hospital.registry) == {})
    recovery.end(hospital.registry, "desk", now_of(hospital))
    assert not asked(hospital)
    hospital.settle()
    assert ward.holds() == {}


def test_a_recovery_is_ended_anyway_at_the_units_that_are_named_and_no_others(hospital: Hospital) -> None:
    other_registry(hospital, "new.db")
    recognised(hospital)
    hospital.want("all", recovering=True)
    now = now_of(hospital)
    with pytest.raises(SyncError, match=f"{WARD} has not been heard since") as told:
        recovery.end(hospital.registry, "desk", now, anyway=[unit_id(DESK)])
    assert f"{DESK} has" not in str(told.value)
    with pytest.raises(SyncError, match="no unit st-mary/atic"):
        recovery.end(hospital.registry, "desk", now, anyway=[unit_id("st-mary/atic")])
    with pytest.raises(SyncError, match="either"):
        recovery.end(hospital.registry, "desk", now, anyway=[unit_id(DESK)], without=[unit_id(DESK)])
    assert asked(hospital)
    recovery.end(hospital.registry, "desk", now, anyway=[unit_id(DESK), unit_id(WARD)])
    assert not asked(hospital)


def test_people_enrolled_for_one_unit_alone_are_not_waited_for_and_stay(hospital: Hospital) -> None:
    """At a unit that may not enrol for others: the fleet has no number for them, and erases none of them."""
    attic = hospital.unit("st-mary/attic")
    attic.enrol("LOCAL", 5)
    hospital.settle()
    assert attic.holds().keys() == {"ANNA", "LOCAL"}
    hospital.doors("ANNA", f"unit:{WARD}")
    hospital.settle()
    assert attic.holds().keys() == {"LOCAL"}
    other_registry(hospital, "new.db")
    recognised(hospital)
    hospital.want("all", recovering=True)
    hospital.want(f"unit:{DESK}", enrols=True)
    assert "st-mary/attic" in recovery.awaited(hospital.registry), "until it was heard"
    hospital.settle(until=lambda: "st-mary/attic" not in recovery.awaited(hospital.registry))
    hospital.settle(until=lambda: known(hospital) == {"ANNA": (DESK, 1)})
    hospital.clock.passes(SAY_AGAIN_S)
    hospital.settle(until=lambda: recovery.awaited(hospital.registry) == {})
    recovery.end(hospital.registry, "desk", now_of(hospital))
    hospital.settle()
    assert attic.holds().keys() == {"LOCAL"}


def test_what_a_unit_says_it_holds_counts_only_while_the_registry_recovers_and_from_who_may_enrol(
    hospital: Hospital,
) -> None:
    ward = hospital.units[WARD]
    now = hospital.clock.ms()
    said = Holding("EVE", 9, 1, "campplus-192@1", "2026-01", "doors", now, now + 10**9)

    def says() -> bool:
        signed = Statement(ward.name, now, (said,)).signed(ward.store.audit_signer)
        return hospital.desk.heard(ward.name, signed)

    assert not says()
    hospital.want("all", recovering=True)
    assert not says(), "the ward may not enrol for others"
    hospital.want("all", enrols=True)
    assert says()
    assert known(hospital)["EVE"] == (WARD, 9)
