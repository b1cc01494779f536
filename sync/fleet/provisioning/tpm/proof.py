"""Checks what a TPM states about its keys. Pure: bytes in, no TPM needed.

A key in a TPM is known by its public area, whose hash is its *name*. The endorsement key (EK) is the TPM's
own; the attestation key (AK) is restricted, so it signs only what the TPM itself states. A credential is
enciphered to both: the TPM that answers has both. What the AK then certifies is in that TPM as well.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass

os.environ.setdefault("TSS2_LOG", "all+none")  # its errors come to us as return codes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tpm2_pytss import TPM2B_NAME, TPM2B_PUBLIC, TSS2_Exception
from tpm2_pytss.constants import TPM2_ALG, TPM2_ST, TPMA_OBJECT
from tpm2_pytss.types import TPMS_ATTEST
from tpm2_pytss.utils import make_credential

from sync.cose import ES256, der_signature
from sync.errors import MalformedError, ProofError

MAX_PUBLIC_BYTES = 1024
MAX_STATEMENT_BYTES = 1024
SECRET_BYTES = 32
NONCE_BYTES = 32
_MAGIC = 0xFF544347  # TPM_GENERATED_VALUE: a restricted key signs it for nobody but the TPM itself

_BORN_HERE = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.SENSITIVEDATAORIGIN
_MEANT_FOR = TPMA_OBJECT.RESTRICTED | TPMA_OBJECT.DECRYPT | TPMA_OBJECT.SIGN_ENCRYPT
PURPOSES = {
    "endorsement": TPMA_OBJECT.RESTRICTED | TPMA_OBJECT.DECRYPT,
    "attestation": TPMA_OBJECT.RESTRICTED | TPMA_OBJECT.SIGN_ENCRYPT,
    "signing": TPMA_OBJECT.SIGN_ENCRYPT,
    "exchange": TPMA_OBJECT.DECRYPT,
}
"""What a key may do, and therefore what it may not."""


@dataclass(frozen=True, slots=True)
class TpmKey:
    """A key's public area as its TPM states it: `raw` is TPM2B_PUBLIC, `name` hashes all of it."""

    raw: bytes
    name: bytes
    purpose: str
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey

    def digest(self) -> str:
        """SHA-256 of the public area, hex: of an endorsement key, the identity of its TPM."""
        return hashlib.sha256(self.raw).hexdigest()

    def p256(self) -> ec.EllipticCurvePublicKey:
        """Raises ProofError for another kind of key."""
        if not isinstance(self.key, ec.EllipticCurvePublicKey) or self.key.curve.name != "secp256r1":
            raise ProofError(f"the {self.purpose} key is not on the curve P-256")
        return self.key


def read_key(raw: bytes, purpose: str) -> TpmKey:
    """A key for `purpose` that was made in a TPM and cannot leave it, provided that the TPM certifies it.

    Raises MalformedError for anything but one public area, ProofError for the wrong attributes.
    """
    if len(raw) > MAX_PUBLIC_BYTES:
        raise MalformedError("a public area is shorter than this")
    try:
        public, used = TPM2B_PUBLIC.unmarshal(raw)
        if used != len(raw) or public.marshal() != raw:
            raise MalformedError("this is not one TPM public area")
        area = public.publicArea
        if area.nameAlg != TPM2_ALG.SHA256:
            raise ProofError(f"the {purpose} key is named by another hash than SHA-256")
        attributes = int(area.objectAttributes)
        key = load_der_public_key(public.to_der())
        name = bytes(public.get_name())
    except (TSS2_Exception, ValueError, TypeError, OverflowError, RuntimeError, AttributeError) as err:
        raise MalformedError("this is not a TPM public area") from err
    if attributes & _BORN_HERE != _BORN_HERE:
        raise ProofError(
            f"the {purpose} key was not made in the TPM, or may leave it: a key in a file is refused"
        )
    if attributes & _MEANT_FOR != PURPOSES[purpose]:
        raise ProofError(f"the {purpose} key may be used for something else")
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ProofError(f"the {purpose} key is of an unknown kind")
    return TpmKey(raw, name, purpose, key)


