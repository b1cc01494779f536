"""The store on a real TPM 2.0: what a thief, an old disk and a changed machine get, which is nothing."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import (
    ESAPI,
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPMA_NV,
    TPMA_OBJECT,
    TSS2_Exception,
)
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_EO, TPM2_RC, TPM2_RH, TPM2_SE, TPM2_ST
from tpm2_pytss.types import (
    TPMS_NV_PUBLIC,
    TPMT_SYM_DEF,
    TPMT_TK_VERIFIED,
)

from device.secure_store import (
    RollbackError,
    SealPolicyError,
    Store,
    StoreError,
    TpmBusyError,
    TpmLockedError,
    open_store,
    verify_receipt,
)
from device.secure_store.hardware.sealing_policy import SignedPolicy, sealing_policy, sign_policy
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm import Release, Tpm, authority_name
from device.secure_store.hardware.tpm_files import TpmFiles
from device.secure_store.hardware.tpm_keystore import Quote, TpmKeystore
from device.secure_store.keystore import COUNTERS
from device.secure_store.signing import verify_es256
from sync.cose import sign1
from sync.errors import ProofError
from sync.fleet.provisioning.tpm.proof import Statement, verify_quote
from tests.device.secure_store.lockout import lock_by_wrong_passwords
from tests.device.secure_store.people import same_voice, voiceprint

pytestmark = pytest.mark.e2e

Opener = Callable[[], Store]


def keystore_of(store: Store) -> TpmKeystore:
    assert isinstance(store.keystore, TpmKeystore)
    return store.keystore


def index_of(tpm: SwTpm, counter: str) -> int:
    """Where in the TPM's NV memory a counter of the store lies."""
    return tpm.settings().nv_base + COUNTERS.index(counter)


@contextmanager
def esapi(swtpm: SwTpm) -> Iterator[ESAPI]:
    """The TPM as anybody else on the machine can use it."""
    tpm = ESAPI(swtpm.tcti)
    try:
        yield tpm
    finally:
        tpm.close()


def extend(swtpm: SwTpm, pcr: int) -> None:
    """What another boot loader would do."""
    with esapi(swtpm) as tpm:
        tpm.pcr_event(ESYS_TR(pcr), b"another boot loader", session1=ESYS_TR.PASSWORD)


def test_signatures_of_the_tpm_keep_one_key_in_memory(unit: Opener) -> None:
    """Keys are kept by those who look them up: a new object for each signature was 2 kB that never went."""
    with unit() as store:
        signer = store.audit_signer
        assert signer.public_key() is signer.public_key()
        sign1(b"first", signer, "application/test")
        tracemalloc.start()
        for number in range(200):
            sign1(b"%d" % number, signer, "application/test")
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert left < 10_000, f"{left} bytes are left of 200 signatures"


def test_people_survive_a_reboot_of_unit_and_tpm(unit: Opener, swtpm: SwTpm) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        assert store.warning is None
    swtpm.reboot()
    with unit() as store:
        assert same_voice(store.vault.template("4711"), voiceprint(1))
        assert store.status().keystore.ready


def test_pcr_drift_refuses_and_a_signed_update_unseals(unit: Opener, swtpm: SwTpm, tmp_path: Path) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
    extend(swtpm, 4)
    with pytest.raises(SealPolicyError, match="PCR 4 changed"):
        unit()
    keystore = TpmKeystore(tmp_path / "unit/store/tpm", swtpm.settings())
    keystore.reseal(None)  # signed by this laptop's own authority
    with unit() as store:
        assert same_voice(store.vault.template("4711"), voiceprint(1))
    swtpm.reboot()  # PCR 4 is back: the state before the update stays approved, for a fallback
    with unit() as store:
        assert store.vault.uids() == ("4711",)


def test_an_update_signed_by_somebody_else_is_refused_by_us_and_by_the_tpm(
    unit: Opener, swtpm: SwTpm, tmp_path: Path
) -> None:
    with unit():
        pass
    extend(swtpm, 7)
    thief = ec.generate_private_key(ec.SECP256R1())
    keystore = TpmKeystore(tmp_path / "unit/store/tpm", swtpm.settings())
    forged = sign_policy(thief, keystore.measure(), "trust me")
    with pytest.raises(SealPolicyError, match="not signed by"):
        keystore.reseal(forged)
    files = TpmFiles(tmp_path / "unit/store/tpm")
    files.add_policy(forged)  # a thief with the disk writes the file instead
    with pytest.raises(SealPolicyError):
        unit()
    epoch = keystore.counter("epoch").value()
    blob = files.sealed()[epoch]
    with pytest.raises(SealPolicyError):  # and shows the TPM their own authority, skipping our checks
        keystore.tpm.unseal(blob, Release(thief.public_key(), forged, index_of(swtpm, "epoch"), epoch))


