"""Reads a pickle that describes tensors, without unpickling it.

Unpickling runs whatever the author of the file wanted. This interpreter knows the few opcodes that build
literals, containers and tensor descriptions, and refuses the rest, so a hostile file can only be refused.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantize.errors import QuantizeError

MAX_PICKLE_BYTES = 16 * 1024 * 1024
MAX_OPERATIONS = 2_000_000

_STORAGES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch BoolStorage": np.dtype("?"),
}
_REBUILD = "torch._utils _rebuild_tensor_v2"
_MAPPING = "collections OrderedDict"
# Training notes that ride along in a Lightning checkpoint: recognised so that they can be dropped.
_DROPPED = {
    "torch.torch_version TorchVersion",
    "pyannote.audio.core.task Specifications",
    "pyannote.audio.core.task Problem",
    "pyannote.audio.core.task Resolution",
}


class CheckpointError(QuantizeError):
    """The file is damaged, hostile, or not a checkpoint this module reads."""


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Where numbers lie in the checkpoint: `numel` of them, of one type, under a key."""

    dtype: np.dtype[Any]
    key: str
    numel: int


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A contiguous tensor inside a storage, `offset` numbers from its beginning."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]


class _Opaque:
    """Stands for a value that is recognised and dropped."""


class _Mark:
    """Where a run of pickled items begins."""


def interpret(stream: io.BytesIO, storages: dict[str, Storage] | None = None) -> Any:
    """The value of one pickle, built from literals, containers and tensor descriptions only."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    seen = storages if storages is not None else {}
    began = stream.tell()
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            if count > MAX_OPERATIONS or (position or 0) - began > MAX_PICKLE_BYTES:
                raise CheckpointError("its description is unreasonably long")
            if opcode.name == "STOP":
                return stack.pop()
            _step(opcode.name, argument, stack, memo, seen)
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as err:
        raise CheckpointError(f"its description is damaged ({type(err).__name__})") from err
    raise CheckpointError("its description has no end")


_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any], seen: dict[str, Storage]) -> None:
    if name in _LITERALS:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name == "MARK":
        stack.append(_Mark)
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        size = int(name[-1])
        items = tuple(stack[-size:])
        if len(items) != size:
            raise IndexError(name)
        del stack[-size:]
        stack.append(items)
    elif name == "APPEND":
        item = stack.pop()
        _expect(stack[-1], list).append(item)
    elif name == "APPENDS":
        items = tuple(_since_mark(stack))
        _expect(stack[-1], list).extend(items)
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        _assign(stack[-1], [key, value])
    elif name == "SETITEMS":
        pairs = _since_mark(stack)
        _assign(stack[-1], pairs)
    elif name == "GLOBAL":
        stack.append(_known(argument))
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop(), seen))
    elif name in ("REDUCE", "NEWOBJ"):
        arguments, function = stack.pop(), stack.pop()
        stack.append(_apply(function, arguments))
    elif name == "BUILD":
        stack.pop()  # attributes of a container: nothing a tensor needs
        if not isinstance(stack[-1], dict | _Opaque):
            raise CheckpointError("it tries to alter something that is not a container")
    elif name not in ("PROTO", "FRAME"):
        raise CheckpointError(f"it uses the pickle operation {name}, which describes no tensor; refused")


def _known(name: str) -> _Global:
    if name in _STORAGES or name in _DROPPED or name in (_REBUILD, _MAPPING):
        return _Global(name)
    raise CheckpointError(f"it names {name.replace(' ', '.')!r}, which is no tensor; refused")


def _apply(function: Any, arguments: Any) -> Any:
    name = _expect(function, _Global).name
    if name == _MAPPING and arguments == ():
        return {}
    if name in _DROPPED:
        return _Opaque()
    if name != _REBUILD:
        raise CheckpointError("it calls something that builds no tensor; refused")
    storage, offset, shape, stride = arguments[:4]
    numbers = (offset, *shape, *stride)
    if (
        not all(type(n) is int and 0 <= n < 2**40 for n in numbers)
        or len(shape) != len(stride)
        or len(shape) > 8
    ):
        raise CheckpointError("a tensor's shape makes no sense")
    # Contiguous only: a stride of zero would let four bytes claim a gigabyte.
    steps, step = [], 1
    for extent in reversed(shape):
        steps.append(step)
        step *= extent
    if any(s != e and n > 1 for s, e, n in zip(stride, reversed(steps), shape, strict=True)):
        raise CheckpointError("a tensor is not contiguous")
    return LazyTensor(_expect(storage, Storage), offset, tuple(shape))


def _storage(persistent: Any, seen: dict[str, Storage]) -> Storage:
    kind, function, key, _, numel = persistent[:5]
    dtype = _STORAGES.get(_expect(function, _Global).name)
    if kind != "storage" or dtype is None or not isinstance(key, str) or type(numel) is not int or numel < 0:
        raise CheckpointError("a storage makes no sense")
    storage = Storage(dtype, key, numel)
    if seen.setdefault(key, storage) != storage:
        raise CheckpointError("a storage is described twice, differently")
    return storage


def _since_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _Mark:
        items.append(item)
    return items[::-1]


def _expect(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise CheckpointError("its description does not fit together")
    return value


def _assign(target: Any, flat: list[Any]) -> None:
    mapping = target if isinstance(target, _Opaque) else _expect(target, dict)
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if not isinstance(key, str | int):
            raise CheckpointError("a name is neither text nor a number")
        if isinstance(mapping, dict):
            mapping[key] = value
