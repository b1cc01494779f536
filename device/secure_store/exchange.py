"""Enciphers to one unit's exchange key: HPKE (RFC 9180) with P-256, HKDF-SHA-256 and AES-256-GCM.

Only that unit's TPM, in an approved state of its machine, can agree on the secret that opens it again.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.secure_store.errors import StoreError
from device.secure_store.memory import SecretBytes

POINT_BYTES = 65
MAX_PLAIN_BYTES = 16_384
_KEM_SUITE = b"KEM" + struct.pack(">H", 0x0010)  # RFC 9180 7.1: DHKEM(P-256, HKDF-SHA256)
_SUITE = b"HPKE" + struct.pack(">HHH", 0x0010, 0x0001, 0x0002)
_SENDER = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Exchange(Protocol):
    """A P-256 key for agreeing on secrets, which cannot leave."""

    def public_key(self) -> ec.EllipticCurvePublicKey: ...

    def agree(self, point: ec.EllipticCurvePublicKey) -> SecretBytes:
        """The shared secret with `point`: its x coordinate, 32 bytes (RFC 9180 4.1, DH)."""
        ...


def seal_to(key: ec.EllipticCurvePublicKey, plain: bytes, info: bytes) -> bytes:
    """`plain` (up to MAX_PLAIN_BYTES) for the holder of `key`, bound to `info`. Raises StoreError."""
    if len(plain) > MAX_PLAIN_BYTES:
        raise StoreError(f"an envelope holds at most {MAX_PLAIN_BYTES} bytes")
    return _SENDER.encrypt(plain, key, info=info)


def open_with(exchange: Exchange, sealed: bytes, info: bytes) -> bytes:
    """What was sealed to `exchange` under `info`. Raises StoreError if it was changed or is another's."""
    if not POINT_BYTES + 16 <= len(sealed) <= POINT_BYTES + 16 + MAX_PLAIN_BYTES:
        raise StoreError("this is not an envelope")
    point, body = sealed[:POINT_BYTES], sealed[POINT_BYTES:]
    try:
        ephemeral = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as err:
        raise StoreError("this is not an envelope") from err
    with exchange.agree(ephemeral) as shared, shared.view() as secret:
        key, nonce = _key_schedule(bytes(secret), point, public_point(exchange.public_key()), info)
    try:
        return AESGCM(key).decrypt(nonce, body, b"")
    except InvalidTag as err:
        raise StoreError("this envelope is not for this unit, or it was changed on the way") from err


def public_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Uncompressed, 65 bytes: how HPKE writes a key on P-256."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _key_schedule(shared: bytes, point: bytes, own: bytes, info: bytes) -> tuple[bytes, bytes]:
    """The AES key and nonce of the first and only message, in base mode (RFC 9180 4.1 and 5.1)."""
    eae_prk = _extract(_KEM_SUITE, b"", b"eae_prk", shared)
    secret = _expand(_KEM_SUITE, eae_prk, b"shared_secret", point + own, 32)
    hashed_id = _extract(_SUITE, b"", b"psk_id_hash", b"")
    context = b"\0" + hashed_id + _extract(_SUITE, b"", b"info_hash", info)
    prk = _extract(_SUITE, secret, b"secret", b"")
    return _expand(_SUITE, prk, b"key", context, 32), _expand(_SUITE, prk, b"base_nonce", context, 12)


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, hashlib.sha256)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labelled = struct.pack(">H", size) + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), size, labelled).derive(prk)