def test_in_production_the_unit_cannot_approve_itself(swtpm: SwTpm, tmp_path: Path) -> None:
    with pytest.raises(SealPolicyError, match="policy_authority"):
        open_store(tmp_path / "none", swtpm.settings(profile="production"))
    authority = ec.generate_private_key(ec.SECP256R1())
    public = tmp_path / "authority.pub"
    public.write_bytes(
        authority.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    settings = swtpm.settings(profile="production", policy_authority=public)
    with pytest.raises(SealPolicyError, match="no signed policy is installed"):
        open_store(tmp_path / "unit", settings)
    keystore = TpmKeystore(tmp_path / "unit/store/tpm", settings)
    with pytest.raises(SealPolicyError, match="cannot approve itself"):
        keystore.reseal(None)
    signed = sign_policy(authority, keystore.measure(), "release 1").to_json()
    keystore.reseal(SignedPolicy.from_json(json.dumps(signed)))
    with open_store(tmp_path / "unit", settings) as store:
        assert store.vault.uids() == ()
    assert b"PRIVATE" not in b"".join(p.read_bytes() for p in (tmp_path / "unit").rglob("*") if p.is_file())


def test_a_copied_disk_on_another_tpm_yields_nothing(unit: Opener, tmp_path: Path) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        mine = keystore_of(store)
        epoch = mine.counter("epoch").value()
        files = TpmFiles(tmp_path / "unit/store/tpm")
        blob, policy = files.sealed()[epoch], files.policies()[0]
    other = SwTpm(tmp_path / "other").start()
    try:
        shutil.copytree(tmp_path / "unit", tmp_path / "copy")
        with pytest.raises(SealPolicyError):
            open_store(tmp_path / "copy", other.settings())
        with open_store(tmp_path / "own", other.settings()) as store:  # the thief's own keys and counters
            theirs = keystore_of(store).tpm
            with pytest.raises(SealPolicyError):
                theirs.unseal(blob, Release(mine.authority(), policy, index_of(other, "epoch"), epoch))
        with pytest.raises(SealPolicyError):  # and with them in place: another parent key
            open_store(tmp_path / "copy", other.settings())
    finally:
        other.power_cut()


def test_an_old_vault_put_back_is_refused(unit: Opener, tmp_path: Path) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
    shutil.copytree(tmp_path / "unit", tmp_path / "old")
    with unit() as store:
        store.vault.enrol("4712", voiceprint(2))
    for old in (tmp_path / "old/store").glob("vault*"):
        shutil.copy(old, tmp_path / "unit/store" / old.name)
    with pytest.raises(RollbackError, match="an old copy was put back"):
        unit()


def test_the_whole_old_disk_put_back_does_not_bring_a_forgotten_person_back(
    unit: Opener, swtpm: SwTpm, tmp_path: Path
) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        old_epoch = store.vault.status().epoch
    shutil.copytree(tmp_path / "unit", tmp_path / "old")
    with unit() as store:
        store.vault.forget("4711")
    shutil.rmtree(tmp_path / "unit")
    shutil.copytree(tmp_path / "old", tmp_path / "unit")
    with pytest.raises((SealPolicyError, RollbackError)):
        unit()
    keystore = TpmKeystore(tmp_path / "unit/store/tpm", swtpm.settings())
    files = TpmFiles(tmp_path / "unit/store/tpm")
    blob, policy = files.sealed()[old_epoch], files.policies()[0]
    with pytest.raises(SealPolicyError):  # not our check but the TPM's: the counter is above the old epoch
        keystore.tpm.unseal(blob, Release(keystore.authority(), policy, index_of(swtpm, "epoch"), old_epoch))


def test_an_old_tpm_state_put_back_is_refused(unit: Opener, swtpm: SwTpm, tmp_path: Path) -> None:
    with unit():
        pass
    swtpm.power_cut()
    shutil.copytree(swtpm.folder, tmp_path / "old-nv")
    swtpm.start()
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.enrol("4712", voiceprint(2))
    swtpm.power_cut()
    shutil.copytree(tmp_path / "old-nv", swtpm.folder, dirs_exist_ok=True)
    swtpm.start()
    with pytest.raises(RollbackError, match="old TPM state"):
        unit()


def test_a_counter_defined_again_by_somebody_else_is_noticed(unit: Opener, swtpm: SwTpm) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        keystore_of(store).tpm.remove_counter(index_of(swtpm, "vault"))
    with pytest.raises(SealPolicyError, match="gone"):
        unit()
    with esapi(swtpm) as tpm:
        area = TPMS_NV_PUBLIC(
            nvIndex=index_of(swtpm, "vault"),
            nameAlg=TPM2_ALG.SHA256,
            attributes=TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD | TPMA_NV.NO_DA,
            dataSize=8,
        )
        handle = tpm.nv_define_space(b"", TPM2B_NV_PUBLIC(area), ESYS_TR.OWNER, session1=ESYS_TR.PASSWORD)
        tpm.nv_write(handle, (1).to_bytes(8), session1=ESYS_TR.PASSWORD)
    with pytest.raises(SealPolicyError, match="defined again"):
        unit()


def test_a_deleted_store_is_not_silently_made_anew(unit: Opener, tmp_path: Path) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
    shutil.rmtree(tmp_path / "unit")
    with pytest.raises(StoreError, match="files are missing"):
        unit()


def test_the_audit_key_signs_and_cannot_leave(unit: Opener, swtpm: SwTpm) -> None:
    with unit() as store:
        signature, key = store.audit_signer.sign(b"head 1"), store.audit_signer.public_key()
        assert len(signature) == 64
        assert verify_es256(key, b"head 1", signature) == b"head 1"
        blob = keystore_of(store).audit_object()

    public, _ = TPM2B_PUBLIC.unmarshal(blob.public)
    stuck = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.SENSITIVEDATAORIGIN
    assert public.publicArea.objectAttributes & stuck == stuck
    assert public.publicArea.objectAttributes & TPMA_OBJECT.NODA
    swtpm.reboot()
    with unit() as store:
        assert store.audit_signer.public_key() == key


def test_a_quote_proves_the_machine_state_to_the_one_who_chose_the_nonce(unit: Opener, swtpm: SwTpm) -> None:
    nonce = b"registry nonce 1"
    with unit() as store:
        keystore = keystore_of(store)
        quote = keystore.quote(nonce)
        key, audit_key = keystore.attestation_key(), store.audit_signer.public_key()
        attested = verified(quote, key, nonce)
        assert attested == keystore.measure()
        extend(swtpm, 2)
        drifted = keystore.quote(nonce)
        assert verified(drifted, key, nonce)[2] != attested[2]
        lying = Quote(drifted.statement, drifted.signature, attested)
        less = {pcr: value for pcr, value in quote.values.items() if pcr != 2}
        for quoted, asked, who in (
            (quote, b"another nonce 12", key),
            (quote, nonce, audit_key),
            (lying, nonce, key),
            (Quote(quote.statement, quote.signature, less), nonce, key),
            (Quote(quote.statement[:-1], quote.signature, quote.values), nonce, key),
        ):
            with pytest.raises(ProofError):
                verified(quoted, who, asked)


def verified(quote: Quote, key: ec.EllipticCurvePublicKey, nonce: bytes) -> dict[int, bytes]:
    statement = Statement(quote.statement, quote.signature)
    verify_quote(statement, quote.values, key, nonce)
    return dict(quote.values)


def test_a_statement_that_the_audit_key_was_talked_into_is_no_quote(unit: Opener) -> None:
    """The audit key signs any message, so it must not be one that vouches for the machine."""
    with unit() as store:
        keystore = keystore_of(store)
        true = keystore.quote(b"nonce 12")
        forged = Quote(true.statement, store.audit_signer.sign(true.statement), true.values)
        with pytest.raises(ProofError):
            verified(forged, keystore.attestation_key(), b"nonce 12")


def test_signing_a_hundred_heads_leaks_no_handle(unit: Opener) -> None:
    with unit() as store:
        for i in range(100):
            store.audit_signer.sign(b"head %d" % i)
        keystore_of(store).quote(b"nonce 12")


def test_what_a_killed_process_left_loaded_is_swept(unit: Opener, swtpm: SwTpm) -> None:
    with unit():
        pass
    with esapi(swtpm) as tpm:  # three keys loaded and never flushed: the TPM has no slot left
        for _ in range(3):
            tpm.create_primary(None, "ecc256")
    with unit() as store:
        store.audit_signer.sign(b"head")


def test_an_absent_tpm_is_said_to_be_absent(unit: Opener, swtpm: SwTpm) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        swtpm.power_cut()
        assert same_voice(store.vault.template("4711"), voiceprint(1))  # unlocked keys go on working
        with pytest.raises(TpmBusyError):
            store.audit_signer.sign(b"head")
        with pytest.raises(TpmBusyError):
            store.vault.enrol("4712", voiceprint(2))
        assert not store.status().keystore.ready
        swtpm.start()
        store.vault.enrol("4713", voiceprint(3))  # the interrupted change is settled first
        assert set(store.vault.uids()) >= {"4711", "4713"}
    with unit() as store:
        assert not store.vault.status().notes


def test_forgetting_without_a_tpm_changes_nothing_and_can_be_done_again(unit: Opener, swtpm: SwTpm) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        swtpm.power_cut()
        with pytest.raises(TpmBusyError):
            store.vault.forget("4711")
        assert same_voice(store.vault.template("4711"), voiceprint(1))
        swtpm.start()
        receipt = store.vault.forget("4711")
        assert verify_receipt(receipt.to_bytes(), store.audit_signer.public_key()) == receipt
        assert receipt.counter == store.vault.status().counter
        assert receipt.epoch == store.vault.status().epoch


def test_wrong_passwords_of_others_lock_nothing_of_ours(unit: Opener, swtpm: SwTpm) -> None:
    """Somebody hammers a protected object of their own until the TPM locks: the unit starts all the same."""
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        keystore = keystore_of(store)
    lock_by_wrong_passwords(swtpm)
    assert keystore.tpm.lockout().in_lockout
    with unit() as store:
        assert same_voice(store.vault.template("4711"), voiceprint(1))
        store.vault.enrol("4712", voiceprint(2))
        status = store.status().keystore
    assert not status.ready
    assert status.locked
    assert "locked by wrong passwords" in status.state


def test_our_policy_digests_are_the_tpms(unit: Opener, swtpm: SwTpm, tmp_path: Path) -> None:
    """The sealing policy is computed off the TPM; a trial session has to come to the same."""

    with unit() as store:
        keystore = keystore_of(store)
        values = keystore.measure()
        authority = keystore.authority()
    facts = TpmFiles(tmp_path / "unit/store/tpm").facts()
    assert facts is not None
    index, name = index_of(swtpm, "epoch"), bytes.fromhex(facts.counter_names["epoch"])
    with esapi(swtpm) as tpm:
        trial = tpm.start_auth_session(
            ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.TRIAL, TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL), TPM2_ALG.SHA256
        )
        tpm.policy_pcr(trial, None, "sha256:0,2,4,7")
        policy = sign_policy(ec.generate_private_key(ec.SECP256R1()), values, "")
        assert bytes(tpm.policy_get_digest(trial)) == policy.digest()
        tpm.policy_restart(trial)

        ticket = TPMT_TK_VERIFIED(tag=TPM2_ST.VERIFIED, hierarchy=TPM2_RH.OWNER)
        tpm.policy_authorize(trial, b"", authority_name(authority), ticket, policy_ref=b"ostiary store v1")
        tpm.policy_nv(
            ESYS_TR.OWNER,
            tpm.tr_from_tpmpublic(index),
            trial,
            (5).to_bytes(8),
            TPM2_EO.UNSIGNED_LE,
            session1=ESYS_TR.PASSWORD,
        )
        assert bytes(tpm.policy_get_digest(trial)) == sealing_policy(authority_name(authority), name, 5)
        tpm.flush_context(trial)


