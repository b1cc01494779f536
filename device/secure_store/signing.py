"""Checks a signature of a unit or of its policy authority. Pure."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import StoreError
from sync.cose import ES256, der_signature

Mac = Callable[[str, bytes], bytes]
"""`mac(purpose, message)`: HMAC-SHA-256 under a secret that the key store holds and never hands out."""


def verify_es256(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> bytes:
    """`message`, if `signature` (r || s, 64 bytes) is by `key` over it. Raises StoreError."""
    if len(signature) != 64:
        raise StoreError("an ES256 signature has 64 bytes")
    try:
        key.verify(der_signature(signature), message, ES256)
    except InvalidSignature as err:
        raise StoreError("the signature does not fit the key and the message") from err
    return message
