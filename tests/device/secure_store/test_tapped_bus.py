"""Somebody listens on the TPM's bus: they see no part of the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tpm2_pytss import ESAPI, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMA_OBJECT
from tpm2_pytss.types import TPMS_SENSITIVE_CREATE

from device.secure_store import SealPolicyError, open_store
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from device.secure_store.memory import SecretBytes
from tests.device.secure_store.people import ledger_of, voiceprint
from tests.device.secure_store.tap import Tap

pytestmark = pytest.mark.e2e

UNSEALS = 100
TELLTALE_BYTES = 5
"""Five equal bytes by chance: once in thirty thousand runs. Four would be once in a hundred."""


@pytest.fixture
def tap(swtpm: SwTpm) -> Iterator[Tap]:
    tap = Tap(swtpm.port)
    yield tap
    tap.close()


def pieces(secret: bytes) -> list[bytes]:
    return [secret[i : i + TELLTALE_BYTES] for i in range(len(secret) - TELLTALE_BYTES + 1)]


def test_the_tap_does_hear_a_secret_that_travels_in_the_clear(swtpm: SwTpm, tap: Tap) -> None:
    secret = b"a secret that nobody enciphered!"
    tpm = ESAPI(tap.tcti)
    tpm.startup(0)
    parent, *_ = tpm.create_primary(None, "ecc256:aes128cfb")
    template = TPM2B_PUBLIC.parse("keyedhash", objectAttributes=TPMA_OBJECT.USERWITHAUTH)
    private, public, *_ = tpm.create(
        parent, TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(data=secret)), template
    )
    tpm.flush_context(tpm.load(parent, private, public))
    tpm.close()
    assert secret in tap.heard


def test_a_hundred_unseals_show_no_byte_of_the_key(swtpm: SwTpm, tap: Tap, tmp_path: Path) -> None:
    with open_store(tmp_path / "unit", swtpm.settings(tcti=tap.tcti)) as store:  # provisioning is heard too
        store.vault.enrol("4711", voiceprint(1))
        keystore = store.keystore
        assert isinstance(keystore, TpmKeystore)
        for _ in range(UNSEALS):
            for secrets in keystore.unlock():
                secrets.wipe()
        epoch = store.vault.rotate()
        with ledger_of(store) as ledger, ledger.secrets.anchor.derive("nv auth") as nv_auth:
            known = [ledger.secrets.root, ledger.secrets.anchor]
            parts = [part for secret in (*known, nv_auth) for part in pieces(bytes(secret.view()))]
    assert epoch > 0
    assert len(tap.heard) > UNSEALS * 1000
    heard = bytes(tap.heard)
    assert not [part for part in parts if part in heard]


def test_an_impostor_that_answers_with_its_own_parent_key_gets_no_secret(
    swtpm: SwTpm, tmp_path: Path
) -> None:
    """A session salted to whatever key the bus presents would hand the secret to the presenter."""
    with open_store(tmp_path / "unit", swtpm.settings()):
        pass
    impostor = SwTpm(tmp_path / "impostor").start()
    try:
        keystore = TpmKeystore(tmp_path / "unit/store/tpm", swtpm.settings(tcti=impostor.tcti))
        keystore.tpm.pinned_parent, pinned = None, keystore.tpm.pinned_parent
        keystore.tpm.make_parent()
        keystore.tpm.pinned_parent = pinned
        with SecretBytes.random(32) as secret, pytest.raises(SealPolicyError, match="not the TPM"):
            keystore.tpm.seal(secret, bytes(32))
    finally:
        impostor.power_cut()