def test_a_tpm_that_asks_for_patience_is_asked_again(swtpm: SwTpm) -> None:
    """TPM_RC_RETRY means that the command was not carried out; a lost connection does not say so."""
    tpm, calls = Tpm(swtpm.tcti, 0x8100_5A00), []

    def put_off(_: ESAPI) -> str:
        calls.append(1)
        if len(calls) < 3:
            raise TSS2_Exception(TPM2_RC.RETRY)
        return "done"

    assert tpm.run(put_off) == "done"
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (TPM2_RC.RETRY, TpmBusyError),
        (TPM2_RC.LOCKOUT, TpmLockedError),
        (TPM2_RC.POLICY_FAIL, SealPolicyError),
        (TPM2_RC.INTEGRITY, SealPolicyError),
        (TPM2_RC.FAILURE, StoreError),
        (0x000A000A, TpmBusyError),  # the TCTI's I/O error
    ],
)
def test_every_answer_of_the_tpm_has_one_meaning_for_the_operator(
    swtpm: SwTpm, code: int, meaning: type[StoreError]
) -> None:
    def refuse(_: ESAPI) -> None:
        raise TSS2_Exception(code)

    with pytest.raises(StoreError) as raised:
        Tpm(swtpm.tcti, 0x8100_5A00).run(refuse)
    assert type(raised.value) is meaning
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("coordinate", ["x", "y"])
def test_a_policy_authority_whose_key_begins_with_a_zero_is_as_good_as_any(
    tmp_path: Path, swtpm: SwTpm, coordinate: str
) -> None:
    """One P-256 key in 128 has such a coordinate; a store sealed to it must open again."""
    while True:
        key = ec.generate_private_key(ec.SECP256R1())
        if getattr(key.public_key().public_numbers(), coordinate) < 1 << 248:
            break
    public = tmp_path / "authority.pub"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    settings = swtpm.settings(policy_authority=public)
    keystore = TpmKeystore(tmp_path / "unit/store/tpm", settings)
    signed = sign_policy(key, keystore.measure(), "release 1").to_json()
    keystore.reseal(SignedPolicy.from_json(json.dumps(signed)))
    for _ in range(2):
        with open_store(tmp_path / "unit", settings) as store:
            assert store.vault.uids() == ()
        swtpm.reboot()


