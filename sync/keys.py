"""A P-256 signing key in a file: the registry's, and that of units without a TPM (laptops, simulations)."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sync.cose import ES256, raw_signature
from sync.errors import SyncError
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why, why


class FileSigner:
    """Signs with a key that is in this process's memory. `sync.events.Signer`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = key.public_key()

    @classmethod
    def generate(cls) -> FileSigner:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def create(cls, path: Path) -> FileSigner:
        """A new key in `path` (PEM, mode 0600). Raises SyncError when there is a file of that name."""
        signer = cls.generate()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(signer.private_pem())
        except FileExistsError as err:
            raise SyncError(f"there is a key in {path} already; it is not replaced") from err
        except OSError as err:
            raise SyncError(f"the signing key {path.name} cannot be written ({why(err)})") from err
        return signer

    @classmethod
    def load_or_create(cls, path: Path) -> FileSigner:
        """The key in `path`, made on first use: for a unit on trial, whose key nobody has to know before."""
        return cls.load(path) if path.exists() else cls.create(path)

    @classmethod
    def load(cls, path: Path) -> FileSigner:
        """The key in `path`. Raises SyncError when there is none: a mistyped name makes no new key."""
        try:
            key = load_pem_private_key(plain_bytes(path), password=None)
        except FileNotFoundError as err:
            raise SyncError(f"there is no key {path}; `ostiary registry new-key` makes one") from err
        except (OSError, ValueError) as err:
            raise SyncError(f"the signing key {path.name} cannot be read ({what_and_why(err)})") from err
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise SyncError(f"the signing key {path.name} is not on the curve P-256")
        return cls(key)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, message: bytes) -> bytes:
        return raw_signature(self._key.sign(message, ES256))

    def secret(self, label: str) -> bytes:
        """32 bytes for `label` that only holders of this key can derive (RFC 5869)."""
        scalar = self._key.private_numbers().private_value.to_bytes(32, "big")
        return HKDF(hashes.SHA256(), 32, None, label.encode()).derive(scalar)

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The key itself, to decipher what was enciphered to it."""
        return self._key

    def private_pem(self) -> bytes:
        """PKCS #8, not enciphered."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_pem(self) -> bytes:
        return public_pem(self._public)


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
