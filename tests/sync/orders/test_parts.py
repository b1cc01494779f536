"""Pieces of parts: what was asked for and given comes back as it was, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from sync.cbor import dump_fields
from sync.errors import MalformedError
from sync.orders.desired import MAX_PART_BYTES, Part
from sync.orders.parts import CHUNK_BYTES, Chunk, Want

HASH = bytes(range(32))
WHOLE = Part(HASH, 1000)


@pytest.mark.parametrize("offset", [0, 1, MAX_PART_BYTES - 1])
def test_a_wish_comes_back_as_it_was(offset: int) -> None:
    assert Want.from_bytes(Want(HASH, offset).to_bytes()) == Want(HASH, offset)


@pytest.mark.parametrize(
    "told",
    [
        dump_fields(2, HASH, 0),
        dump_fields(1, HASH[1:], 0),
        dump_fields(1, HASH, -1),
        dump_fields(1, HASH, MAX_PART_BYTES),
        dump_fields(1, HASH),
        dump_fields(1, HASH, 0, 0),
        dump_fields(1, "x" * 32, 0),
        dump_fields(1, HASH, 0) + bytes(300),
    ],
)
def test_what_is_no_wish_is_refused(told: bytes) -> None:
    with pytest.raises(MalformedError):
        Want.from_bytes(told)


@pytest.mark.parametrize(("offset", "data"), [(0, b"x"), (1, b"y"), (0, bytes(1000)), (999, b"z")])
def test_a_piece_comes_back_as_it_was(offset: int, data: bytes) -> None:
    chunk = Chunk(WHOLE, offset, data)
    assert Chunk.from_bytes(chunk.to_bytes()) == chunk


def test_a_piece_of_the_largest_size_is_taken_and_a_larger_message_is_not() -> None:
    large = Chunk(Part(HASH, 2 * CHUNK_BYTES), CHUNK_BYTES, bytes(CHUNK_BYTES))
    assert Chunk.from_bytes(large.to_bytes()) == large
    with pytest.raises(MalformedError):
        Chunk.from_bytes(Chunk(Part(HASH, 3 * CHUNK_BYTES), 0, bytes(CHUNK_BYTES + 300)).to_bytes())


@pytest.mark.parametrize(
    "told",
    [
        dump_fields(2, HASH, 1000, 0, b"x"),
        dump_fields(1, HASH, 1000, 0, b""),
        dump_fields(1, HASH, 1000, -1, b"x"),
        dump_fields(1, HASH, 1000, 1000, b"x"),
        dump_fields(1, HASH, 1000, 0, bytes(1001)),
        dump_fields(1, HASH, 1000, 0, "x"),
        dump_fields(1, HASH[1:], 1000, 0, b"x"),
    ],
)
def test_what_is_no_piece_is_refused(told: bytes) -> None:
    with pytest.raises(MalformedError):
        Chunk.from_bytes(told)
