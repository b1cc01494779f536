"""Writes TFLite files as straight-line Python: tensors, operators, then the bytes.

A thin layer over the published schema (the `tflite` package holds its classes, `flatbuffers` the container).
The same calls give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

Array = npt.NDArray[Any]
Field = int | float | bool | tuple[int, ...]

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT_BYTES = 16

_TYPES = {
    np.dtype(np.float32): tflite.TensorType.FLOAT32,
    np.dtype(np.float16): tflite.TensorType.FLOAT16,
    np.dtype(np.int32): tflite.TensorType.INT32,
    np.dtype(np.int8): tflite.TensorType.INT8,
}
# The first version of each operator that takes eight-bit integers; every other is version 1.
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "PAD": 2, "QUANTIZE": 1, "DEQUANTIZE": 3, "TRANSPOSE": 2}
# The schema's own capitals are not Python's.
_OPTIONS_SUFFIX = "Options"


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where integers lie on the real line: real = scale * (integer - zero)."""

    scale: npt.NDArray[np.float32]
    """One per tensor, or one per slice along `axis`."""
    zero: int = 0
    axis: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    """-1 where the length may vary."""
    dtype: np.dtype[Any]
    buffer: int
    grid: Grid | None


@dataclass(frozen=True, slots=True)
class _Operator:
    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: str
    fields: tuple[tuple[str, Field], ...]


class Writer:
    """Collects one graph. Tensors are named by the number that `tensor` returns."""

    def __init__(self, description: str, usual_length: int) -> None:
        """`usual_length` stands in the file wherever a length may vary: what is allocated at first."""
        self._description = description
        self._usual_length = usual_length
        self._tensors: list[_Tensor] = []
        self._operators: list[_Operator] = []
        # The first buffer is empty by convention: tensors without constant data point to it.
        self._buffers: list[bytes] = [b""]
        self._ints: dict[tuple[int, ...], int] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike, grid: Grid | None = None) -> int:
        """A tensor that the graph computes or is given."""
        self._tensors.append(_Tensor(name, tuple(shape), np.dtype(dtype), 0, grid))
        return len(self._tensors) - 1

    def constant(self, name: str, value: Array, grid: Grid | None = None) -> int:
        """A tensor whose content stands in the file."""
        self._buffers.append(np.ascontiguousarray(value).tobytes())
        self._tensors.append(_Tensor(name, value.shape, value.dtype, len(self._buffers) - 1, grid))
        return len(self._tensors) - 1

    def ints(self, values: Sequence[int]) -> int:
        """A constant list of int32; the same list is stored once."""
        key = tuple(values)
        if key not in self._ints:
            name = "ints_" + "_".join(map(str, key))
            self._ints[key] = self.constant(name, np.asarray(key, np.int32))
        return self._ints[key]

    def operator(
        self, code: str, inputs: Sequence[int], output: int, options: str = "", **fields: Field
    ) -> None:
        """One operator by its name in the schema, with its options table and that table's fields."""
        self._operators.append(
            _Operator(code, tuple(inputs), (output,), options, tuple(sorted(fields.items())))
        )

    def to_bytes(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The finished file."""
        size = sum(len(data) for data in self._buffers) + 512 * (len(self._tensors) + len(self._operators))
        b = flatbuffers.Builder(size)
        buffers = _offsets(b, [self._buffer(b, data) for data in self._buffers])
        codes = list(dict.fromkeys(operator.code for operator in self._operators))
        graph = _table(
            b, "SubGraph",
            Tensors=_offsets(b, [self._tensor(b, tensor) for tensor in self._tensors]),
            Inputs=_ints(b, inputs),
            Outputs=_ints(b, outputs),
            Operators=_offsets(b, [self._operator(b, codes, operator) for operator in self._operators]),
        )  # fmt: skip
        model = _table(
            b, "Model",
            Version=SCHEMA_VERSION,
            OperatorCodes=_offsets(b, [_code(b, code) for code in codes]),
            Subgraphs=_offsets(b, [graph]),
            Description=b.CreateString(self._description),
            Buffers=buffers,
        )  # fmt: skip
        b.Finish(model, FILE_IDENTIFIER)
        return bytes(b.Output())

    def _buffer(self, b: flatbuffers.Builder, data: bytes) -> int:
        if not data:
            return _table(b, "Buffer")
        b.StartVector(1, len(data), BUFFER_ALIGNMENT_BYTES)
        b.head -= len(data)
        b.Bytes[b.head : b.head + len(data)] = data
        return _table(b, "Buffer", Data=b.EndVector())

    def _tensor(self, b: flatbuffers.Builder, tensor: _Tensor) -> int:
        fields: dict[str, Any] = {
            "Shape": _ints(b, [self._usual_length if n == -1 else n for n in tensor.shape]),
            "Type": _TYPES[tensor.dtype],
            "Buffer": tensor.buffer,
            "Name": b.CreateString(tensor.name),
        }
        if -1 in tensor.shape:
            fields["ShapeSignature"] = _ints(b, tensor.shape)
        if tensor.grid is not None:
            scale = np.atleast_1d(tensor.grid.scale).astype(np.float32)
            zero = np.full(len(scale), tensor.grid.zero, np.int64)
            fields["Quantization"] = _table(
                b, "QuantizationParameters",
                Scale=b.CreateNumpyVector(scale),
                ZeroPoint=b.CreateNumpyVector(zero),
                QuantizedDimension=tensor.grid.axis,
            )  # fmt: skip
        return _table(b, "Tensor", **fields)

    def _operator(self, b: flatbuffers.Builder, codes: list[str], operator: _Operator) -> int:
        fields: dict[str, Any] = {
            "OpcodeIndex": codes.index(operator.code),
            "Inputs": _ints(b, operator.inputs),
            "Outputs": _ints(b, operator.outputs),
        }
        if operator.options:
            name = f"{operator.options}{_OPTIONS_SUFFIX}"
            given = {k: _ints(b, v) if isinstance(v, tuple) else v for k, v in operator.fields}
            fields["BuiltinOptions"] = _table(b, name, **given)
            fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, name)
        return _table(b, "Operator", **fields)


def _code(b: flatbuffers.Builder, code: str) -> int:
    number = getattr(tflite.BuiltinOperator, code)
    return _table(
        b, "OperatorCode",
        # Old readers look here; larger numbers stand in the newer field only.
        DeprecatedBuiltinCode=min(number, 127),
        BuiltinCode=number,
        Version=_VERSIONS.get(code, 1),
    )  # fmt: skip


def _table(b: flatbuffers.Builder, name: str, **fields: Any) -> int:
    """One table of the schema with the named fields set."""
    start: Callable[..., None] = getattr(tflite, f"{name}Start")
    start(b)
    for field, value in fields.items():
        getattr(tflite, f"{name}Add{field}")(b, value)
    end: Callable[..., int] = getattr(tflite, f"{name}End")
    return end(b)


def _ints(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    vector: int = b.CreateNumpyVector(np.asarray(values, np.int32))
    return vector


def _offsets(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    vector: int = b.EndVector()
    return vector
