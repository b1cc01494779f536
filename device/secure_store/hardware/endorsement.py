"""Proves which TPM this is and which keys are in it.

The endorsement key (EK) is made again from the maker's template at each use: it is always the same key, and
nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tpm2_pytss import ESAPI, TPM2B_PUBLIC
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_HC, TPM2_SE
from tpm2_pytss.types import (
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
)
from tpm2_pytss.utils import NVReadEK, create_ek_template

from device.secure_store.errors import StoreError
from device.secure_store.hardware.tpm import _raw
from device.secure_store.hardware.tpm_link import TpmLink, TpmObject, handles, loaded

RSA, ECC = "EK-RSA2048", "EK-ECC256"
HIGH_RSA, HIGH_ECC = "EK-HIGH-RSA2048", "EK-HIGH-ECC256"
KINDS = (ECC, RSA, HIGH_ECC, HIGH_RSA)
"""Keys of the high range count only with a certificate. Its larger ones (P-384, RSA 3072) have names of
another hash, and are not used.
"""
_CERTIFICATES = {RSA: 0x01C0_0002, ECC: 0x01C0_000A, HIGH_RSA: 0x01C0_0012, HIGH_ECC: 0x01C0_0014}
"""Where a maker puts a certificate (TCG EK Credential Profile 2.2.1.4); the chain lies in another range."""
_CHAIN = range(0x01C0_0100, 0x01C0_0200)
_MOST_CHAIN = 8


@dataclass(frozen=True, slots=True)
class Endorsement:
    """`public` is TPM2B_PUBLIC; `certificate` and `chain` are raw bytes from the TPM, or empty."""

    kind: str
    public: bytes
    certificate: bytes
    chain: tuple[bytes, ...]


def endorsement(tpm: TpmLink, kind: str | None = None) -> Endorsement:
    """The endorsement key of `kind`; by default one with a certificate, the elliptic-curve one if in doubt.

    Raises StoreError as the TPM answers.
    """

    def work(esapi: ESAPI) -> Endorsement:
        present = handles(esapi, TPM2_HC.NV_INDEX_FIRST)
        with_certificate = [one for one in KINDS if _CERTIFICATES[one] in present]
        chosen = kind or (with_certificate[0] if with_certificate else ECC)
        read = _reader(esapi)
        certificate = read(_CERTIFICATES[chosen]) if chosen in with_certificate else b""
        chain = tuple(read(index) for index in sorted(present) if index in _CHAIN)[:_MOST_CHAIN]
        with _made(esapi, chosen) as (_, public):
            return Endorsement(chosen, public, certificate, chain)

    return tpm.run(work)


def open_credential(
    tpm: TpmLink, kind: str, attestation: TpmObject, credential: bytes, secret: bytes
) -> bytes:
    """Opens a credential for this TPM's endorsement key and `attestation` together (Part 1, 24).

    Raises SealPolicyError when it is for others.
    """

    def work(esapi: ESAPI) -> bytes:
        id_object, _ = TPM2B_ID_OBJECT.unmarshal(credential)
        encrypted, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(secret)
        cipher = TPMT_SYM_DEF.parse("aes128cfb")
        with _made(esapi, kind) as (key, _), tpm.load(esapi, attestation) as handle:
            started = esapi.start_auth_session(
                ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, cipher, TPM2_ALG.SHA256
            )
            with loaded(esapi, started) as session:
                # The low templates' policy: any user of the endorsement hierarchy. The high ones take the
                # key's own password, which is empty (TCG EK Credential Profile, B.6).
                esapi.policy_secret(ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
                by = ESYS_TR.PASSWORD if kind in (HIGH_RSA, HIGH_ECC) else session
                opened = esapi.activate_credential(
                    handle, key, id_object, encrypted, session1=ESYS_TR.PASSWORD, session2=by
                )
            return bytes(opened)

    return tpm.run(work)


def certify(tpm: TpmLink, attestation: TpmObject, key: TpmObject, nonce: bytes) -> tuple[bytes, bytes]:
    """(TPMS_ATTEST, raw signature): the TPM's word that `key` is in it, in answer to `nonce`."""

    def work(esapi: ESAPI) -> tuple[bytes, bytes]:
        with tpm.load(esapi, attestation) as signer, tpm.load(esapi, key) as subject:
            stated, signature = esapi.certify(
                subject,
                signer,
                nonce,
                TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
                session1=ESYS_TR.PASSWORD,
                session2=ESYS_TR.PASSWORD,
            )
            return bytes(stated), _raw(signature)

    return tpm.run(work)


def _reader(esapi: ESAPI) -> Any:
    """Reads NV memory; raises pytss' NoSuchIndex where there is none."""
    return NVReadEK(esapi)


@contextmanager
def _made(esapi: ESAPI, kind: str) -> Iterator[tuple[Any, bytes]]:
    """(handle, TPM2B_PUBLIC) of the endorsement key, while it is needed."""
    if kind not in KINDS:
        raise StoreError(f"{kind} is no kind of endorsement key; they are {', '.join(KINDS)}")
    try:
        _, template = create_ek_template(kind, _reader(esapi))
    except ValueError as err:  # one of the high range whose certificate is gone
        raise StoreError("the TPM has no endorsement key of this kind any more") from err
    key, public, *_ = esapi.create_primary(
        None, TPM2B_PUBLIC(template.publicArea), ESYS_TR.ENDORSEMENT, session1=ESYS_TR.PASSWORD
    )
    with loaded(esapi, key):
        yield key, bytes(public.marshal())
