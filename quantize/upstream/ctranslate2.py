"""Reads a CTranslate2 `model.bin`: a flat list of (name, shape, dtype, bytes), then aliases."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.upstream.pickles import CheckpointError

MAX_TENSORS = 20_000

# CTranslate2 model.bin: python/ctranslate2/specs/model_spec.py, binary version 6.
BINARY_VERSION = 6
_DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
}


def read_ctranslate2(blob: bytes) -> dict[str, npt.NDArray[Any]]:
    """Name to tensor (read-only views of `blob`); raises CheckpointError when the file lies about itself."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    at = 4

    def take(fmt: str) -> tuple[Any, ...]:
        nonlocal at
        size = struct.calcsize(fmt)
        if at + size > len(blob):
            raise CheckpointError("it is cut short")
        at += size
        return struct.unpack_from(fmt, blob, at - size)

    def text() -> str:
        (length,) = take("<H")
        (raw,) = take(f"<{length}s")
        try:
            return str(raw.rstrip(b"\0").decode())
        except UnicodeDecodeError as err:
            raise CheckpointError("a name is not text") from err

    text()  # the specification's name
    (_revision, variables) = take("<II")
    if variables > MAX_TENSORS:
        raise CheckpointError(f"it claims {variables} tensors; refused")
    for _ in range(variables):
        name = text()
        (rank,) = take("<B")
        shape = take(f"<{rank}I")
        kind, length = take("<BI")
        dtype = _DTYPES.get(kind)
        if dtype is None or name in tensors or math.prod(shape) * dtype.itemsize != length or rank > 8:
            raise CheckpointError("a tensor's shape and length disagree")
        if at + length > len(blob):
            raise CheckpointError("it is cut short")
        tensors[name] = np.frombuffer(blob, dtype, math.prod(shape), at).reshape(shape)
        at += length
    for alias, target in _aliases(take, text):
        if target not in tensors or alias in tensors:
            raise CheckpointError("an alias points nowhere")
        tensors[alias] = tensors[target]
    if at != len(blob):
        raise CheckpointError("bytes are left over after its last tensor")
    return tensors


def _aliases(take: Callable[[str], tuple[Any, ...]], text: Callable[[], str]) -> Iterator[tuple[str, str]]:
    (count,) = take("<I")
    if count > MAX_TENSORS:
        raise CheckpointError(f"it claims {count} aliases; refused")
    for _ in range(count):
        yield text(), text()
