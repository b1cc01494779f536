"""The store's operations on a TPM. Only this module and `tpm_link` use ESAPI; arguments and results are
bytes.

Every operation connects, works and disconnects, so that processes share a swtpm, which serves one client at a
time, like a device behind the kernel's resource manager. Secrets go through a salted session with parameter
encryption, whose salt is enciphered to a key that was pinned when the unit was provisioned: neither listening
on the bus nor answering in the TPM's place is enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESAPI, TPM2B_NV_PUBLIC, TPM2B_PUBLIC
from tpm2_pytss.constants import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_EO,
    TPM2_HC,
    TPM2_NT,
    TPM2_PT,
    TPM2_RH,
    TPM2_SE,
    TPM2_ST,
    TPMA_NV,
    TPMA_OBJECT,
)
from tpm2_pytss.types import (
    TPM2B_DIGEST,
    TPM2B_ECC_POINT,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_NAME,
    TPM2B_SENSITIVE_CREATE,
    TPMS_ECC_POINT,
    TPMS_NV_PUBLIC,
    TPMS_SENSITIVE_CREATE,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
    TPMT_TK_HASHCHECK,
)
from tpm2_pytss.utils import make_credential

from device.secure_store.errors import SealPolicyError, StoreError
from device.secure_store.hardware.sealing_policy import POLICY_REF, SignedPolicy, approval
from device.secure_store.hardware.tpm_link import TpmLink, TpmObject, handles, loaded
from device.secure_store.memory import SecretBytes
from sync.keys import public_pem

_NV_ATTRIBUTES = (
    (TPM2_NT.COUNTER << TPMA_NV.TPM2_NT_SHIFT)
    | TPMA_NV.AUTHREAD
    | TPMA_NV.AUTHWRITE
    | TPMA_NV.OWNERREAD
    | TPMA_NV.NO_DA
)
_KEY = (
    TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.USERWITHAUTH
    | TPMA_OBJECT.NODA
)


@dataclass(frozen=True, slots=True)
class LockoutState:
    """The dictionary-attack protection. Nothing of ours raises `failures`."""

    in_lockout: bool
    failures: int
    max_failures: int


@dataclass(frozen=True, slots=True)
class Release:
    """The conditions for the key: approved PCRs, and with an epoch, its counter."""

    authority: ec.EllipticCurvePublicKey
    policy: SignedPolicy
    epoch_index: int | None = None
    epoch: int = 0


class Tpm(TpmLink):
    """The operations, each one connection long."""

    # The parent key

    def make_parent(self) -> bytes:
        """Make the storage key persistent, or take the present one. Returns its name.

        Raises StoreError when the handle holds another object.
        """
        attributes = _KEY | TPMA_OBJECT.RESTRICTED | TPMA_OBJECT.DECRYPT

        def work(tpm: ESAPI) -> bytes:
            template = TPM2B_PUBLIC.parse("ecc256:aes128cfb", objectAttributes=attributes)
            with loaded(
                tpm, tpm.create_primary(None, template, ESYS_TR.OWNER, session1=ESYS_TR.PASSWORD)[0]
            ) as key:
                name = bytes(tpm.tr_get_name(key))
                if self._parent_handle in handles(tpm, TPM2_HC.PERSISTENT_FIRST):
                    present = tpm.tr_from_tpmpublic(self._parent_handle)
                    if bytes(tpm.tr_get_name(present)) != name:
                        raise StoreError(f"TPM handle {self._parent_handle:#x} is used by something else")
                else:
                    tpm.evict_control(ESYS_TR.OWNER, key, self._parent_handle, session1=ESYS_TR.PASSWORD)
            return name

        self.pinned_parent = self.run(work)
        return self.pinned_parent

    def parent_public(self) -> bytes:
        """The parent's public area, to which another unit enciphers a backup."""
        return self.run(lambda tpm: bytes(tpm.read_public(self.parent(tpm))[0].marshal()))

    # Sealing

    def seal(self, payload: SecretBytes, auth_policy: bytes) -> TpmObject:
        """Seal up to 128 bytes to `auth_policy`; no password opens them."""
        attributes = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.NODA

        with payload.view() as data:
            sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(data=bytes(data)))
        return self._created("keyedhash", attributes, auth_policy, sensitive)

    def unseal(self, sealed: TpmObject, release: Release) -> SecretBytes:
        """The payload; raises SealPolicyError when one condition of `release` does not hold."""

        def work(tpm: ESAPI) -> SecretBytes:
            with (
                self.session(tpm) as session,
                self.load(tpm, sealed, session) as item,
                self._released(tpm, release) as policy,
            ):
                data = tpm.unseal(item, session1=policy, session2=session)
                return SecretBytes.copy_of(bytearray(bytes(data)))

        return self.run(work)

    # Agreeing on secrets

    def create_exchange_key(self, auth_policy: bytes) -> TpmObject:
        """A P-256 key for ECDH that cannot leave and works under `auth_policy` only."""
        attributes = (_KEY & ~TPMA_OBJECT.USERWITHAUTH) | TPMA_OBJECT.DECRYPT

        return self._created("ecc256:ecdh-sha256:null", attributes, auth_policy)

    def agree(self, key: TpmObject, point: ec.EllipticCurvePublicKey, release: Release) -> SecretBytes:
        """The secret shared with `point`, its x coordinate, 32 bytes (TPM2_ECDH_ZGen, Part 3, 14.5)."""
        numbers = point.public_numbers()
        given = TPMS_ECC_POINT(x=numbers.x.to_bytes(32), y=numbers.y.to_bytes(32))

        def work(tpm: ESAPI) -> SecretBytes:
            with (
                self.session(tpm) as session,
                self.load(tpm, key, session) as handle,
                self._released(tpm, release) as policy,
            ):
                shared = tpm.ecdh_zgen(handle, TPM2B_ECC_POINT(given), session1=policy, session2=session)
                return SecretBytes.copy_of(bytearray(bytes(shared.point.x).rjust(32, b"\0")))

        return self.run(work)

    @contextmanager
    def _released(self, tpm: ESAPI, release: Release) -> Iterator[Any]:
        """A policy session that fulfils every condition of `release`."""
        public = authority_public(release.authority)
        with (
            loaded(tpm, tpm.load_external(public, hierarchy=ESYS_TR.OWNER)) as authority,
            self.session(tpm, TPM2_SE.POLICY) as policy,
        ):
            digest = TPM2B_DIGEST(hashlib.sha256(approval(release.policy.digest())).digest())
            ticket = tpm.verify_signature(authority, digest, _tpmt_signature(release.policy.signature))
            tpm.policy_pcr(policy, None, _selection(release.policy.pcrs))
            name = tpm.tr_get_name(authority)
            tpm.policy_authorize(policy, release.policy.digest(), name, ticket, policy_ref=POLICY_REF)
            if release.epoch_index is not None:
                index = tpm.tr_from_tpmpublic(release.epoch_index)
                operand = release.epoch.to_bytes(8)
                tpm.policy_nv(
                    ESYS_TR.OWNER, index, policy, operand, TPM2_EO.UNSIGNED_LE, session1=ESYS_TR.PASSWORD
                )
            yield policy

    # Signing

    def create_signing_key(self, *, restricted: bool) -> TpmObject:
        """An ECDSA P-256 key that cannot leave. A restricted one signs only what the TPM itself states."""
        attributes = _KEY | TPMA_OBJECT.SIGN_ENCRYPT | (TPMA_OBJECT.RESTRICTED if restricted else 0)

        return self._created("ecc256:ecdsa-sha256:null", attributes)

    def sign(self, key: TpmObject, digest: bytes) -> bytes:
        """ES256 over a SHA-256 digest: raw r || s. A TPM chip takes 100 ms or more."""

        def work(tpm: ESAPI) -> bytes:
            ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
            with self.load(tpm, key) as handle:
                signature = tpm.sign(
                    handle, TPM2B_DIGEST(digest), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket
                )
                return _raw(signature)

        return self.run(work)

    def quote(self, key: TpmObject, pcrs: tuple[int, ...], nonce: bytes) -> tuple[bytes, bytes]:
        """(TPMS_ATTEST, raw signature) over these PCRs and `nonce`."""

        def work(tpm: ESAPI) -> tuple[bytes, bytes]:
            with self.load(tpm, key) as handle:
                attest, signature = tpm.quote(handle, _selection(pcrs), nonce)
                return bytes(attest), _raw(signature)

        return self.run(work)

    # Counters

    def define_counter(self, index: int, auth: SecretBytes) -> bytes:
        """A counter that only `auth` can raise and anybody may read. Returns its name."""

        def work(tpm: ESAPI) -> bytes:
            area = TPMS_NV_PUBLIC(
                nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=_NV_ATTRIBUTES, authPolicy=b"", dataSize=8
            )
            with auth.view() as value, self.session(tpm) as session:
                handle = tpm.nv_define_space(
                    bytes(value), TPM2B_NV_PUBLIC(area), ESYS_TR.OWNER, session1=session
                )
                tpm.tr_set_auth(handle, bytes(value))
                tpm.nv_increment(handle, session1=session)
            return bytes(tpm.nv_read_public(handle)[1])

        return self.run(work)

    def remove_counter(self, index: int) -> None:
        def work(tpm: ESAPI) -> None:
            if index in handles(tpm, TPM2_HC.NV_INDEX_FIRST):
                tpm.nv_undefine_space(tpm.tr_from_tpmpublic(index), ESYS_TR.OWNER, session1=ESYS_TR.PASSWORD)

        self.run(work)

    def counters_present(self, indices: tuple[int, ...]) -> bool:
        return bool(set(indices) & set(self.run(lambda tpm: handles(tpm, TPM2_HC.NV_INDEX_FIRST))))

    def counter_value(self, index: int, name: bytes) -> int:
        """Raises SealPolicyError when the index is missing or has another name."""

        def work(tpm: ESAPI) -> int:
            with self.session(tpm) as session:
                handle = self._counter(tpm, index, name)
                return int.from_bytes(bytes(tpm.nv_read(handle, 8, 0, ESYS_TR.OWNER, session1=session)))

        return self.run(work)

    def advance_counter(self, index: int, name: bytes, auth: SecretBytes) -> int:
        def work(tpm: ESAPI) -> int:
            with auth.view() as value, self.session(tpm) as session:
                handle = self._counter(tpm, index, name)
                tpm.tr_set_auth(handle, bytes(value))
                tpm.nv_increment(handle, session1=session)
                return int.from_bytes(bytes(tpm.nv_read(handle, 8, 0, session1=session)))

        return self.run(work)

    # State

    def pcr_values(self, pcrs: tuple[int, ...]) -> dict[int, bytes]:
        """By PCR number, of the SHA-256 bank. Raises StoreError when the TPM has none."""

        def work(tpm: ESAPI) -> dict[int, bytes]:
            values: dict[int, bytes] = {}
            for pcr in pcrs:  # at most eight fit one answer, and not every TPM gives eight
                _, _, digests = tpm.pcr_read(_selection((pcr,)))
                if not len(digests):
                    raise StoreError("this TPM has no SHA-256 PCR bank")
                values[pcr] = bytes(digests[0])
            return values

        return self.run(work)

    def lockout(self) -> LockoutState:
        def work(tpm: ESAPI) -> LockoutState:
            permanent = _property(tpm, TPM2_PT.PERMANENT)
            return LockoutState(
                bool(permanent & (1 << 9)),  # TPMA_PERMANENT inLockout (Part 2, 8.6)
                _property(tpm, TPM2_PT.LOCKOUT_COUNTER),
                _property(tpm, TPM2_PT.MAX_AUTH_FAIL),
            )

        return self.run(work)

    def activate(self, key: TpmObject, credential: bytes, secret: bytes) -> SecretBytes:
        """Open what `credential_for` enciphered to this TPM's parent and `key` together."""

        def work(tpm: ESAPI) -> SecretBytes:
            id_object, _ = TPM2B_ID_OBJECT.unmarshal(credential)
            encrypted, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(secret)
            with self.session(tpm) as session, self.load(tpm, key, session) as handle:
                info = tpm.activate_credential(
                    handle,
                    self.parent(tpm),
                    id_object,
                    encrypted,
                    session1=ESYS_TR.PASSWORD,
                    session2=session,
                )
                return SecretBytes.copy_of(bytearray(bytes(info)))

        return self.run(work)

    def _created(
        self,
        kind: str,
        attributes: int,
        auth_policy: bytes = b"",
        sensitive: TPM2B_SENSITIVE_CREATE | None = None,
    ) -> TpmObject:
        """An object below the parent key, of a `kind` as pytss spells it."""

        def work(tpm: ESAPI) -> TpmObject:
            template = TPM2B_PUBLIC.parse(kind, objectAttributes=attributes, authPolicy=auth_policy)
            with self.session(tpm) as session:
                private, public, *_ = tpm.create(self.parent(tpm), sensitive, template, session1=session)
            return TpmObject(public.marshal(), private.marshal())

        return self.run(work)

    def _counter(self, tpm: ESAPI, index: int, name: bytes) -> Any:
        if index not in handles(tpm, TPM2_HC.NV_INDEX_FIRST):
            raise SealPolicyError(f"the TPM's counter {index:#x} is gone: the TPM was cleared or replaced")
        handle = tpm.tr_from_tpmpublic(index)
        if bytes(tpm.tr_get_name(handle)) != name:
            raise SealPolicyError(f"the TPM's counter {index:#x} was defined again by somebody else")
        return handle


