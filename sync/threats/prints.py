"""A print: how the live check saw one attempt, in a few whole numbers. No voice, no words, nobody's id.

A unit enciphers each print to its tenant's key (HPKE, RFC 9180) and signs it with its audit key: the broker
sees that there was an attempt, which the event beside it says anyway, and nothing of the print.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from operator import mul

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from sync import cose
from sync.cbor import dump_fields, fields
from sync.errors import MalformedError, ProofError
from sync.events import MAX_SEQUENCE, Signer, UnitId, unit_id, version_text

PRINT_TYPE = "application/ostiary-print+cbor"
KEPT_TYPE = "application/ostiary-print-kept+cbor"
MODEL = "prints-2"
"""Whose prints units make now: `device/models/spoof/prints.npz`."""
VALUES = 32
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


def likeness(one: bytes, other: bytes) -> float:
    """How alike two prints of one model are: the cosine between them, from -1 to 1."""
    a, b = numbers(one), numbers(other)
    length = math.sqrt(sum(map(mul, a, a)) * sum(map(mul, b, b)))
    return sum(map(mul, a, b)) / length if length else 0.0


def print_info(unit: UnitId) -> bytes:
    """What a print of `unit` is enciphered under: it opens as no other unit's."""
    return _INFO + unit.encode()


@dataclass(frozen=True, slots=True)
class SealedPrint:
    """A print on its way. `sequence` is the event of the attempt that it is of; 0 for one that was granted:
    such a print belongs to no event, so nobody can tell whose it is."""

    unit: UnitId
    sequence: int
    sealed: bytes

    def __post_init__(self) -> None:
        if type(self.sequence) is not int or not 0 <= self.sequence <= MAX_SEQUENCE:
            raise MalformedError("a print has a sequence number out of range")
        if type(self.sealed) is not bytes or not 0 < len(self.sealed) <= MAX_SEALED_BYTES:
            raise MalformedError(f"a sealed print takes at most {MAX_SEALED_BYTES} bytes")

    def name(self) -> bytes:
        """SHA-256 of what is sealed: by this name the registry says that it has it."""
        return hashlib.sha256(self.sealed).digest()

    def signed(self, signer: Signer) -> bytes:
        return cose.sign1(dump_fields(1, self.unit, self.sequence, self.sealed), signer, PRINT_TYPE)

    def opened(self, key: ec.EllipticCurvePrivateKey) -> Print:
        """Raises ProofError when it is not for this key or was changed, MalformedError for what is inside."""
        try:
            plain = _SUITE.decrypt(self.sealed, key, info=print_info(self.unit))
        except (InvalidTag, ValueError) as err:
            raise ProofError("a print that is not enciphered to this registry") from err
        return Print.from_bytes(plain)


def open_print(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> SealedPrint:
    """A print that `unit` signed. Raises MalformedError or ProofError."""
    payload = cose.open1(message, key, PRINT_TYPE)
    version, name, sequence, sealed = fields(payload, "isib", cose.MAX_SIGN1_BYTES)
    if version != 1:
        raise MalformedError("a print of an unknown form")
    found = SealedPrint(unit_id(name), sequence, sealed)
    if found.unit != unit:
        raise ProofError("a print of another unit")
    return found


def signed_kept(unit: UnitId, names: list[bytes], signer: Signer) -> bytes:
    """The registry has these prints of `unit`, at most MAX_KEPT: it may forget them."""
    return cose.sign1(dump_fields(1, unit, names), signer, KEPT_TYPE)


def open_kept(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> list[bytes]:
    """Names of prints that the registry has. Raises MalformedError or ProofError."""
    version, name, names = fields(cose.open1(message, key, KEPT_TYPE), "isl", cose.MAX_SIGN1_BYTES)
    if version != 1 or len(names) > MAX_KEPT or any(type(n) is not bytes or len(n) != 32 for n in names):
        raise MalformedError("a receipt for prints of an unknown form")
    if unit_id(name) != unit:
        raise ProofError("a receipt for another unit's prints")
    return list(names)
