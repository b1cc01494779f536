"""People moved to another unit's TPM, and every other way refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store import Store, StoreError, backup, open_store
from device.secure_store.hardware.sealing_policy import sign_policy
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from tests.device.secure_store.conftest import Opener
from tests.device.secure_store.people import same_voice, voiceprint, with_door

pytestmark = pytest.mark.e2e
NOW = datetime.now(UTC)


@dataclass
class Pair:
    old: Store
    new: Store
    authority: ec.EllipticCurvePrivateKey

    def passport(self) -> bytes:
        return backup.passport(self.new, self.new.folder)

    def approval(self, passport: bytes) -> bytes:
        return backup.approve(self.authority, backup.audit_key_pem(self.old), passport)

    def restore(self, bundle: bytes, now: datetime = NOW) -> backup.Restored:
        return backup.restore(self.new, self.new.folder, bundle, now)


@pytest.fixture
def pair(tmp_path: Path, swtpm: SwTpm) -> Iterator[Pair]:
    """Two units of one site, each with a TPM of its own, and their authority."""
    authority = ec.generate_private_key(ec.SECP256R1())
    public = tmp_path / "authority.pub"
    public.write_bytes(
        authority.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    second = SwTpm(tmp_path / "second").start()
    stores = []
    try:
        for name, tpm in (("old", swtpm), ("new", second)):
            settings = tpm.settings(policy_authority=public)
            keystore = TpmKeystore(tmp_path / name / "store/tpm", settings)
            keystore.reseal(sign_policy(authority, keystore.measure(), "release 1"))
            stores.append(open_store(tmp_path / name, settings))
        yield Pair(stores[0], stores[1], authority)
    finally:
        for store in stores:
            store.close()
        second.power_cut()


def test_people_move_to_the_approved_unit_with_their_consent(pair: Pair) -> None:
    pair.old.vault.enrol("4711", voiceprint(1))
    pair.old.vault.enrol("4712", with_door(2))
    bundle = backup.export(pair.old, pair.approval(pair.passport()), NOW)
    assert voiceprint(1).vector[:2].tobytes() not in bundle
    assert pair.restore(bundle) == backup.Restored(2, 0)
    assert same_voice(pair.new.vault.template("4711"), voiceprint(1))
    assert same_voice(pair.new.vault.template("4712"), with_door(2))
    assert pair.new.vault.consent("4712") == pair.old.vault.consent("4712")
    assert pair.new.vault.record_id("4711") != pair.old.vault.record_id("4711")


def test_no_voiceprint_of_a_backup_stays_in_memory(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.old.vault.enrol("4712", with_door(2))
    approval, opened, stack = pair.approval(pair.passport()), [], np.stack

    def stacked(rows: list[np.ndarray]) -> np.ndarray:
        opened.append(stack(rows))
        return opened[-1]

    monkeypatch.setattr(np, "stack", stacked)  # which every vector goes through on its way out of a record
    backup.export(pair.old, approval, NOW)
    assert len(opened) == 2
    assert not any(one.any() for one in opened)


def test_a_bundle_is_accepted_once_and_only_for_the_last_passport(pair: Pair) -> None:
    pair.old.vault.enrol("4711", voiceprint(1))
    bundle = backup.export(pair.old, pair.approval(pair.passport()), NOW)
    pair.restore(bundle)
    with pytest.raises(StoreError, match="restored already"):
        pair.restore(bundle)
    bundle = backup.export(pair.old, pair.approval(pair.passport()), NOW)
    pair.passport()
    with pytest.raises(StoreError, match="last passport"):
        pair.restore(bundle)


def test_another_tpm_cannot_open_the_bundle(pair: Pair) -> None:
    pair.old.vault.enrol("4711", voiceprint(1))
    passport = pair.passport()
    bundle = backup.export(pair.old, pair.approval(passport), NOW)
    nonce = (pair.new.folder / "restore-nonce").read_bytes()
    (pair.old.folder / "restore-nonce").write_bytes(nonce)  # a thief who steals everything but the TPM
    with pytest.raises(StoreError):
        backup.restore(pair.old, pair.old.folder, bundle, NOW)


def test_nobody_else_can_approve_or_make_a_bundle(pair: Pair) -> None:
    pair.old.vault.enrol("4711", voiceprint(1))
    passport = pair.passport()
    thief = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(StoreError, match="signature"):
        backup.export(pair.old, backup.approve(thief, backup.audit_key_pem(pair.old), passport), NOW)
    other_unit = backup.approve(pair.authority, backup.audit_key_pem(pair.new), passport)
    with pytest.raises(StoreError, match="another unit"):
        backup.export(pair.old, other_unit, NOW)
    header, sealed, signature = cbor2.loads(backup.export(pair.old, pair.approval(passport), NOW))
    for forged in (
        [header, sealed[:-1] + bytes([sealed[-1] ^ 1]), signature],
        [header, sealed, bytes(64)],
        [header + b"\0", sealed, signature],
        [header, sealed],
    ):
        with pytest.raises(StoreError):
            pair.restore(cbor2.dumps(forged))
    assert pair.new.vault.uids() == ()


def test_an_old_bundle_is_refused_because_people_may_have_been_forgotten_since(pair: Pair) -> None:
    pair.old.vault.enrol("4711", voiceprint(1))
    bundle = backup.export(pair.old, pair.approval(pair.passport()), NOW)
    with pytest.raises(StoreError, match="too old"):
        pair.restore(bundle, NOW + timedelta(days=8))


def test_people_whose_consent_ran_out_stay_behind(pair: Pair) -> None:
    pair.old.vault.enrol("4711", voiceprint(1))
    approval = pair.approval(pair.passport())
    late = NOW + timedelta(days=366)
    assert pair.restore(backup.export(pair.old, approval, late), late) == backup.Restored(0, 0)


def test_a_software_keystore_has_no_backup(laptop: Opener) -> None:
    with laptop() as store, pytest.raises(StoreError, match="TPM to TPM"):
        backup.passport(store, store.folder)


@pytest.mark.parametrize("junk", [b"", b"\xff", cbor2.dumps({}), cbor2.dumps([1, 2]), b"\x9f" * 50])
def test_junk_is_no_bundle(pair: Pair, junk: bytes) -> None:
    with pytest.raises(StoreError):
        pair.restore(junk)
    with pytest.raises(StoreError):
        backup.export(pair.old, junk, NOW)
