"""What is wrong with the files of a TLS identity, by name: authority, certificate, key."""

from __future__ import annotations

from pathlib import Path

from sync.plain_file import open_plain
from sync.plain_words import why

MAX_BYTES = 1 << 20
_CERTIFICATE, _KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"


def trouble(authority: Path, certificate: Path, key: Path) -> str:
    """One sentence that names the file and what to do; empty when each holds what belongs there."""
    for what, path, mark in (
        ("certificate of an authority", authority, _CERTIFICATE),
        ("certificate", certificate, _CERTIFICATE),
        ("private key", key, _KEY),
    ):
        if found := _trouble(what, path, mark):
            return f"{path} {found}"
    return ""


def _trouble(what: str, path: Path, mark: bytes) -> str:
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
