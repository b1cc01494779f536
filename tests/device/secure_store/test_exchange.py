"""Enciphering to one unit: its TPM opens it, in an approved state of its machine, and nobody else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from device.secure_store import SealPolicyError, StoreError
from device.secure_store.exchange import open_with, public_point, seal_to
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from device.secure_store.memory import SecretBytes
from tests.device.secure_store.conftest import Opener
from tests.device.secure_store.test_tpm_store import extend

INFO = b"enrolment 7 for st-mary/icu-2"
PLAIN = b"a voiceprint" * 80


class KeyInMemory:
    """An exchange key whose private half a test may see."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.key.public_key()

    def agree(self, point: ec.EllipticCurvePublicKey) -> SecretBytes:
        return SecretBytes.copy_of(self.key.exchange(ec.ECDH(), point))


def test_what_is_sealed_opens_by_an_independent_library_and_by_us() -> None:
    own = KeyInMemory()
    sealed = seal_to(own.public_key(), PLAIN, INFO)
    assert open_with(own, sealed, INFO) == PLAIN
    suite = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    assert suite.decrypt(sealed, own.key, info=INFO) == PLAIN


@pytest.mark.parametrize("at", [0, 1, 40, 65, 200, -1])
def test_an_envelope_with_one_bit_off_is_refused(at: int) -> None:
    own = KeyInMemory()
    sealed = bytearray(seal_to(own.public_key(), PLAIN, INFO))
    sealed[at] ^= 1
    with pytest.raises(StoreError):
        open_with(own, bytes(sealed), INFO)


def test_an_envelope_for_another_unit_or_purpose_is_refused() -> None:
    own, other = KeyInMemory(), KeyInMemory()
    sealed = seal_to(own.public_key(), PLAIN, INFO)
    for opener, info in ((other, INFO), (own, b"enrolment 8 for st-mary/icu-2")):
        with pytest.raises(StoreError, match="not for this unit"):
            open_with(opener, sealed, info)
    for cut in (b"", sealed[:80], sealed[:-1], bytes(len(sealed))):
        with pytest.raises(StoreError):
            open_with(own, cut, INFO)


def test_a_laptops_exchange_key_stays_the_same(laptop: Opener) -> None:
    with laptop() as store:
        sealed = seal_to(store.keystore.exchange().public_key(), PLAIN, INFO)
    with laptop() as store:
        assert open_with(store.keystore.exchange(), sealed, INFO) == PLAIN


@pytest.mark.e2e
def test_a_units_tpm_opens_it_also_after_a_power_cut_and_under_the_next_epoch(
    unit: Opener, swtpm: SwTpm
) -> None:
    with unit() as store:
        key = public_point(store.keystore.exchange().public_key())
        sealed = seal_to(store.keystore.exchange().public_key(), PLAIN, INFO)
    swtpm.reboot()
    with unit() as store:
        store.vault.rotate()
        assert public_point(store.keystore.exchange().public_key()) == key
        assert open_with(store.keystore.exchange(), sealed, INFO) == PLAIN


@pytest.mark.e2e
def test_a_machine_that_started_otherwise_opens_nothing(unit: Opener, swtpm: SwTpm) -> None:
    with unit() as store:
        sealed = seal_to(store.keystore.exchange().public_key(), PLAIN, INFO)
        extend(swtpm, 7)
        with pytest.raises(SealPolicyError, match="did not start as it was approved"):
            open_with(store.keystore.exchange(), sealed, INFO)


@pytest.mark.e2e
def test_another_tpm_cannot_load_the_key(unit: Opener, tmp_path: Path) -> None:
    with unit() as store:
        sealed = seal_to(store.keystore.exchange().public_key(), PLAIN, INFO)
        stolen = (tmp_path / "unit/store/tpm/exchange.json").read_bytes()
    with SwTpm(tmp_path / "thief") as other:
        thief = TpmKeystore(tmp_path / "thiefs", other.settings())
        thief.unlock()
        (tmp_path / "thiefs/exchange.json").write_bytes(stolen)
        with pytest.raises(SealPolicyError, match="another TPM"):
            open_with(thief.exchange(), sealed, INFO)