def test_a_marker_of_provisioning_beside_a_vault_erases_nobody(unit: Opener, tmp_path: Path) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.pin(b"no older than bundle 7")
    marker = tmp_path / "unit/store/tpm/provisioning"
    marker.touch()
    with unit() as store:
        assert store.vault.uids() == ("4711",)
        assert store.vault.pinned() == b"no older than bundle 7"
    assert not marker.exists()


@pytest.mark.parametrize("fresh", [True, False])
def test_nothing_is_provisioned_over_a_vault_whatever_the_key_files_say(
    unit: Opener, tmp_path: Path, fresh: bool
) -> None:
    with unit() as store:
        store.vault.enrol("4711", voiceprint(1))
    folder = tmp_path / "unit/store/tpm"
    shutil.copytree(folder, tmp_path / "kept")
    (folder / "provisioning").touch()
    if fresh:
        facts = folder / "tpm.json"
        facts.write_text(facts.read_text().replace('"fresh": false', '"fresh": true'))
    else:
        (folder / "tpm.json").unlink()
    with pytest.raises(StoreError, match="there is a vault here"):
        unit()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "kept", folder)
    with unit() as store:
        assert store.vault.uids() == ("4711",)


def test_who_only_signs_needs_the_keys_folder_for_reading_alone(unit: Opener, swtpm: SwTpm) -> None:
    """As the uplink's service has it: nothing there may be written."""
    with unit() as store:
        folder = store.folder
    alone = (
        'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && ! touch "$1/x" && exec "$2" -c "$3" "$@"'
    )
    sign = (
        "import json, sys; from pathlib import Path; from device.secure_store import StoreSettings;"
        "from device.secure_store.store import open_keystore;"
        "keys = open_keystore(Path(sys.argv[1]), StoreSettings(**json.loads(sys.argv[4])));"
        "print(len(keys.audit_signer().sign(b'a head')))"
    )
    settings = json.dumps({"tcti": swtpm.settings().tcti, "keystore": "tpm"})
    command = ["unshare", "--mount", "bash", "-c", alone, "_", str(folder), sys.executable, sign, settings]
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets us make no mount namespace")
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert done.stdout.strip() == "64", done.stderr


def test_two_who_use_one_tpm_in_software_do_not_flush_each_others_keys(swtpm: SwTpm) -> None:
    def sign(_: int) -> None:
        tpm = Tpm(swtpm.tcti, 0x8100_5A00)
        tpm.make_parent()
        key = tpm.create_signing_key(restricted=False)
        for _ in range(25):
            tpm.sign(key, bytes(32))

    with ThreadPoolExecutor(2) as both:
        list(both.map(sign, range(2)))
