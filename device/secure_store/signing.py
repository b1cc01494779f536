"""Signatures and counters as the rest of the product sees them, and how to check a signature. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from device.secure_store.errors import StoreError

_HALF_BYTES = 32


class Signer(Protocol):
    """An ECDSA P-256 key that signs and cannot be taken away."""

    def public_key(self) -> ec.EllipticCurvePublicKey: ...

    def sign(self, message: bytes) -> bytes:
        """ES256 over `message`: raw r || s, 64 bytes (RFC 7518 3.4)."""
        ...


class Counter(Protocol):
    """A number that only rises, across restarts and power cuts."""

    def value(self) -> int: ...

    def advance(self) -> int: ...


Mac = Callable[[str, bytes], bytes]
"""`mac(purpose, message)`: HMAC-SHA-256 under a secret that the key store holds and never hands out."""


def raw_signature(der: bytes) -> bytes:
    """r || s from the DER form."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(_HALF_BYTES) + s.to_bytes(_HALF_BYTES)


def verify_es256(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> bytes:
    """The message, if the signature over it is right; raises StoreError otherwise."""
    if len(signature) != 2 * _HALF_BYTES:
        raise StoreError("an ES256 signature has 64 bytes")
    der = encode_dss_signature(
        int.from_bytes(signature[:_HALF_BYTES]), int.from_bytes(signature[_HALF_BYTES:])
    )
    try:
        key.verify(der, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as err:
        raise StoreError("the signature does not fit the key and the message") from err
    return message
