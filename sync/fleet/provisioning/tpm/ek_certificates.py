"""Reads and grades the certificate that a TPM's maker put beside the endorsement key.

In the field it is padded, oddly encoded, or missing; the raw bytes are kept. One that cannot be read lowers
the grade, with the reason; one of another key was copied, and is refused.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync.errors import ProofError, SyncError
from sync.fleet.provisioning.tpm.proof import TpmKey
from sync.plain_file import plain_bytes

MAX_CERTIFICATE_BYTES = 8192
MAX_CERTIFICATES = 12
MAX_DEPTH = 5
MAX_NESTED = 12
_SEQUENCE = 0x30
_SET = 0x31
_CONSTRUCTED = 0x20


class Grade(StrEnum):
    """How it is known that an endorsement key is a real TPM's. Shown beside every unit, never mixed."""

    MAKER = "maker"
    """A chain of certificates leads to a maker that the site trusts."""
    INVENTORY = "inventory"
    """The claim named this key: somebody read it off the machine."""
    FIRST_USE = "first-use"
    """Nothing but the claim: the machine that redeemed it first."""


@dataclass(frozen=True, slots=True)
class Graded:
    """`note` says why the grade is not higher; `certificate` is the raw one, if there was one."""

    grade: Grade
    note: str
    certificate: bytes | None = None


def grade(
    endorsement: TpmKey,
    leaf: bytes | None,
    chain: Sequence[bytes],
    *,
    expected: str | None,
    roots: Sequence[x509.Certificate],
    now: dt.datetime,
) -> Graded:
    """How far `endorsement` is to be trusted. `leaf` and `chain` are bytes from the TPM's memory.

    `expected` is the digest that the claim names. Raises ProofError for another TPM than expected, and for a
    certificate that belongs to another key.
    """
    if expected is not None and endorsement.digest() != expected:
        raise ProofError("this is another TPM than the one that the claim was made for")
    found = read(leaf) if leaf is not None else None
    if found is not None and not _same_key(found, endorsement):
        raise ProofError("the endorsement certificate is another TPM's: it was copied")
    note = _missing(leaf, found, chain, roots, now)
    if not note:
        return Graded(Grade.MAKER, "", leaf)
    return Graded(Grade.INVENTORY if expected is not None else Grade.FIRST_USE, note, leaf)


def read(data: bytes) -> x509.Certificate | None:
    """The certificate in what a TPM's memory holds, or None when it cannot be read.

    Known in the field: 0xff or 0x00 behind it, a TCG header (10 01 00, length) in front of it, and names
    whose parts are not in the order that DER wants (Nuvoton): those are put in order to be read.
    """
    one = trimmed(data)
    for candidate in (data, one, None if one is None else in_order(one)):
        if candidate is None:
            continue
        try:
            found = x509.load_der_x509_certificate(candidate)
            found.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
            continue
        return found
    return None


def trimmed(data: bytes) -> bytes | None:
    """The first DER sequence in `data`, without what is before or behind it; None when there is none."""
    start = 0
    if data[:3] == b"\x10\x01\x00":
        start = 5  # the header's last two bytes are a length
    body = data[start:]
    if len(body) < 4 or body[0] != _SEQUENCE:
        return None
    if body[1] < 0x80:
        size = 2 + body[1]
    else:
        count = body[1] & 0x7F
        if not 1 <= count <= 3:
            return None
        size = 2 + count + int.from_bytes(body[2 : 2 + count], "big")
    return body[:size] if size <= len(body) else None


def in_order(data: bytes) -> bytes | None:
    """A DER structure with the members of each set in the order of their encodings; None where it is none."""
    try:
        return b"".join(_ordered(data, 0))
    except (IndexError, ValueError):
        return None


