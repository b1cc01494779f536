"""What every lowering of an operator needs: the ONNX graph's values in the TFLite graph being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tflite
from onnx import helper, numpy_helper

from device.model_store.sessions import OnnxSession
from quantize.tflite.layout import Order, Value, arrange, natural, turned
from quantize.tflite.writer import Array, Field, Writer

PROBE_LENGTHS = (208, 332)
"""Two lengths of every varying axis; what differs between them varies."""

# The schema's numbers.
FLOAT: int = tflite.TensorType.FLOAT32
INT: int = tflite.TensorType.INT32


class Graph:
    """The graph so far. Operators are methods of its children, named like them in lower case."""

    def __init__(self, model: onnx.ModelProto, fixed: Mapping[str, int]) -> None:
        self._w = Writer(model.producer_name, PROBE_LENGTHS[0])
        self._graph = model.graph
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._shapes = _found_shapes(model, fixed)
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)
        self._values: dict[str, Value] = {}
        self._weights: dict[str, tuple[Array, Array, int]] = {}
        """Dequantised constants: steps, scale and axis."""
        self._halves: set[str] = set()
        """Constants that the file keeps in 16 bits."""
        self._rounded: dict[str, str] = {}
        """Dequantised activations by the name of what holds their integers."""
        self._coverage: dict[tuple[Any, ...], Value] = {}
        self._done: set[str] = set()

    def _value(self, name: str, order: Order | None = None) -> Value:
        """The float (or index) tensor of that ONNX name, in `order` when one is asked."""
        if name in self._constants:
            constant = self._constants[name]
            if constant.dtype == np.int64:
                constant = constant.astype(np.int32)
            wanted = order or natural(constant.shape)
            stored = arrange(constant, len([axis for axis in wanted if axis is not None]), wanted)
            number = self._w.constant(name, stored)
            return Value(number, wanted, constant.shape, str(constant.dtype))
        if name in self._rounded and name not in self._values:
            self._values[name] = self._dequantised(name)
        value = self._values[name]
        return value if order is None else turned(self._w, name, value, order)

    def _dequantised(self, name: str) -> Value:
        given = self._values[self._rounded[name]]
        out = self._w.tensor(name, given.stored, np.float32)
        self._w.operator("DEQUANTIZE", [given.tensor], out, "Dequantize")
        return Value(out, given.order, given.shape)

    def _made(
        self, node: onnx.NodeProto, code: str, inputs: Sequence[int], order: Order, options: str = "",
        dtype: str = "float32", name: str = "", **fields: Field,
    ) -> Value:  # fmt: skip
        """One operator whose output stands for the node's, in `order`."""
        shape = self._shapes[node.output[0]]
        value = Value(-1, order, shape, dtype)
        out = self._w.tensor(name or node.output[0], value.stored, dtype)
        self._w.operator(code, inputs, out, options, **fields)
        return Value(out, order, shape, dtype)


def _found_shapes(model: onnx.ModelProto, fixed: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape, found by running the graph at two lengths; -1 where they differ."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    weights = (n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants)
    known = {node.output[0] for node in weights}
    inner = [node.output[0] for node in model.graph.node if node.output[0] not in known]
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
    session = OnnxSession(probe.SerializeToString())
    found: list[dict[str, tuple[int, ...]]] = []
    for length in PROBE_LENGTHS:
        feed = {}
        for given in model.graph.input:
            dims = given.type.tensor_type.shape.dim
            shape = [fixed.get(d.dim_param, length) if d.dim_param else d.dim_value for d in dims]
            feed[given.name] = np.ones(shape, np.float32)
        computed = dict(zip(inner, session.run(dict(feed)), strict=True)) | feed
        found.append({name: value.shape for name, value in computed.items()})
    return {
        name: tuple(a if a == b else -1 for a, b in zip(shape, found[1][name], strict=True))
        for name, shape in found[0].items()
    }
