"""How parts of a document travel: a unit asks for a piece by hash and offset, and gets it."""

from __future__ import annotations

from dataclasses import dataclass

from sync.cbor import dump_fields, fields
from sync.errors import MalformedError
from sync.orders.desired import MAX_PART_BYTES, Part

CHUNK_BYTES = 256 << 10
_WANT_BYTES = 256
_REST_BYTES = 256


@dataclass(frozen=True, slots=True)
class Want:
    """The piece of a part that begins at `offset`."""

    sha256: bytes
    offset: int

    def to_bytes(self) -> bytes:
        return dump_fields(1, self.sha256, self.offset)

    @classmethod
    def from_bytes(cls, data: bytes) -> Want:
        """Raises MalformedError."""
        version, sha256, offset = fields(data, "ibi", _WANT_BYTES)
        if version != 1 or len(sha256) != 32 or not 0 <= offset < MAX_PART_BYTES:
            raise MalformedError("a wish for a part of an unknown form")
        return cls(sha256, offset)


@dataclass(frozen=True, slots=True)
class Chunk:
    """That piece. Its content is checked once the part is whole, by the hash."""

    part: Part
    offset: int
    data: bytes

    def to_bytes(self) -> bytes:
        return dump_fields(1, self.part.sha256, self.part.size, self.offset, self.data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Chunk:
        """Raises MalformedError."""
        version, sha256, size, offset, piece = fields(data, "ibiib", CHUNK_BYTES + _REST_BYTES)
        part = Part(sha256, size)
        if version != 1 or not piece or offset < 0 or offset + len(piece) > size:
            raise MalformedError("a piece of a part of an unknown form")
        return cls(part, offset, piece)
