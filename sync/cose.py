"""COSE_Sign1 (RFC 9052 4.2) with ES256, small enough to read in one go. Any COSE library verifies it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync.errors import MalformedError, ProofError
from sync.events import Signer

TAG_SIGN1 = 18
MAX_SIGN1_BYTES = 4096
ES256 = ec.ECDSA(hashes.SHA256())


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """Eight bytes that name a public key: the start of the SHA-256 of its SubjectPublicKeyInfo."""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()[:8]


def sign1(payload: bytes, signer: Signer, content_type: str) -> bytes:
    """A tagged COSE_Sign1. `content_type` is protected: a receipt never passes for a head."""
    protected = _protected(content_type)
    signature = signer.sign(_to_be_signed(protected, payload))
    message = [protected, {4: key_id(signer.public_key())}, payload, signature]
    return cbor2.dumps(cbor2.CBORTag(TAG_SIGN1, message), canonical=True)


def open1(message: bytes, key: ec.EllipticCurvePublicKey, content_type: str) -> bytes:
    """The payload, once every check has passed. Raises MalformedError or ProofError."""
    protected, kid, payload, signature = _parts(message)
    # 0. The unsigned key id names this key, so not even that can be changed unseen.
    if kid != key_id(key):
        raise ProofError("the message is signed by another key")
    # 1. Algorithm and content type are exactly ours, in the one encoding: no downgrade, no confusion.
    if protected != _protected(content_type):
        raise MalformedError("a signed message has another algorithm or content type")
    # 2. The signature is r || s.
    if len(signature) != 64:
        raise MalformedError("an ES256 signature has 64 bytes")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    # 3. RFC 9052 4.4.
    try:
        key.verify(encode_dss_signature(r, s), _to_be_signed(protected, payload), ES256)
    except InvalidSignature as err:
        raise ProofError("the signature is not by this key over this content") from err
    return payload


def peek1(message: bytes) -> bytes:
    """The payload *unverified*: only to learn whose key to verify it with."""
    return _parts(message)[2]


@functools.lru_cache(maxsize=16)
def _protected(content_type: str) -> bytes:
    return cbor2.dumps({1: -7, 3: content_type}, canonical=True)


def _parts(message: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    if type(message) is not bytes or len(message) > MAX_SIGN1_BYTES:
        raise MalformedError("a signed message is at most 4 kB")
    try:
        tagged = cbor2.loads(message)
    except Exception as err:
        raise MalformedError("a signed message is not CBOR") from err
    if not isinstance(tagged, cbor2.CBORTag) or tagged.tag != TAG_SIGN1:
        raise MalformedError("not a COSE_Sign1")
    parts = tagged.value
    if not isinstance(parts, list | tuple) or len(parts) != 4:
        raise MalformedError("not a COSE_Sign1")
    protected, unprotected, payload, signature = parts
    if not (type(protected) is type(payload) is type(signature) is bytes):
        raise MalformedError("not a COSE_Sign1")
    # What nothing signs must carry nothing: one key id, in the one encoding.
    kid = unprotected.get(4) if isinstance(unprotected, Mapping) and len(unprotected) == 1 else None
    whole = cbor2.CBORTag(TAG_SIGN1, [protected, {4: kid}, payload, signature])
    if type(kid) is not bytes or len(kid) != 8 or cbor2.dumps(whole, canonical=True) != message:
        raise MalformedError("a signed message is not in the deterministic encoding")
    return protected, kid, payload, signature


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return cbor2.dumps(["Signature1", protected, b"", payload], canonical=True)
