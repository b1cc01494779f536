"""Enrolled once: every door a person may use has the enrolment, nobody between can read it, and it can be
taken back everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from device.errors import DeviceError
from device.secure_store import Consent
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import Settings
from sync.errors import ProofError
from sync.fleet.certificates import Authority
from sync.fleet.exchange import card
from sync.orders.desired import Contents, Enrolled, Held, Part, Statement
from sync.transport.topics import DESIRED
from tests.device.secure_store.people import same_voice, voiceprint, with_door
from tests.device.unit.fleet_world import START, Hospital, roster, rules


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.want("unit:st-mary/desk", enrols=True)
    yield made
    made.close()


def test_who_is_enrolled_at_one_unit_is_at_every_door_they_may_use_and_at_no_other(
    hospital: Hospital,
) -> None:
    desk, ward, store = (hospital.unit(f"st-mary/{name}") for name in ("desk", "ward", "store"))
    hospital.doors("ANNA", "unit:st-mary/ward")
    desk.enrol("ANNA", 1)
    hospital.settle()
    assert same_voice(ward.holds()["ANNA"], with_door(1))
    assert store.holds() == {}
    consent = ward.store.vault.consent("ANNA")
    assert (consent.taken_by, consent.text_version, consent.purpose) == ("desk", "2026-01", "doors and store")
    assert ward.events()[-2:] == ["ENROLMENT_BEGUN", "ENROLLED"]
    hospital.doors("ANNA", "site:st-mary")
    hospital.settle()
    assert same_voice(store.holds()["ANNA"], with_door(1))


def test_a_score_at_the_other_door_is_the_score_at_the_desk(hospital: Hospital) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    hospital.doors("ANNA", "all")
    desk.enrol("ANNA", 1)
    hospital.settle()
    probe = voiceprint(7).vector
    here, there = (float(unit.holds()["ANNA"].vector @ probe) for unit in (desk, ward))
    assert there == pytest.approx(here, abs=1e-6)


def test_at_rest_the_two_doors_have_nothing_in_common_and_the_registry_nothing_to_read(
    hospital: Hospital,
) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    hospital.doors("ANNA", "all")
    desk.enrol("ANNA", 1)
    hospital.settle()
    template = with_door(1)
    assert template.door is not None
    secret = template.vector.astype("<f4").tobytes() + template.door.vector.astype("<f4").tobytes()
    passed = b"".join(payload for _, _, payload in hospital.sent)
    stored = (hospital.folder / "registry.db").read_bytes()
    pieces = [secret[at : at + 16] for at in range(0, len(secret), 16)]
    for where in (passed, stored):
        assert not [piece for piece in pieces if piece in where]
    on_disk = [p.read_bytes() for p in (ward.state / "desired").rglob("*") if p.is_file()]
    assert not [piece for piece in pieces for data in on_disk if piece in data]
    for unit in (desk, ward):
        vaults = [path.read_bytes() for path in (unit.state / "store").glob("vault*")]
        assert not [piece for piece in pieces for data in vaults if piece in data]


def test_revoked_at_a_door_is_gone_there_and_stays_elsewhere(hospital: Hospital) -> None:
    desk, ward, store = (hospital.unit(f"st-mary/{name}") for name in ("desk", "ward", "store"))
    hospital.doors("ANNA", "all")
    desk.enrol("ANNA", 1)
    hospital.settle()
    hospital.doors("ANNA", "unit:st-mary/store")
    hospital.settle()
    assert (ward.holds(), sorted(store.holds()), sorted(desk.holds())) == ({}, ["ANNA"], ["ANNA"])
    assert ward.events()[-2:] == ["ERASURE_BEGUN", "FORGOTTEN"]


def test_forget_collects_a_receipt_from_every_unit_and_lists_who_owes_one(hospital: Hospital) -> None:
    desk, ward, store = (hospital.unit(f"st-mary/{name}") for name in ("desk", "ward", "store"))
    hospital.doors("ANNA", "unit:st-mary/ward")
    desk.enrol("ANNA", 1)
    hospital.settle()
    hospital.offline.add("st-mary/ward")
    hospital.forget("ANNA")
    hospital.settle()
    assert [unit for unit, _, _ in hospital.screen().owing] == ["st-mary/ward"]
    assert not hospital.screen().well
    assert (desk.holds(), sorted(ward.holds()), store.holds()) == ({}, ["ANNA"], {})
    hospital.offline.clear()
    hospital.settle()
    assert (ward.holds(), hospital.screen().owing) == ({}, ())


def test_a_receipt_of_a_unit_that_was_revoked_is_told_apart_and_waited_for_no_more(
    hospital: Hospital,
) -> None:
    desk, ward = (hospital.unit(f"st-mary/{name}") for name in ("desk", "ward"))
    hospital.doors("ANNA", "unit:st-mary/ward")
    desk.enrol("ANNA", 1)
    hospital.settle()
    hospital.offline.add("st-mary/ward")
    hospital.forget("ANNA")
    hospital.registry.revoke(ward.name, hospital.clock.ms())
    hospital.settle()
    shown = hospital.screen()
    assert (shown.owing, shown.well) == ((), True)
    assert [(unit, uid) for unit, uid, _ in shown.unproved] == [("st-mary/ward", "ANNA")]
    assert any("will not come, for the unit was revoked" in line for line in shown.lines())


def test_a_forgotten_person_comes_back_by_no_old_document_no_late_unit_and_no_registry_that_forgot(
    hospital: Hospital,
) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    hospital.doors("ANNA", "all")
    desk.enrol("ANNA", 1)
    hospital.settle()
    old = hospital.retained["st-mary/ward"]
    hospital.forget("ANNA")
    hospital.settle()
    # 1. The old document again, from the broker or past the uplink.
    assert not hospital.deliver(ward, DESIRED, old)
    (ward.state / "desired/document").write_bytes(old)
    ward.restart().follower.look()
    assert ward.holds() == {}
    # 2. A unit that says again that it enrolled her, by an enrolment of before.
    again = Statement(desk.name, hospital.clock.ms(), (Enrolled("ANNA", 1, "m", "t", "p", 1, 2),))
    hospital.desk.heard(desk.name, again.signed(desk.store.audit_signer))
    hospital.settle()
    assert ward.holds() == {}
    # 3. A registry that was restored from before, and counts on from far above.
    number = 1
    held = roster(Held("ANNA", number, Part.of(b"x")))
    part = hospital.part(ward, held.to_bytes())
    assert isinstance(part, Part)
    message = hospital.document(ward, 900, Contents(people=part))
    hospital.retained["st-mary/ward"] = message
    hospital.deliver(ward, DESIRED, message)
    for _ in range(6):
        ward.follower.look()
        hospital.carry(ward)
        hospital.clock.passes(1)
    assert ward.holds() == {}
    assert ward.standing()[1:] == ("refused", "people_refused")


def test_somebody_who_was_forgotten_may_enrol_anew_where_the_erasure_was_proved(hospital: Hospital) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    hospital.doors("ANNA", "all")
    desk.enrol("ANNA", 1)
    hospital.settle()
    hospital.forget("ANNA")
    hospital.settle()
    desk.enrol("ANNA", 2)
    hospital.doors("ANNA", "all")
    hospital.settle()
    assert same_voice(ward.holds()["ANNA"], with_door(2))


def test_an_enrolment_from_before_the_erasure_that_arrives_late_does_not_count(hospital: Hospital) -> None:
    desk, other = hospital.unit("st-mary/desk"), hospital.unit("st-mary/other")
    hospital.want("unit:st-mary/other", enrols=True)
    hospital.doors("ANNA", "unit:st-mary/desk")
    desk.enrol("ANNA", 1)
    hospital.settle()
    hospital.offline.add("st-mary/other")
    other.enrol("ANNA", 5)
    hospital.forget("ANNA")
    hospital.settle()
    hospital.offline.clear()
    hospital.settle()
    assert (other.holds(), desk.holds(), hospital.screen().owing) == ({}, {}, ())


def test_a_newer_enrolment_takes_the_place_of_the_older_at_every_door(hospital: Hospital) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    hospital.doors("ANNA", "all")
    desk.enrol("ANNA", 1)
    hospital.settle()
    first = hospital.retained["st-mary/ward"]
    desk.enrol("ANNA", 2)
    hospital.settle()
    assert same_voice(ward.holds()["ANNA"], with_door(2))
    assert not hospital.deliver(ward, DESIRED, first)
    assert same_voice(ward.restart().holds()["ANNA"], with_door(2))


def test_a_unit_that_may_not_enrol_for_others_keeps_whom_it_enrols_to_itself(hospital: Hospital) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    hospital.doors("ANNA", "all")
    ward.enrol("ANNA", 1)
    hospital.settle()
    assert (sorted(ward.holds()), desk.holds(), hospital.screen().people) == (["ANNA"], {}, 0)


def test_nothing_is_sealed_to_a_key_that_the_authority_does_not_vouch_for(
    hospital: Hospital, tmp_path: Path
) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    stranger = Authority.open(tmp_path / "strangers", START - timedelta(days=1))
    key = ward.store.keystore.exchange().public_key()
    by_stranger = card(stranger, ward.name, key, START)
    anothers = card(hospital.authority, desk.name, key, START)
    outdated = card(hospital.authority, ward.name, key, START - timedelta(days=5000))
    for false in (by_stranger, anothers, outdated, b"not a certificate"):
        hospital.admit(ward.name, false)
        hospital.doors("ANNA", "all")
        desk.enrol("ANNA", 1)
        hospital.settle()
        assert ward.holds() == {}
    hospital.authority.issue("st-mary/ward", START)  # its TLS certificate is no card either
    pem = (hospital.folder / "pki/st-mary_ward.pem").read_bytes()
    hospital.admit(ward.name, pem)
    hospital.settle()
    assert ward.holds() == {}


def test_what_another_unit_says_under_this_units_name_is_refused(hospital: Hospital) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    said = Statement(desk.name, 1, (Enrolled("EVE", 1, "m", "t", "p", 1, 2),))
    with pytest.raises(ProofError):
        hospital.desk.heard(desk.name, said.signed(ward.store.audit_signer))
    with pytest.raises(ProofError):
        hospital.desk.heard(ward.name, said.signed(desk.store.audit_signer))
    assert hospital.screen().people == 0


def test_a_consent_that_has_run_out_erases_at_every_door(hospital: Hospital) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    hospital.doors("ANNA", "all")
    desk.enrol("ANNA", 1, days=20)
    hospital.settle()
    assert sorted(ward.holds()) == ["ANNA"]
    hospital.clock.passes(21 * 86_400)
    hospital.settle()
    assert ward.store.vault.uids() == desk.store.vault.uids() == ()


def test_an_older_memory_of_the_fleet_is_not_believed(hospital: Hospital) -> None:
    desk, ward = hospital.unit("st-mary/desk"), hospital.unit("st-mary/ward")
    hospital.doors("ANNA", "all")
    desk.enrol("ANNA", 1)
    hospital.settle()
    (kept,) = (ward.state / "applied").glob("memory-*.bin")
    before = kept.read_bytes()
    hospital.want_rules("all", rules(2), 2)
    hospital.settle()
    (now,) = (ward.state / "applied").glob("memory-*.bin")
    now.write_bytes(before)
    with pytest.raises(DeviceError, match="knew of its fleet"):
        ward.restart()


@pytest.mark.e2e
def test_from_tpm_to_tpm_an_envelope_for_one_unit_opens_at_no_other(tmp_path: Path) -> None:
    with SwTpm(tmp_path / "one") as first, SwTpm(tmp_path / "two") as second:
        hospital = Hospital(tmp_path / "hospital")
        try:
            hospital.want("unit:st-mary/desk", enrols=True)
            desk = hospital.unit("st-mary/desk", Settings(store=first.settings()))
            ward = hospital.unit("st-mary/ward", Settings(store=second.settings()))
            hospital.doors("ANNA", "all")
            desk.enrol("ANNA", 1)
            hospital.settle()
            assert same_voice(ward.holds()["ANNA"], with_door(1))
            hospital.forget("ANNA")
            hospital.settle()
            assert (ward.holds(), hospital.screen().owing) == ({}, ())
        finally:
            hospital.close()


def test_a_whole_staff_comes_to_a_new_door_though_one_statement_does_not_hold_them_all(
    hospital: Hospital,
) -> None:
    """A registry takes half a megabyte at once. 300 enrolments with door vectors are more; here 60 are, by a
    long text about who took the consent.
    """
    desk, staff = hospital.unit("st-mary/desk"), [f"NURSE{number:02}" for number in range(60)]
    consent = Consent("the sister of the ward " * 420, START, "2026-01", START + timedelta(days=300))
    for number, uid in enumerate(staff):
        hospital.doors(uid, "site:st-mary")
        desk.store.vault.enrol(uid, with_door(number), consent)
    hospital.settle()
    ward = hospital.unit("st-mary/ward")
    hospital.settle()
    assert sorted(ward.holds()) == staff
