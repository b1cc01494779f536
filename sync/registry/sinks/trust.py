"""What all sinks share: secrets from files, certificates, and a signature over what is sent."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sync.errors import SyncError
from sync.plain_file import check_plain, plain_text
from sync.plain_words import why
from sync.transport import tls_files

MAX_SECRET_BYTES = 4096
LEAST_SECRET = 16
LOCAL = ("localhost", "127.0.0.1", "::1")
SIGNATURE = "Ostiary-Signature"


class Sink(Protocol):
    @property
    def name(self) -> str:
        """The registry keeps deliveries under this name."""
        ...

    def send(self, alarm: Mapping[str, Any]) -> None:
        """Raises SyncError when it could not be delivered."""
        ...


def sign(secret_file: Path, body: bytes, now_s: int) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 over "SECONDS." and the body, under the secret in the file.

    The time is signed too, so that a receiver can refuse a message that is sent again later.
    """
    key = secret(secret_file).encode()
    if len(key) < LEAST_SECRET:
        raise SyncError(f"{secret_file.name} needs a secret of at least {LEAST_SECRET} characters")
    return f"t={now_s},v1={hmac.new(key, f'{now_s}.'.encode() + body, hashlib.sha256).hexdigest()}"


def secret(path: Path) -> str:
    """Read at every delivery, so that it can be replaced. Raises SyncError."""
    try:
        return plain_text(path, MAX_SECRET_BYTES).strip()
    except (OSError, UnicodeDecodeError) as err:
        reason = why(err) if isinstance(err, OSError) else "it is no text"
        raise SyncError(f"{path.name} cannot be read ({reason})") from err


def trusting(ca: Path | None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS that trusts `ca`, or the system; with our own certificate where the other side asks for one."""
    try:
        if ca is not None:
            check_plain(ca)
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            with tls_files.explained(certificate, key or certificate):
                tls_files.show(context, certificate, key or certificate)
    except (OSError, ssl.SSLError) as err:
        raise SyncError(f"the certificates in {ca.name if ca else 'the system'} cannot be used") from err
    return context
