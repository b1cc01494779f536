"""A print: how the live check saw one attempt, in a few whole numbers. No voice, no words, nobody's id.

A unit enciphers each print to its tenant's key (HPKE, RFC 9180) and signs it with its audit key: the broker
learns nothing from it but that there was an attempt.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from sync import cose
from sync.cbor import dump_fields, fields
from sync.errors import MalformedError, ProofError
from sync.events import MAX_SEQUENCE, Signer, UnitId, version_text

PRINT_TYPE = "application/ostiary-print+cbor"
KEPT_TYPE = "application/ostiary-print-kept+cbor"
MODEL = "prints-2"
"""The model of today's prints: `device/models/spoof/prints.npz`."""
VALUES = 32
SCALE = 127.0
MAX_SEALED_BYTES = 512
MAX_KEPT = 64
_INFO = b"ostiary print v1\x00"
_SUITE = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Print:
    """`values` are VALUES signed bytes; only prints of one `model` can be compared."""

    model: str
    values: bytes

    def __post_init__(self) -> None:
        version_text(self.model)
        if type(self.values) is not bytes or len(self.values) != VALUES or not any(self.values):
            raise MalformedError(f"a print has {VALUES} values that are not all zero")

    def to_bytes(self) -> bytes:
        return dump_fields(1, self.model, self.values)

    @classmethod
    def from_bytes(cls, data: bytes) -> Print:
        """Raises MalformedError."""
        version, model, values = fields(data, "isb", MAX_SEALED_BYTES)
        if version != 1:
            raise MalformedError("a print of an unknown form")
        return cls(model, values)


def numbers(values: bytes) -> list[int]:
    """Signed bytes as whole numbers."""
    return [value - 256 if value > 127 else value for value in values]


def as_values(direction: Sequence[float]) -> bytes:
    """A direction as signed bytes, the longest of them 127."""
    longest = max((abs(value) for value in direction), default=0.0)
    if not longest:
        return bytes([1]) + bytes(VALUES - 1)
    return bytes(round(value * SCALE / longest) & 0xFF for value in direction)


def mean(prints: Sequence[bytes]) -> bytes:
    """What prints have in common: the mean of their directions, as a print's values."""
    total = [0.0] * VALUES
    for values in prints:
        found = numbers(values)
        length = math.hypot(*found)
        total = [there + value / max(1.0, length) for there, value in zip(total, found, strict=True)]
    return as_values(total)


def likeness(one: bytes, other: bytes) -> float:
    """How alike two prints of one model are: the cosine between them, from -1 to 1."""
    a, b = numbers(one), numbers(other)
    length = math.sqrt(sum(map(mul, a, a)) * sum(map(mul, b, b)))
    return sum(map(mul, a, b)) / length if length else 0.0


def print_info(unit: UnitId) -> bytes:
    """The HPKE info of a print, which binds it to `unit`."""
    return _INFO + unit.encode()


@dataclass(frozen=True, slots=True)
class SealedPrint:
    """A print on its way. `sequence` is the event of its attempt, or 0 for a granted one, whose person nobody
    can tell then.
    """

    unit: UnitId
    sequence: int
    sealed: bytes

    def __post_init__(self) -> None:
        if type(self.sequence) is not int or not 0 <= self.sequence <= MAX_SEQUENCE:
            raise MalformedError("a print has a sequence number out of range")
        if type(self.sealed) is not bytes or not 0 < len(self.sealed) <= MAX_SEALED_BYTES:
            raise MalformedError(f"a sealed print takes at most {MAX_SEALED_BYTES} bytes")

    def name(self) -> bytes:
        """SHA-256 of what is sealed, the name by which the registry acknowledges it."""
        return hashlib.sha256(self.sealed).digest()

    def signed(self, signer: Signer) -> bytes:
        return cose.sign_fields(signer, PRINT_TYPE, self.unit, self.sequence, self.sealed)

    def opened(self, key: ec.EllipticCurvePrivateKey) -> Print:
        """Raises ProofError when it is not for this key or was changed, MalformedError for what is inside."""
        try:
            plain = _SUITE.decrypt(self.sealed, key, info=print_info(self.unit))
        except (InvalidTag, ValueError) as err:
            raise ProofError("a print that is not enciphered to this registry") from err
        return Print.from_bytes(plain)


def open_print(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> SealedPrint:
    """A print that `unit` signed. Raises MalformedError or ProofError."""
    return SealedPrint(unit, *cose.open_fields(message, key, PRINT_TYPE, "ib", unit, "a print"))


def signed_kept(unit: UnitId, names: list[bytes], signer: Signer) -> bytes:
    """The registry's word to `unit` that it has these prints, at most MAX_KEPT."""
    return cose.sign_fields(signer, KEPT_TYPE, unit, names)


def open_kept(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> list[bytes]:
    """Names of prints that the registry has. Raises MalformedError or ProofError."""
    (names,) = cose.open_fields(message, key, KEPT_TYPE, "l", unit, "a receipt for prints")
    if len(names) > MAX_KEPT or any(type(n) is not bytes or len(n) != 32 for n in names):
        raise MalformedError("a receipt for prints of an unknown form")
    return list(names)
