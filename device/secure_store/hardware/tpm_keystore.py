"""The keystore on a TPM 2.0: secrets sealed, counters counted, keys where they cannot leave."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import SealPolicyError, StoreError, TpmLockedError
from device.secure_store.exchange import Exchange
from device.secure_store.hardware.sealing_policy import (
    PcrValues,
    SignedPolicy,
    approved_policy,
    matching,
    sealing_policy,
    sign_policy,
    verify_policy,
)
from device.secure_store.hardware.tpm import Release, Tpm, authority_name
from device.secure_store.hardware.tpm_files import TpmFacts, TpmFiles, object_fields, read_authority
from device.secure_store.hardware.tpm_link import TpmObject
from device.secure_store.keystore import (
    COUNTERS,
    ROOT_BYTES,
    KeystoreStatus,
    Secrets,
    checked_counter,
)
from device.secure_store.memory import SecretBytes
from device.secure_store.settings import StoreSettings
from device.secure_store.voiceprints.vault_file import refuse_over_a_vault, write_durably
from sync.events import Counter, Signer
from sync.keys import FileSigner, public_pem
from sync.plain_file import plain_bytes

_PERSISTENT = 0x8100_0000


@dataclass(frozen=True, slots=True)
class Quote:
    """A TPM's statement about how its machine started; `sync.fleet.provisioning.tpm.proof` checks it.

    `statement` is TPMS_ATTEST, `signature` ES256 raw by the attestation key, `values` the PCRs.
    """

    statement: bytes
    signature: bytes
    values: PcrValues


class TpmKeystore:
    """Provisions itself on first use. Raises TpmBusyError, TpmLockedError or SealPolicyError."""

    kind = "tpm"
    warning: str | None = None

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self._settings = settings
        self._files = TpmFiles(folder)
        self.tpm = Tpm(settings.tcti, _PERSISTENT | (settings.nv_base & 0xFFFF))
        self._indices = {name: settings.nv_base + i for i, name in enumerate(COUNTERS)}
        self._nv_auth: SecretBytes | None = None
        facts = self._files.facts()
        if facts is None or (facts.fresh and self._files.marker.exists()):
            facts = self._provision()
        if self._files.marker.exists():  # beside facts with a vault it means nothing
            self._files.marker.unlink()  # and the uplink, which sees the folder read-only, has none to remove
        self._facts = facts
        self.tpm.pinned_parent = bytes.fromhex(facts.parent_name)
        if settings.policy_authority is not None:
            wanted = read_authority(plain_bytes(settings.policy_authority))
            if wanted != facts.authority():
                raise SealPolicyError(
                    "this store trusts another policy authority than the settings name; "
                    "`ostiary store init --replace` makes an empty one under the new authority"
                )

    def fresh(self) -> bool:
        return self._facts.fresh

    def confirm(self) -> None:
        self._facts = replace(self._facts, fresh=False)
        self._files.save_facts(self._facts)

    def unlock(self) -> tuple[Secrets, ...]:
        blobs = self._files.sealed()
        epoch_now = self.counter("epoch").value()
        alive = sorted((e for e in blobs if e >= epoch_now), reverse=True)
        if not alive:
            raise SealPolicyError("the sealed key on this disk is older than the TPM allows: it was put back")
        present = self.tpm.pcr_values(self._pcrs())
        policy = matching(self._approved(), present)
        authority, index = self._facts.authority(), self._indices["epoch"]
        found = []
        for epoch in alive:
            with self.tpm.unseal(blobs[epoch], Release(authority, policy, index, epoch)) as payload:
                found.append(_split(epoch, payload))
        self._take_nv_auth(found[0])
        return tuple(found)

    def stage(self, secrets: Secrets) -> None:
        policy = sealing_policy(
            authority_name(self._facts.authority()), self._counter_name("epoch"), secrets.epoch
        )
        with _join(secrets) as payload:
            self._files.save_sealed(secrets.epoch, self.tpm.seal(payload, policy))

    def settle(self, epoch: int) -> None:
        counter = self.counter("epoch")
        present = counter.value()
        while present < epoch:
            present = counter.advance()
        self._files.drop_sealed(keep=epoch)

    def counter(self, name: str) -> Counter:
        return _NvCounter(self, self._indices[checked_counter(name)], self._counter_name(name))

    def audit_signer(self) -> Signer:
        return _TpmSigner(self.tpm, self._facts.audit_key())

    def exchange(self) -> Exchange:
        return _TpmExchange(self, self.exchange_object())

    def exchange_object(self) -> TpmObject:
        """The exchange key, made on the first call, which a fleet's authority certifies."""
        made = self._files.exchange()
        if made is None:
            made = self.tpm.create_exchange_key(approved_policy(authority_name(self._facts.authority())))
            self._files.save_exchange(made)
        return made

    def agree(self, key: TpmObject, point: ec.EllipticCurvePublicKey) -> SecretBytes:
        policy = matching(self._approved(), self.tpm.pcr_values(self._pcrs()))
        return self.tpm.agree(key, point, Release(self._facts.authority(), policy))

    def attestation_key(self) -> ec.EllipticCurvePublicKey:
        """The key that signs quotes and nothing else."""
        return self._facts.attestation_key().public_key()

    def audit_object(self) -> TpmObject:
        return self._facts.audit_key()

    def attestation_object(self) -> TpmObject:
        return self._facts.attestation_key()

    def quote(self, nonce: bytes) -> Quote:
        """The TPM's statement about the PCRs, bound to `nonce` (8 to 32 bytes)."""
        pcrs = self._pcrs()
        statement, signature = self.tpm.quote(self._facts.attestation_key(), pcrs, nonce)
        return Quote(statement, signature, self.tpm.pcr_values(pcrs))

    def measure(self) -> dict[int, bytes]:
        """The PCR values an administrator may approve."""
        return self.tpm.pcr_values(self._settings.pcrs)

    def power_ups(self) -> int:
        """TPMS_CLOCK_INFO: `resetCount` rises whenever the TPM starts without a state that was saved."""
        return self.tpm.run(lambda tpm: int(tpm.read_clock().clockInfo.resetCount))

    def authority(self) -> ec.EllipticCurvePublicKey:
        return self._facts.authority()

    def reseal(self, policy: SignedPolicy | None) -> SignedPolicy:
        """Accept a signed PCR set; without one, a laptop's own authority approves the present state.

        Seals nothing again: the sealed key trusts what its authority signs (PolicyAuthorize).
        """
        if policy is None:
            policy = sign_policy(self._own_authority(), self.measure(), "approved on this machine")
        verify_policy(policy, self._facts.authority())
        self._files.add_policy(policy)
        return policy

    def status(self) -> KeystoreStatus:
        """The state of the TPM; one that refuses or is away is a state, not an error."""
        try:
            lockout = self.tpm.lockout()
            facts: dict[str, str | int | bool] = {
                "tcti": self._settings.tcti,
                "pcrs": ",".join(map(str, self._pcrs())),
                "signed policies": len(self._files.policies()),
                "authority on this machine": self._files.own_authority.exists(),
                "lockout failures": lockout.failures,
                "lockout limit": lockout.max_failures,
                "parent key": self._facts.parent_name[:16],
            }
            for name in COUNTERS:
                facts[f"counter {name}"] = self.counter(name).value()
            if lockout.in_lockout:
                raise TpmLockedError("locked by wrong passwords; wait, or clear it with the lockout password")
            matching(self._approved(), self.tpm.pcr_values(self._pcrs()))
        except StoreError as err:
            told: dict[str, str | int | bool] = {"tcti": self._settings.tcti}
            return KeystoreStatus(self.kind, False, str(err), told, isinstance(err, TpmLockedError))
        return KeystoreStatus(self.kind, True, "TPM ready, machine in an approved state", facts)

    def close(self) -> None:
        if self._nv_auth is not None:
            self._nv_auth.wipe()

    # Inside

    def _provision(self) -> TpmFacts:
        """Make keys and counters. A power cut leaves the marker, and the next start begins again.

        1. Refuse where a vault lies, or where the TPM has our counters without files and marker: then the
        vault that they guard was taken away. 2. Marker. 3. Parent key. 4. Counters, under an authorisation
        derived from the new anchor. 5. Secrets sealed, keys made, an approved state on a laptop. 6. Facts. 7.
        Marker off.
        """
        files, indices = self._files, tuple(self._indices.values())
        refuse_over_a_vault(files.folder.parent)  # 1
        if not files.marker.exists() and self.tpm.counters_present(indices):
            raise StoreError(
                "this TPM holds the counters of a store whose files are missing: see that their disk is "
                "mounted, or restore them; once they are lost for good, `ostiary store init --replace` "
                "starts an empty one"
            )
        authority = self._authority_for_new_store()
        write_durably(files.marker, b"provisioning\n")  # 2
        files.forget_facts()
        files.forget_exchange()
        files.drop_sealed(keep=None)
        parent = self.tpm.make_parent()  # 3
        secrets = Secrets.fresh(epoch=0)
        auth = secrets.anchor.derive("nv auth")
        names = {}
        for name, index in self._indices.items():  # 4
            self.tpm.remove_counter(index)
            names[name] = self.tpm.define_counter(index, auth).hex()
        auth.wipe()
        audit, attestation = (self.tpm.create_signing_key(restricted=r) for r in (False, True))  # 5
        pem = public_pem(authority)
        facts = TpmFacts(
            True, parent.hex(), names, object_fields(audit), object_fields(attestation), pem.decode()
        )
        self._facts = facts
        self.stage(Secrets(self.counter("epoch").value(), secrets.root, secrets.anchor))
        secrets.wipe()
        if files.own_authority.exists():
            self.reseal(None)
        files.save_facts(facts)  # 6
        files.marker.unlink()  # 7
        return facts

    def _authority_for_new_store(self) -> ec.EllipticCurvePublicKey:
        if self._settings.policy_authority is not None:
            self._files.own_authority.unlink(missing_ok=True)
            return read_authority(plain_bytes(self._settings.policy_authority))
        if self._settings.profile == "production":
            raise SealPolicyError(
                "in production the store needs `policy_authority`, a public key; see docs/adr/0003"
            )
        if not self._files.own_authority.exists():
            write_durably(self._files.own_authority, FileSigner.generate().private_pem())
        return self._own_authority().public_key()

    def _own_authority(self) -> ec.EllipticCurvePrivateKey:
        if not self._files.own_authority.exists():
            raise SealPolicyError(
                "this unit cannot approve itself: sign the output of `ostiary store measure` with the policy "
                "authority's key (`ostiary store sign-policy`) and give that file to `ostiary store reseal`"
            )
        key = serialization.load_pem_private_key(plain_bytes(self._files.own_authority), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SealPolicyError("the policy authority is a key on P-256")
        return key

    def _approved(self) -> tuple[SignedPolicy, ...]:
        """The policies that the authority signed; forged entries on the disk are left out."""
        approved = []
        for policy in self._files.policies():
            with suppress(SealPolicyError):
                approved.append(verify_policy(policy, self._facts.authority()))
        return tuple(approved)

    def _pcrs(self) -> tuple[int, ...]:
        """The PCRs of settings and installed policies: a signed update may change the selection."""
        named = {pcr for policy in self._files.policies() for pcr in policy.pcrs}
        return tuple(sorted(named | set(self._settings.pcrs)))

    def _counter_name(self, name: str) -> bytes:
        return bytes.fromhex(self._facts.counter_names[name])

    def _take_nv_auth(self, secrets: Secrets) -> None:
        if self._nv_auth is not None:
            self._nv_auth.wipe()
        self._nv_auth = secrets.anchor.derive("nv auth")

    def advance(self, index: int, name: bytes) -> int:
        if self._nv_auth is None:
            raise StoreError("the store has to be unlocked before it counts")
        return self.tpm.advance_counter(index, name, self._nv_auth)


class _NvCounter:
    def __init__(self, store: TpmKeystore, index: int, name: bytes) -> None:
        self._store = store
        self._index = index
        self._name = name

    def value(self) -> int:
        return self._store.tpm.counter_value(self._index, self._name)

    def advance(self) -> int:
        return self._store.advance(self._index, self._name)


class _TpmSigner:
    """For heads of batches, not for every event: a TPM chip takes 100 ms or more."""

    def __init__(self, tpm: Tpm, key: TpmObject) -> None:
        self._tpm = tpm
        self._key = key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        return self._tpm.sign(self._key, hashlib.sha256(message).digest())


class _TpmExchange:
    def __init__(self, store: TpmKeystore, key: TpmObject) -> None:
        self._store = store
        self._key = key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def agree(self, point: ec.EllipticCurvePublicKey) -> SecretBytes:
        return self._store.agree(self._key, point)


def _join(secrets: Secrets) -> SecretBytes:
    payload = SecretBytes(2 * ROOT_BYTES)
    with payload.view() as both, secrets.root.view() as root, secrets.anchor.view() as anchor:
        both[:ROOT_BYTES], both[ROOT_BYTES:] = root, anchor
    return payload


def _split(epoch: int, payload: SecretBytes) -> Secrets:
    with payload.view() as both:
        if len(both) != 2 * ROOT_BYTES:
            raise SealPolicyError("what the TPM released is not this store's key")
        root, anchor = SecretBytes.copy_of(both[:ROOT_BYTES]), SecretBytes.copy_of(both[ROOT_BYTES:])
        return Secrets(epoch, root, anchor)


def remove_counters(settings: StoreSettings) -> None:
    """Remove the store's counters: what was sealed under them never opens again."""
    tpm = Tpm(settings.tcti, _PERSISTENT | (settings.nv_base & 0xFFFF))
    for i in range(len(COUNTERS)):
        tpm.remove_counter(settings.nv_base + i)
