"""Reads the tensors of an upstream checkpoint, and nothing else that a file may carry.

No claim of the file is believed before the bytes behind it are there, and nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.upstream.ctranslate2 import BINARY_VERSION, MAX_TENSORS, read_ctranslate2
from quantize.upstream.pickles import CheckpointError, LazyTensor, Storage, interpret
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why, why

Tensor = npt.NDArray[Any]

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_TENSOR_BYTES_TOTAL = 1024 * 1024 * 1024

_WEIGHTS_KEYS = ("state_dict", "model_state")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name to tensor of a PyTorch checkpoint (zip or legacy) or a CTranslate2 `model.bin`.

    Tensors are read-only views. Raises CheckpointError for anything else, and executes nothing.
    """
    try:
        blob = plain_bytes(path, MAX_FILE_BYTES)
    except OSError as err:
        raise CheckpointError(f"{path.name} cannot be read ({why(err)})") from err
    return parse_tensors(blob, path.name)


def parse_tensors(blob: bytes, name: str = "checkpoint") -> dict[str, Tensor]:
    """`read_tensors` for bytes already in memory."""
    try:
        if blob[:4] == b"PK\x03\x04":
            return _weights(*_read_zip(blob))
        if blob[:4] == struct.pack("<I", BINARY_VERSION):
            return read_ctranslate2(blob)
        if blob[:2] == b"\x80\x02":
            return _weights(*_read_legacy(blob))
    except CheckpointError as err:
        raise CheckpointError(f"{name}: {err}") from err
    raise CheckpointError(f"{name} is neither a PyTorch nor a CTranslate2 checkpoint")


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted (name, shape, dtype, bytes): the same weights give it from any container."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
        head = f"{name}\0{','.join(map(str, tensors[name].shape))}\0{little.dtype.str.lstrip('|<=')}\0"
        digest.update(head.encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


_Load = Callable[[Storage], bytes | memoryview]


def _weights(tree: Any, load: _Load) -> dict[str, Tensor]:
    if isinstance(tree, dict):
        for key in _WEIGHTS_KEYS:
            if isinstance(tree.get(key), dict):
                tree = tree[key]
                break
    if not isinstance(tree, dict):
        raise CheckpointError("it holds no mapping of names to tensors")
    lazies = {str(name): value for name, value in tree.items() if isinstance(value, LazyTensor)}
    if not lazies or len(lazies) > MAX_TENSORS:
        raise CheckpointError(f"it holds {len(lazies)} tensors; 1..{MAX_TENSORS} are accepted")
    claimed = sum(math.prod(lazy.shape) * lazy.storage.dtype.itemsize for lazy in lazies.values())
    if claimed > MAX_TENSOR_BYTES_TOTAL:
        raise CheckpointError(f"its tensors claim {claimed} bytes; refused")
    return {name: _materialise(lazy, load) for name, lazy in lazies.items()}


def _materialise(lazy: LazyTensor, load: _Load) -> Tensor:
    stored = load(lazy.storage)
    size = lazy.storage.dtype.itemsize
    count = math.prod(lazy.shape)
    if len(stored) != lazy.storage.numel * size or (lazy.offset + count) > lazy.storage.numel:
        raise CheckpointError("a tensor is longer than the bytes behind it")
    flat = np.frombuffer(stored, dtype=lazy.storage.dtype, count=count, offset=lazy.offset * size)
    view = flat.reshape(lazy.shape)
    view.flags.writeable = False
    return view


def _read_zip(blob: bytes) -> tuple[Any, _Load]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(blob))
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        # Stored, never deflated: that is how torch writes, and it leaves no room for a bomb.
        if len(members) != len(archive.infolist()) or any(m.compress_type for m in members.values()):
            raise CheckpointError("its archive has repeated or compressed members")
        if sum(m.file_size for m in members.values()) > len(blob):
            raise CheckpointError("its archive claims more than it holds")
        if len(pickles) != 1:
            raise CheckpointError("its archive has no single data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        if members.get(f"{prefix}byteorder") and archive.read(f"{prefix}byteorder").strip() != b"little":
            raise CheckpointError("it is not little-endian")
        tree = interpret(io.BytesIO(archive.read(pickles[0])))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as err:
        raise CheckpointError(f"its archive is damaged ({what_and_why(err)})") from err
    cache: dict[str, bytes] = {}

    def load(storage: Storage) -> bytes:
        member = f"{prefix}data/{storage.key}"
        if member not in members:
            raise CheckpointError("a tensor has no bytes")
        if member not in cache:
            try:
                cache[member] = archive.read(member)
            except (zipfile.BadZipFile, RuntimeError, EOFError, OSError) as err:
                raise CheckpointError(f"its archive is damaged ({what_and_why(err)})") from err
        return cache[member]

    return tree, load


def _read_legacy(blob: bytes) -> tuple[Any, _Load]:
    """Before torch 1.6: three header pickles, the object, the storage keys, then each length and bytes."""
    stream = io.BytesIO(blob)
    if interpret(stream) != _LEGACY_MAGIC or interpret(stream) != _LEGACY_PROTOCOL:
        raise CheckpointError("its header is not PyTorch's")
    system = interpret(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("it is not little-endian")
    storages: dict[str, Storage] = {}
    tree = interpret(stream, storages)
    keys = interpret(stream)
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages):
        raise CheckpointError("its storages and their list disagree")
    view, at = memoryview(blob), stream.tell()
    parts: dict[str, memoryview] = {}
    for key in map(str, keys):
        storage = storages[key]
        length = storage.numel * storage.dtype.itemsize
        if view[at : at + 8] != struct.pack("<q", storage.numel) or at + 8 + length > len(blob):
            raise CheckpointError("a storage is cut short")
        parts[key] = view[at + 8 : at + 8 + length]
        at += 8 + length
    return tree, lambda storage: parts[storage.key]
