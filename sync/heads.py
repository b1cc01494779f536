"""Signed heads: one signature over the chain hash and the Merkle root of everything up to an event."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.cbor import dump_fields, fields
from sync.errors import MalformedError, ProofError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS, Signer, UnitId, unit_id

HEAD_TYPE = "application/ostiary-head+cbor"
NO_HEAD = bytes(32)


@dataclass(frozen=True, slots=True)
class Head:
    """What a unit vouches for: its first `size` events hash to `chain` and to `root`."""

    unit: UnitId
    size: int
    chain: bytes
    root: bytes
    time_ms: int
    boot: int
    counter: int = 0
    """The unit's monotonic counter outside the disk when it signed; 0 where there is none."""
    previous: bytes = NO_HEAD
    """SHA-256 of the signed head before this one: a head cannot be taken out of the row either."""

    def __post_init__(self) -> None:
        numbers = (
            (self.size, 1, MAX_SEQUENCE),
            (self.time_ms, 0, MAX_TIME_MS),
            (self.boot, 0, MAX_SEQUENCE),
            (self.counter, 0, MAX_SEQUENCE),
        )
        if any(type(n) is not int or not low <= n <= high for n, low, high in numbers):
            raise MalformedError("a head has a number out of range")
        if any(type(h) is not bytes or len(h) != 32 for h in (self.chain, self.root, self.previous)):
            raise MalformedError("a head carries three 32-byte hashes")

    def to_bytes(self) -> bytes:
        numbers = (self.time_ms, self.boot, self.counter)
        return dump_fields(1, self.unit, self.size, self.chain, self.root, *numbers, self.previous)

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        version, unit, *rest = fields(data, "isibbiiib", cose.MAX_SIGN1_BYTES)
        if version != 1:
            raise MalformedError("a head of a version that is unknown here; update the reader")
        head = cls(unit_id(unit), *rest)
        if head.to_bytes() != data:
            raise MalformedError("a head is not in the deterministic encoding")
        return head

    def signed(self, signer: Signer) -> bytes:
        """This head as COSE_Sign1."""
        return cose.sign1(self.to_bytes(), signer, HEAD_TYPE)


def head_hash(message: bytes) -> bytes:
    """What the next head carries as `previous`."""
    return hashlib.sha256(message).digest()


def open_head(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> Head:
    """The head, verified to be this unit's. Raises MalformedError or ProofError."""
    head = Head.from_bytes(cose.open1(message, key, HEAD_TYPE))
    if head.unit != unit:
        raise ProofError("the head belongs to another unit")
    return head
