"""People in the vault: enrolled, used, forgotten."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from device.secure_store import (
    Consent,
    ConsentError,
    ModelChangedError,
    NotEnrolledError,
    Store,
    StoreError,
    StoreSettings,
    Template,
    open_store,
    verify_receipt,
)
from device.secure_store.voiceprints.ledger import Names
from device.secure_store.voiceprints.records import Person, seal_row
from tests.device.secure_store.people import MODEL, ledger_of, same_voice, voiceprint

Opener = Callable[[], Store]
NOW = datetime(2026, 6, 1, tzinfo=UTC)


class MovingClock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def test_a_voiceprint_comes_back_after_a_restart(laptop: Opener) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
    with laptop() as store:
        assert same_voice(store.vault.template("4711"), voiceprint(1))
        assert store.vault.uids() == ("4711",)


def test_enrolling_again_replaces_the_voiceprint_and_keeps_the_record_id(laptop: Opener) -> None:
    with laptop() as store:
        first = store.vault.enrol("4711", voiceprint(1))
        assert store.vault.enrol("4711", voiceprint(2)) == first
        assert same_voice(store.vault.template("4711"), voiceprint(2))
        assert store.vault.status().people == 1


def test_neither_the_id_nor_the_voiceprint_lies_readable_on_the_disk(laptop: Opener, tmp_path: Path) -> None:
    with laptop() as store:
        store.vault.enrol("badge-number-4711", voiceprint(1))
    stored = b"".join(p.read_bytes() for p in sorted((tmp_path / "store").glob("vault*")))
    assert b"badge-number-4711" not in stored
    vector = voiceprint(1).vector
    assert not any(vector[i : i + 2].tobytes() in stored for i in range(191))


def test_a_forgotten_person_is_gone_and_the_receipt_proves_it(laptop: Opener, tmp_path: Path) -> None:
    with laptop() as store:
        record_id = store.vault.enrol("4711", voiceprint(1))
        store.vault.enrol("4712", voiceprint(2))
        receipt = store.vault.forget("4711")
        with pytest.raises(NotEnrolledError):
            store.vault.template("4711")
        assert same_voice(store.vault.template("4712"), voiceprint(2))
        proof = verify_receipt(receipt.to_bytes(), store.audit_signer.public_key())
    assert (proof.record_id, proof.reason, proof.keystore) == (record_id, "asked", "software")
    stored = b"".join(p.read_bytes() for p in sorted((tmp_path / "store").glob("vault*")))
    assert record_id.bytes not in stored


def test_a_forged_receipt_is_refused(laptop: Opener) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        receipt = store.vault.forget("4711")
        forged = replace(receipt, record_id=uuid.uuid4())
        key = store.audit_signer.public_key()
        for data in (forged.to_bytes(), b"", receipt.to_bytes()[:-1], b"\x00" * 3000):
            with pytest.raises(StoreError):
                verify_receipt(data, key)


def test_a_key_that_was_rotated_away_stays_away(laptop: Opener, tmp_path: Path) -> None:
    keys = tmp_path / "store" / "software"
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        before = {p.name for p in keys.glob("root-*.key")}
        epoch = store.vault.rotate()
        assert same_voice(store.vault.template("4711"), voiceprint(1))
    assert {p.name for p in keys.glob("root-*.key")} == {f"root-{epoch}.key"} != before


def test_enrolling_the_same_voice_again_changes_all_that_is_stored(laptop: Opener) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        with ledger_of(store) as ledger:
            before = ledger.row(store.vault.record_id("4711"))
            store.vault.enrol("4711", voiceprint(1))
            ledger.refresh()
            after = ledger.row(store.vault.record_id("4711"))
        assert same_voice(store.vault.template("4711"), voiceprint(1))
    assert before is not None
    assert after is not None
    assert before.wrapped != after.wrapped
    assert before.record != after.record


def test_a_renewed_voiceprint_is_the_same_voice_in_a_record_that_shares_nothing(laptop: Opener) -> None:
    with laptop() as store:
        record_id = store.vault.enrol("4711", voiceprint(1))
        with ledger_of(store) as ledger:
            before = ledger.row(record_id)
            store.vault.renew("4711")
            ledger.refresh()
            after = ledger.row(record_id)
        assert same_voice(store.vault.template("4711"), voiceprint(1))
        assert store.vault.versions() == {"4711": 1}, "nobody was enrolled anew"
        with pytest.raises(NotEnrolledError):
            store.vault.renew("4712")
    assert before is not None
    assert after is not None
    assert before.wrapped != after.wrapped
    assert before.record != after.record


def test_consent_that_has_run_out_closes_the_record_and_is_purged(tmp_path: Path) -> None:
    clock = MovingClock()
    settings = StoreSettings(profile="laptop", keystore="software")
    with open_store(tmp_path, settings, clock=clock, warn=lambda _: None) as store:
        consent = Consent("admin 7", NOW, "2026-01", NOW + timedelta(days=30))
        store.vault.enrol("4711", voiceprint(1), consent)
        store.vault.enrol("4712", voiceprint(2))
        assert store.vault.consent("4711") == consent
        clock.now = NOW + timedelta(days=30)
        with pytest.raises(ConsentError):
            store.vault.template("4711")
        assert [r.reason for r in store.vault.purge_expired()] == ["consent ran out"]
        assert store.vault.uids() == ("4712",)


def test_a_consent_that_is_over_or_too_long_is_not_accepted(laptop: Opener) -> None:
    with laptop() as store:
        past = datetime.now(UTC) - timedelta(days=400)
        for consent in (
            Consent("admin", past, "1", past + timedelta(days=30)),
            Consent("admin", past, "1", past + timedelta(days=9000)),
        ):
            with pytest.raises(ConsentError):
                store.vault.enrol("4711", voiceprint(1), consent)
        assert store.vault.uids() == ()


def test_another_models_voiceprint_is_never_compared(laptop: Opener) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.enrol("4712", voiceprint(2, model="campplus-192@2"))
        with pytest.raises(ModelChangedError):
            store.vault.template("4711", model="campplus-192@2")
        assert store.vault.template("4711", model=MODEL).model == MODEL
        assert store.vault.growth("campplus-192@2") == {"4711": 0, "4712": None}


@pytest.mark.parametrize("uid", ["", " - ", "a\nb", "x" * 65, "\x00"])
def test_an_id_that_is_no_id_is_refused(laptop: Opener, uid: str) -> None:
    with laptop() as store, pytest.raises(StoreError):
        store.vault.enrol(uid, voiceprint(1))


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(192, np.float32),
        np.full(192, np.nan, np.float32),
        np.ones(192, np.float64) / np.sqrt(192),
        np.ones(63, np.float32) / np.float32(np.sqrt(63)),
    ],
)
def test_a_vector_that_is_no_voiceprint_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="template"):
        Template(MODEL, vector, 3)


def test_nothing_secret_shows_in_a_repr(laptop: Opener) -> None:
    template = voiceprint(1)
    assert "<secret>" in repr(template)
    assert str(float(template.vector[0]))[:6] not in repr(template)
    with laptop() as store:
        store.vault.enrol("badge-number-4711", template)
        with ledger_of(store) as ledger:
            for thing in (store, store.vault, ledger, ledger.secrets, ledger.keys):
                assert "badge-number-4711" not in repr(thing)
                assert bytes(ledger.secrets.root.view()).hex() not in repr(thing)


def test_a_second_process_sees_what_the_first_one_enrols(laptop: Opener) -> None:
    with laptop() as unit, laptop() as desk:
        desk.vault.enrol("4711", voiceprint(1))
        assert same_voice(unit.vault.template("4711"), voiceprint(1))
        unit.vault.enrol("4712", voiceprint(2))
        desk.vault.forget("4711")
        assert unit.vault.uids() == desk.vault.uids() == ("4712",)


def test_a_closed_store_answers_nothing(laptop: Opener) -> None:
    store = laptop()
    store.vault.enrol("4711", voiceprint(1))
    store.close()
    for call in (lambda: store.vault.template("4711"), lambda: store.mac("x", b"y"), store.vault.uids):
        with pytest.raises(StoreError, match="closed"):
            call()


def enrolled_as_before(store: Store, typed: str, seed: int) -> uuid.UUID:
    """A record under the id as it was typed, as vaults had them before ids had a normal form."""
    record_id = uuid.uuid4()
    consent = Consent("nobody", NOW, "1", NOW + timedelta(days=36_500))
    with ledger_of(store) as ledger, ledger.exclusive():
        person = Person(typed, voiceprint(seed), consent, 1)
        ledger.commit(put=[seal_row(ledger.keys, record_id, Names(ledger).tag(typed), person, 1)])
    return record_id


def test_every_spelling_finds_the_person(laptop: Opener) -> None:
    with laptop() as store:
        record = store.vault.enrol("alice", voiceprint(1))
        assert store.vault.record_id("ALICE") == store.vault.record_id("Alice") == record
        assert store.vault.uids() == ("ALICE",)


def test_people_of_an_older_vault_are_found_replaced_and_forgotten(laptop: Opener) -> None:
    with laptop() as store:
        record = enrolled_as_before(store, "alice", 1)
        other = enrolled_as_before(store, "00-045", 2)
    with laptop() as store:
        assert same_voice(store.vault.template("ALICE"), voiceprint(1))
        assert store.vault.uids() == ("00045", "ALICE")
        assert store.vault.versions() == {"00045": 1, "ALICE": 1}
        assert store.vault.enrol("Alice", voiceprint(3)) == record
        assert same_voice(store.vault.template("alice"), voiceprint(3))
        assert store.vault.forget("00045").record_id == other
        assert store.vault.uids() == ("ALICE",)
    with laptop() as store:
        assert store.vault.record_id("alice") == record


def test_two_people_of_an_older_vault_whose_ids_are_one_now_are_told(laptop: Opener) -> None:
    with laptop() as store:
        first, second = enrolled_as_before(store, "alice", 1), enrolled_as_before(store, "Alice", 2)
        with pytest.raises(NotEnrolledError, match="one id now") as refused:
            store.vault.template("alice")
        assert str(first) in str(refused.value)
        assert str(second) in str(refused.value)
        store.vault.forget_records([first], "asked")
        assert store.vault.record_id("alice") == second
