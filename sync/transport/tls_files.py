"""Loads the files of a TLS identity (authority, certificate, key), and says what is wrong with them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync.errors import SyncError
from sync.plain_file import check_plain, open_plain
from sync.plain_words import what_and_why, why

MAX_BYTES = 1 << 20
_CERTIFICATE, _KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"


@contextmanager
def explained(certificate: Path, key: Path, authority: Path | None = None) -> Iterator[None]:
    """Load these files inside. Raises SyncError, which names the wrong file and says what to do."""
    given = () if authority is None else (authority,)
    try:
        check_plain(*given, certificate, key)
        yield
    except (OSError, ValueError) as err:  # ssl.SSLError is an OSError
        wrong = _trouble(certificate, key, *given)
        if not wrong and getattr(err, "reason", "") == "KEY_VALUES_MISMATCH":
            wrong = f"{certificate} and {key} do not belong together"
        raise SyncError(wrong or f"the TLS files cannot be used ({what_and_why(err)})") from err


def show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Have `context` show this certificate; call it inside `explained`."""
    # An empty pass phrase: OpenSSL asks at the terminal otherwise, and a service would wait for ever.
    context.load_cert_chain(certificate, key, "")


def _trouble(certificate: Path, key: Path, *authorities: Path) -> str:
    """One sentence that names the file and what to do; empty when each holds what belongs there."""
    for what, path, mark in (
        *(("certificate of an authority", authority, _CERTIFICATE) for authority in authorities),
        ("certificate", certificate, _CERTIFICATE),
        ("private key", key, _KEY),
    ):
        if found := _found(what, path, mark):
            return f"{path} {found}"
    return ""


def _found(what: str, path: Path, mark: bytes) -> str:
    try:
        with open_plain(path) as file:
            content = file.read(MAX_BYTES)
    except OSError as err:
        return f"cannot be read ({why(err)}); a {what} belongs there"
    if not content.strip():
        return f"is empty; a {what} belongs there"
    if mark == _KEY and (b"BEGIN ENCRYPTED" in content or b"Proc-Type: 4,ENCRYPTED" in content):
        return "is locked by a pass phrase, and nobody is there to type it; store the key without one"
    if mark in content:
        return ""
    if content.startswith(b"\x30"):
        return f"is DER; a {what} is taken as PEM (`openssl x509` or `openssl pkey`, `-inform der`)"
    for other, there in (("private key", _KEY), ("certificate", _CERTIFICATE)):
        if there in content:
            return f"holds a {other}; a {what} belongs there"
    return f"holds no {what} (PEM)"
