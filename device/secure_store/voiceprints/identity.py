"""The unit's TLS identity: a software key, enciphered at rest under the sealed key, in memory only when used.

Python's TLS stack cannot use a key inside the TPM (docs/adr/0004). The key proves which unit speaks; what the
unit said is proved by the audit key, which never leaves the TPM.
"""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID

from device.secure_store.errors import StoreError
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.records import NONCE_BYTES
from device.secure_store.voiceprints.vault_file import write_durably

_BOUND = b"ostiary tls identity v1"
_MAX_BYTES = 4_000


class TlsIdentity:
    """An ECDSA P-256 key. `load_into` hands it to a TLS context without a file on any disk."""

    def __init__(self, path: Path, derive: Callable[[str], SecretBytes]) -> None:
        """Makes the key on the first call; raises StoreError when the file was damaged or swapped."""
        with derive("tls identity") as secret, secret.view() as raw:
            cipher = AESGCM(raw)
            if not path.exists():
                made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                    serialization.Encoding.DER,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
                nonce = os.urandom(NONCE_BYTES)
                write_durably(path, nonce + cipher.encrypt(nonce, made, _BOUND))
            sealed = path.read_bytes()[:_MAX_BYTES]
            try:
                der = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _BOUND)
            except (InvalidTag, ValueError) as err:
                raise StoreError(
                    f"{path.name} is damaged or another unit's; delete it and enrol the unit again"
                ) from err
        key = serialization.load_der_private_key(der, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StoreError(f"{path.name} holds another kind of key")
        self._key = key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def request(self, common_name: str) -> bytes:
        """A certificate signing request, PEM: what the fleet's authority signs."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return request.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def load_into(self, context: ssl.SSLContext, certificates_pem: bytes) -> None:
        """Give `context` this key and its certificate chain; raises StoreError when they do not match.

        OpenSSL reads keys from files only: this one lies in anonymous memory, enciphered under a password
        that exists for this call.
        """
        password = secrets.token_bytes(32).hex().encode()
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        handle = os.memfd_create("tls identity", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(handle), "wb") as file:
                file.write(certificates_pem + pem)
            context.load_cert_chain(f"/proc/self/fd/{handle}", password=password)
        except ssl.SSLError as err:
            raise StoreError(f"the certificate does not fit the unit's key ({err.reason})") from err
        finally:
            os.close(handle)

    def __repr__(self) -> str:
        return "<TLS identity>"