def credential_for(parent_public: bytes, key_name: bytes, secret: SecretBytes) -> tuple[bytes, bytes]:
    """Encipher up to 32 bytes to the TPM that has both keys (Part 1, 24)."""
    public, _ = TPM2B_PUBLIC.unmarshal(parent_public)
    with secret.view() as data:
        credential, encrypted = make_credential(public, bytes(data), TPM2B_NAME(key_name))
    return credential.marshal(), encrypted.marshal()


def authority_public(authority: ec.EllipticCurvePublicKey) -> TPM2B_PUBLIC:
    """The policy authority's key as the TPM knows it. Its name is part of every sealed key's policy."""
    attributes = TPMA_OBJECT.SIGN_ENCRYPT | TPMA_OBJECT.USERWITHAUTH
    public = TPM2B_PUBLIC.from_pem(public_pem(authority), objectAttributes=attributes)
    # pytss drops leading zeros, and a TPM takes coordinates of the curve's full length only: without this
    # one key in 128 provisions a unit whose store never opens again.
    point = public.publicArea.unique.ecc
    point.x = bytes(point.x).rjust(32, b"\0")
    point.y = bytes(point.y).rjust(32, b"\0")
    return public


def authority_name(authority: ec.EllipticCurvePublicKey) -> bytes:
    return bytes(authority_public(authority).get_name())


def _property(tpm: ESAPI, which: int) -> int:
    _, data = tpm.get_capability(TPM2_CAP.TPM_PROPERTIES, which, 1)
    return int(data.data.tpmProperties[0].value)


def _selection(pcrs: tuple[int, ...]) -> str:
    return "sha256:" + ",".join(map(str, sorted(pcrs)))


def _raw(signature: TPMT_SIGNATURE) -> bytes:
    ecdsa = signature.signature.ecdsa
    return bytes(ecdsa.signatureR).rjust(32, b"\0") + bytes(ecdsa.signatureS).rjust(32, b"\0")


def _tpmt_signature(raw: bytes) -> TPMT_SIGNATURE:
    signature = TPMT_SIGNATURE(sigAlg=TPM2_ALG.ECDSA)
    signature.signature.ecdsa.hash = TPM2_ALG.SHA256
    signature.signature.ecdsa.signatureR = raw[:32]
    signature.signature.ecdsa.signatureS = raw[32:]
    return signature
