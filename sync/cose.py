"""COSE_Sign1 (RFC 9052 4.2) with ES256; any COSE library verifies it."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync.cbor import dump_fields, fields
from sync.errors import MalformedError, ProofError
from sync.events import Signer, UnitId, unit_id

MAX_SIGN1_BYTES = 4096
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's group: (r, s) and (r, ORDER - s) are valid alike, so only the lower s is taken."""
_START = b"\xd2\x84"  # tag 18, a list of four
_KEY_ID = b"\xa1\x04\x48"  # a map of one: 4, eight bytes
ES256 = ec.ECDSA(hashes.SHA256())


_KEY_IDS: dict[int, tuple[ec.EllipticCurvePublicKey, bytes]] = {}
MAX_KEY_IDS = 50_000


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """Eight bytes that name a public key: the start of the SHA-256 of its SubjectPublicKeyInfo."""
    # A registry asks this of the same keys with every message. Keys cannot be hashed, so they are found by
    # their identity, and kept alive so that no other object takes it.
    known = _KEY_IDS.get(id(key))
    if known is not None and known[0] is key:
        return known[1]
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    made = hashlib.sha256(spki).digest()[:8]
    if len(_KEY_IDS) >= MAX_KEY_IDS:
        _KEY_IDS.clear()
    _KEY_IDS[id(key)] = key, made
    return made


def sign1(payload: bytes, signer: Signer, content_type: str) -> bytes:
    """A tagged COSE_Sign1. The signature covers `content_type`: a receipt never passes for a head."""
    protected = _protected(content_type)
    signature = low_s(signer.sign(_to_be_signed(protected, payload)))
    kid = key_id(signer.public_key())
    return b"".join((_START, _encoded(protected), _KEY_ID, kid, _encoded(payload), _encoded(signature)))


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
    # 3. Of its two forms the one with the lower s: nobody between the ends can make another message of it.
    if int.from_bytes(signature[32:]) > ORDER // 2:
        raise MalformedError("a signature has the higher of its two forms")
    # 4. RFC 9052 4.4.
    try:
        key.verify(der_signature(signature), _to_be_signed(protected, payload), ES256)
    except InvalidSignature as err:
        raise ProofError("the signature is not by this key over this content") from err
    return payload


def sign_fields(signer: Signer, content_type: str, unit: UnitId, *values: Any) -> bytes:
    """`values` of `unit` as numbered fields, signed. `open_fields` reads them."""
    return sign1(dump_fields(1, unit, *values), signer, content_type)


def open_fields(
    message: bytes, key: ec.EllipticCurvePublicKey, content_type: str, form: str, unit: UnitId, what: str
) -> list[Any]:
    """The values that `key` signed as those of `unit`, of the types in `form` (`sync.cbor.fields`).

    Raises MalformedError or ProofError, which call the message `what`.
    """
    version, name, *values = fields(open1(message, key, content_type), f"is{form}", MAX_SIGN1_BYTES)
    if version != 1:
        raise MalformedError(f"{what} of an unknown form")
    if unit_id(name) != unit:
        raise ProofError(f"{what} of another unit")
    return values


def raw_signature(der: bytes) -> bytes:
    """r || s, 32 bytes each, from the DER form of an ES256 signature."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(32) + s.to_bytes(32)


def der_signature(raw: bytes) -> bytes:
    """The inverse."""
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


def low_s(signature: bytes) -> bytes:
    """Of the two forms of an ES256 signature (r || s, 64 bytes) the one with the lower s."""
    s = int.from_bytes(signature[32:], "big")
    return signature[:32] + min(s, ORDER - s).to_bytes(32, "big")


def peek1(message: bytes) -> bytes:
    """The payload *unverified*: only to learn whose key to verify it with."""
    return _parts(message)[2]


@functools.lru_cache(maxsize=16)
def _protected(content_type: str) -> bytes:
    return cbor2.dumps({1: -7, 3: content_type}, canonical=True)


def _parts(message: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """(protected, key id, payload, signature), read without a decoder: there is only one encoding."""
    if type(message) is not bytes or len(message) > MAX_SIGN1_BYTES:
        raise MalformedError("a signed message is at most 4 kB")
    if not message.startswith(_START):
        raise MalformedError("not a COSE_Sign1")
    protected, at = _byte_string(message, len(_START))
    # What nothing signs carries nothing but one key id.
    if message[at : at + 3] != _KEY_ID:
        raise MalformedError("a signed message has other unprotected fields than a key id")
    kid, at = message[at + 3 : at + 11], at + 11
    payload, at = _byte_string(message, at)
    signature, at = _byte_string(message, at)
    if len(kid) != 8 or at != len(message):
        raise MalformedError("a signed message is not in the deterministic encoding")
    return protected, kid, payload, signature


def _byte_string(message: bytes, at: int) -> tuple[bytes, int]:
    """The byte string at `at` in its shortest encoding (RFC 8949 3.1, 4.2.1), and where it ends."""
    first = message[at] if at < len(message) else 0
    if 0x40 <= first < 0x58:
        size, at = first - 0x40, at + 1
    elif first == 0x58:
        size, at = int.from_bytes(message[at + 1 : at + 2], "big"), at + 2
    elif first == 0x59:
        size, at = int.from_bytes(message[at + 1 : at + 3], "big"), at + 3
    else:
        raise MalformedError("not a COSE_Sign1")
    short = (first == 0x58 and size < 24) or (first == 0x59 and size < 256)
    if short or at + size > len(message):
        raise MalformedError("a signed message is not in the deterministic encoding")
    return message[at : at + size], at + size


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """RFC 9052 4.4: a list of the text `Signature1`, what is protected, nothing, and the payload."""
    return b"".join((b"\x84\x6aSignature1", _encoded(protected), b"\x40", _encoded(payload)))


def _encoded(data: bytes) -> bytes:
    """A byte string in its shortest encoding (RFC 8949 3.1)."""
    size = len(data)
    if size < 24:
        return bytes((0x40 + size,)) + data
    if size < 256:
        return bytes((0x58, size)) + data
    return b"\x59" + size.to_bytes(2) + data