def credential(endorsement: TpmKey, attestation: TpmKey, secret: bytes) -> tuple[bytes, bytes]:
    """Encipher up to 32 bytes so that only the TPM with both keys reads them (TPM 2.0 Part 1, 24).

    Returns (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET). Raises ProofError for a key that nothing can be
    enciphered to.
    """
    try:
        public, _ = TPM2B_PUBLIC.unmarshal(endorsement.raw)
        blob, seed = make_credential(public, secret, TPM2B_NAME(attestation.name))
        return blob.marshal(), seed.marshal()
    except (TSS2_Exception, ValueError, TypeError, RuntimeError, AttributeError) as err:
        raise ProofError("nothing can be enciphered to this endorsement key") from err


@dataclass(frozen=True, slots=True)
class Statement:
    """What a restricted key signed: TPMS_ATTEST, and an ES256 signature (r || s)."""

    attest: bytes
    signature: bytes


def verify_certified(
    statement: Statement, subject: TpmKey, attestation: ec.EllipticCurvePublicKey, nonce: bytes
) -> None:
    """Check that the TPM of `attestation` holds `subject`, stated for `nonce`. Raises ProofError."""
    found = _stated(statement, attestation, nonce, TPM2_ST.ATTEST_CERTIFY)
    if not hmac.compare_digest(bytes(found.attested.certify.name), subject.name):
        raise ProofError(
            f"the TPM vouches for another key than the {subject.purpose} key that came: it may be in a file"
        )


def verify_quote(
    statement: Statement, values: Mapping[int, bytes], attestation: ec.EllipticCurvePublicKey, nonce: bytes
) -> None:
    """Check that the TPM of `attestation` states exactly these PCR values (SHA-256) for `nonce`.

    Raises ProofError.

    A quote proves nothing about whose TPM it is: the key has to be known.
    """
    found = _stated(statement, attestation, nonce, TPM2_ST.ATTEST_QUOTE)
    banks = found.attested.quote.pcrSelect
    selected = [
        8 * at + bit
        for bank in banks
        for at, byte in enumerate(bytes(bank.pcrSelect)[: bank.sizeofSelect])
        for bit in range(8)
        if byte & (1 << bit)
    ]
    if len(banks) != 1 or banks[0].hash != TPM2_ALG.SHA256 or selected != sorted(values):
        raise ProofError("the quote covers other PCRs than it comes with")
    composite = hashlib.sha256(b"".join(values[pcr] for pcr in sorted(values))).digest()
    if bytes(found.attested.quote.pcrDigest) != composite:
        raise ProofError("the quote covers other PCR values than it comes with")


def _stated(
    statement: Statement, attestation: ec.EllipticCurvePublicKey, nonce: bytes, kind: TPM2_ST
) -> TPMS_ATTEST:
    # 1. signed by the attestation key; 2. one statement, made by a TPM, of this kind; 3. for this nonce
    # (TPM 2.0 Part 2, 10.12.8)
    if len(statement.attest) > MAX_STATEMENT_BYTES or len(statement.signature) != 64:
        raise MalformedError("this is not a TPM's statement and an ES256 signature")
    try:
        attestation.verify(der_signature(statement.signature), statement.attest, ES256)  # 1
    except InvalidSignature as err:
        raise ProofError("the TPM's statement is not signed by its attestation key") from err
    try:
        found, used = TPMS_ATTEST.unmarshal(statement.attest)
        well = used == len(statement.attest) and found.marshal() == statement.attest
        if not well or found.magic != _MAGIC or found.type != kind:  # 2
            raise ProofError("this is signed, but it is not the statement of a TPM that was asked for")
        extra = bytes(found.extraData)
    except (TSS2_Exception, ValueError, TypeError, RuntimeError) as err:
        raise ProofError("this is signed, but it is no statement of a TPM") from err
    if not hmac.compare_digest(extra, nonce):  # 3
        raise ProofError("the TPM's statement answers another nonce: it may be played back")
    return found
