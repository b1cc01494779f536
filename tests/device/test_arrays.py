"""Files of arrays that are damaged, foreign or made to burst are refused with one error."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest

from device.arrays import read_arrays

NAMES = ("mean", "scale")


def packed(compress: bool = False, **parts: Any) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **parts)
    return buffer.getvalue()


WHOLE = packed(mean=np.arange(40.0), scale=np.ones(3, np.float32), more=np.zeros(2))


def test_the_arrays_that_are_asked_for_are_read() -> None:
    found = read_arrays(WHOLE, NAMES, "the head", 10_000)
    assert list(found) == ["mean", "scale"]
    assert found["mean"].tolist() == list(range(40))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"\x93NUMPY",
        WHOLE[:-30],
        packed(mean=np.zeros(2)),
        packed(mean=np.array([{}], object), scale=np.ones(3)),
        b"\0" * 20_000,
        packed(compress=True, mean=np.zeros(10**6), scale=np.ones(3)),
    ],
    ids=["empty", "cut", "an array", "without its end", "a part short", "a pickle", "huge", "a bomb"],
)
def test_what_is_no_such_file_is_one_error_that_names_it(data: bytes) -> None:
    with pytest.raises(ValueError, match="the head "):
        read_arrays(data, NAMES, "the head", 10_000)


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match="unpacked"):
        read_arrays(packed(compress=True, mean=np.zeros(10**6)), ("mean",), "the head", 10_000)


def damaged(dice: random.Random) -> bytes:
    bad = bytearray(WHOLE)
    for _ in range(dice.randint(1, 4)):
        bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
    return bytes(bad[: dice.randint(1, len(bad)) if dice.random() < 0.3 else None])


def test_flipped_and_missing_bytes_are_refused_or_leave_arrays() -> None:
    dice, refused = random.Random(1), 0
    for _ in range(500):
        try:
            found = read_arrays(damaged(dice), NAMES, "the head", 10_000)
        except ValueError:
            refused += 1
        else:
            assert all(isinstance(part, np.ndarray) for part in found.values())
    assert refused > 100
