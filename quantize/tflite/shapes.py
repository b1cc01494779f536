"""What only rearranges: joins, turns, reshapes, lengths, casts and picks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from quantize.errors import QuantizeError
from quantize.tflite.graph import FLOAT, INT, Graph
from quantize.tflite.layout import Value, natural, reshape


class Shapes(Graph):
    """No arithmetic happens here."""

    def _concat(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        order = self._value(node.input[0]).order
        parts = [self._value(name, order) for name in node.input]
        axis = order.index(int(given["axis"]) % len(parts[0].shape))
        return self._made(
            node, "CONCATENATION", [part.tensor for part in parts], order, "Concatenation", Axis=axis
        )

    def _transpose(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        """Nothing moves: the tensor only lies in another order from now on."""
        x, turn = self._value(node.input[0]), list(given["perm"])
        order = tuple(None if axis is None else turn.index(axis) for axis in x.order)
        return Value(x.tensor, order, self._shapes[node.output[0]], x.dtype)

    def _unsqueeze(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        shape = self._shapes[node.output[0]]
        (new,) = (int(axis) % len(shape) for axis in self._constants[node.input[1]])
        order = (*(None if a is None else a + (a >= new) for a in x.order), new)
        wanted = Value(-1, order, shape).stored
        return Value(reshape(self._w, node.output[0], x, wanted), order, shape, x.dtype)

    def _reshape(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0], natural(self._shapes[node.input[0]]))
        shape = self._shapes[node.output[0]]
        if shape.count(-1) > 1:
            raise QuantizeError(f"{node.name}: more than one length varies")
        return Value(reshape(self._w, node.output[0], x, shape), natural(shape), shape, x.dtype)

    _flatten = _reshape
    _squeeze = _reshape

    def _shape(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        rank = len(x.shape)
        start, end = int(given.get("start", 0)), int(given.get("end", rank))
        if end - start != 1:
            raise QuantizeError(f"{node.name}: only one length at a time has a TFLite form here")
        at = x.order.index(start % rank)
        whole = self._w.tensor(f"{node.output[0]}/all", [len(x.order)], np.int32)
        self._w.operator("SHAPE", [x.tensor], whole, "Shape", OutType=INT)
        inputs = [whole, self._w.ints([at]), self._w.ints([at + 1]), self._w.ints([1])]
        return self._made(node, "STRIDED_SLICE", inputs, (0,), "StridedSlice", "int32")

    def _cast(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value | None:
        if node.input[0] in self._constants and self._constants[node.input[0]].dtype == np.float16:
            self._constants[node.output[0]] = self._constants[node.input[0]].astype(np.float32)
            self._halves.add(node.output[0])
            return None
        x = self._value(node.input[0])
        if given["to"] not in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            raise QuantizeError(f"{node.name}: only casts between float and int have a TFLite form here")
        real = given["to"] == onnx.TensorProto.FLOAT
        before, after = FLOAT if x.dtype == "float32" else INT, FLOAT if real else INT
        dtype = "float32" if real else "int32"
        fields = {"InDataType": before, "OutDataType": after}
        return self._made(node, "CAST", [x.tensor], x.order, "Cast", dtype, "", **fields)

    def _gather(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x, indices = self._value(node.input[0]), self._value(node.input[1])
        if len(indices.shape) != 1:
            raise QuantizeError(f"{node.name}: only a list of indices has a TFLite form here")
        axis = x.order.index(int(given.get("axis", 0)) % len(x.shape))
        return self._made(node, "GATHER", [x.tensor, indices.tensor], x.order, "Gather", x.dtype, Axis=axis)
