"""Signed heads: one signature over the chain hash and the Merkle root of everything up to an event."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.cbor import dump_fields
from sync.errors import MalformedError, ProofError
from sync.event_form import MAX_SEQUENCE, MAX_TIME_MS, TEXT, UINT, UnitId, read_uint, read_unit
from sync.events import Signer

HEAD_TYPE = "application/ostiary-head+cbor"
NO_HEAD = bytes(32)
_HASH = rb"\x58\x20(.{32})"
_HEAD = re.compile(  # the deterministic encoding of the nine fields, and no other
    rb"\xa9\x00\x01\x01(" + TEXT + rb")\x02(" + UINT + rb")\x03" + _HASH + rb"\x04" + _HASH
    + rb"\x05(" + UINT + rb")\x06(" + UINT + rb")\x07(" + UINT + rb")\x08" + _HASH,
    re.DOTALL,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """A unit's word that its first `size` events hash to `chain` and to `root`."""

    unit: UnitId
    size: int
    chain: bytes
    root: bytes
    time_ms: int
    boot: int
    counter: int = 0
    """The unit's monotonic counter outside the disk when it signed; 0 where there is none."""
    previous: bytes = NO_HEAD
    """SHA-256 of the signed head before this one, so that no head can be taken out unseen."""

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
        """Raises MalformedError for anything but the one encoding that `to_bytes` writes."""
        found = _HEAD.fullmatch(data) if type(data) is bytes and len(data) <= cose.MAX_SIGN1_BYTES else None
        if found is None:
            raise MalformedError("a head of a form or version that is unknown here; is the reader too old?")
        unit, size, link, root, time_ms, boot, counter, previous = found.groups()
        return cls(
            read_unit(unit),
            read_uint(size),
            link,
            root,
            read_uint(time_ms),
            read_uint(boot),
            read_uint(counter),
            previous,
        )

    def signed(self, signer: Signer) -> bytes:
        """This head as COSE_Sign1."""
        return cose.sign1(self.to_bytes(), signer, HEAD_TYPE)


def head_hash(message: bytes) -> bytes:
    """The `previous` of the next head."""
    return hashlib.sha256(message).digest()


def open_head(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> Head:
    """The head that `unit` signed. Raises MalformedError or ProofError."""
    head = Head.from_bytes(cose.open1(message, key, HEAD_TYPE))
    if head.unit != unit:
        raise ProofError("the head belongs to another unit")
    return head