def _ordered(data: bytes, depth: int) -> list[bytes]:
    """The elements in `data`, each with its sets in order. Raises ValueError or IndexError."""
    if depth > MAX_NESTED:
        raise ValueError("nested too deep")
    found: list[bytes] = []
    while data:
        count = data[1] & 0x7F if data[1] >= 0x80 else 0
        start = 2 + count
        end = start + (int.from_bytes(data[2:start], "big") if count else data[1])
        if end > len(data) or data[1] == 0x80 or data[0] & 0x1F == 0x1F:
            raise ValueError("no DER")
        body = data[start:end]
        if data[0] & _CONSTRUCTED:
            members = _ordered(body, depth + 1)
            body = b"".join(sorted(members) if data[0] == _SET else members)
        found.append(data[:start] + body)
        data = data[end:]
    return found


def sequences(data: bytes) -> list[bytes]:
    """Every certificate in a run of memory: makers put several behind each other, over several indices."""
    found: list[bytes] = []
    while len(found) < MAX_CERTIFICATES and (one := trimmed(data)) is not None:
        found.append(one)
        data = data[data.index(one) + len(one) :]
    return found


def load_roots(folder: Path | None) -> list[x509.Certificate]:
    """The makers that a site trusts: PEM or DER files in `folder`. Raises SyncError."""
    found: list[x509.Certificate] = []
    for path in sorted(folder.iterdir()) if folder is not None else ():
        data = plain_bytes(path)
        try:
            pem = b"-----BEGIN CERTIFICATE-----" in data
            found += x509.load_pem_x509_certificates(data) if pem else [x509.load_der_x509_certificate(data)]
        except ValueError as err:
            raise SyncError(f"{path} is no certificate of a TPM's maker: {err}") from err
    return found


def _missing(
    leaf: bytes | None,
    found: x509.Certificate | None,
    chain: Sequence[bytes],
    roots: Sequence[x509.Certificate],
    now: dt.datetime,
) -> str:
    """Why no trusted maker vouches for the key; empty where one does."""
    if leaf is None:
        return "the TPM has no endorsement certificate"
    if found is None:
        return "its endorsement certificate cannot be read"
    if not roots:
        return "no maker's certificates were given"
    between = [one for data in chain for one in [read(data)] if one is not None]
    trusted = {root.public_bytes(Encoding.DER) for root in roots}
    at = found
    for _ in range(MAX_DEPTH):
        if not at.not_valid_before_utc <= now <= at.not_valid_after_utc:
            return "a certificate of its maker has run out"
        if at.public_bytes(Encoding.DER) in trusted and at is not found:
            return ""
        raw = leaf if at is found else None
        issuer = next((one for one in (*roots, *between) if one is not at and _issued(at, one, raw)), None)
        if issuer is None:
            return "no maker that is trusted here vouches for it"
        at = issuer
    return "the chain of its maker's certificates is too long"


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, raw: bytes | None = None) -> bool:
    """Whether `issuer` signed it. `raw` is what it was read from, perhaps put in order since."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        if raw is None or certificate.public_bytes(Encoding.DER) in raw:
            certificate.verify_directly_issued_by(issuer)
        else:
            _verify_as_written(certificate, issuer, raw)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return constraints.ca


def _verify_as_written(certificate: x509.Certificate, issuer: x509.Certificate, raw: bytes) -> None:
    """What was signed is the bytes in `raw`, not those that were put in order. Raises InvalidSignature."""
    whole = trimmed(raw) or b""
    start = 2 + (whole[1] & 0x7F if whole[1] >= 0x80 else 0)
    signed = trimmed(whole[start:])
    how, key = certificate.signature_algorithm_parameters, issuer.public_key()
    if signed is None or certificate.issuer != issuer.subject:
        raise InvalidSignature
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(how, ec.ECDSA):
        key.verify(certificate.signature, signed, how)
    elif isinstance(key, rsa.RSAPublicKey) and isinstance(how, padding.PKCS1v15 | padding.PSS):
        by = certificate.signature_hash_algorithm
        if by is None:
            raise InvalidSignature
        key.verify(certificate.signature, signed, how, by)
    else:
        raise InvalidSignature


def _same_key(certificate: x509.Certificate, endorsement: TpmKey) -> bool:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*form) == endorsement.key.public_bytes(*form)
