"""What acts on each element by itself, or on all along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from quantize.errors import QuantizeError
from quantize.tflite.graph import Graph
from quantize.tflite.layout import Value, reshape, turned

SIMPLE = {
    "Relu": ("RELU", ""),
    "Sigmoid": ("LOGISTIC", ""),
    "Tanh": ("TANH", ""),
    "Sqrt": ("SQRT", ""),
    "Abs": ("ABS", "Abs"),
    "Exp": ("EXP", "Exp"),
    "Log": ("LOG", ""),
    "Neg": ("NEG", "Neg"),
    "HardSwish": ("HARD_SWISH", "HardSwish"),
}
PAIRS = {
    "Add": ("ADD", "Add"),
    "Sub": ("SUB", "Sub"),
    "Mul": ("MUL", "Mul"),
    "Div": ("DIV", "Div"),
    "Max": ("MAXIMUM", "MaximumMinimum"),
    "Min": ("MINIMUM", "MaximumMinimum"),
}


class Elements(Graph):
    """Functions of one tensor or two, sums, means and the like."""

    def _simple(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        code, options = SIMPLE[node.op_type]
        return self._made(node, code, [x.tensor], x.order, options)

    def _pair(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        code, options = PAIRS[node.op_type]
        leader = max(
            (name for name in node.input if name not in self._constants),
            key=lambda name: len(self._shapes[name]),
        )
        lead = self._value(leader)
        rank = len(lead.shape)
        operands = []
        for name in node.input:
            operands.append(self._beside(node, name, lead, rank))
        dtype = lead.dtype
        if dtype == "int32" and node.op_type == "Div":
            code, options = "FLOOR_DIV", "FloorDiv"
        return self._made(node, code, [o.tensor for o in operands], lead.order, options, dtype)

    def _beside(self, node: onnx.NodeProto, name: str, lead: Value, rank: int) -> Value:
        """An operand in the order of the one it meets."""
        shape = self._shapes.get(name, ())
        if name in self._constants or len(shape) == rank:
            return self._value(name, lead.order)
        if any(length != 1 for length in shape):
            raise QuantizeError(f"{node.name}: operands of different rank have no TFLite form here")
        value = self._value(name)
        ones = (1,) * len(lead.order)
        return Value(reshape(self._w, f"{name}.spread", value, ones), lead.order, (1,) * rank, value.dtype)

    def _identity(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        return self._value(node.input[0])

    def _clip(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        low, high = (self._value(name, x.order).tensor for name in node.input[1:3])
        name = f"{node.output[0]}.from"
        above = self._made(node, "MAXIMUM", [x.tensor, low], x.order, "MaximumMinimum", name=name)
        return self._made(node, "MINIMUM", [above.tensor, high], x.order, "MaximumMinimum")

    def _leakyrelu(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        return self._made(
            node, "LEAKY_RELU", [x.tensor], x.order, "LeakyRelu", Alpha=float(given.get("alpha", 0.01))
        )

    def _reducemean(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        return self._reduced(node, self._value(node.input[0]), given, "MEAN")

    def _reducesum(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        return self._reduced(node, self._value(node.input[0]), given, "SUM")

    def _reducemax(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        return self._reduced(node, self._value(node.input[0]), given, "REDUCE_MAX")

    def _reducesumsquare(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        out = self._w.tensor(f"{node.output[0]}.squares", x.stored, np.float32)
        self._w.operator("MUL", [x.tensor, x.tensor], out, "Mul")
        return self._reduced(node, Value(out, x.order, x.shape), given, "SUM")

    def _globalaveragepool(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        return self._reduced(node, x, {"axes": list(range(2, len(x.shape))), "keepdims": 1}, "MEAN")

    def _reduced(self, node: onnx.NodeProto, x: Value, given: dict[str, Any], code: str) -> Value:
        axes = given.get("axes")
        if axes is None and len(node.input) > 1:
            axes = self._constants[node.input[1]].tolist()
        rank = len(x.shape)
        gone = sorted({int(axis) % rank for axis in (axes if axes is not None else range(rank))})
        keep = bool(given.get("keepdims", 1))
        order = x.order
        if not keep:
            kept = [axis for axis in range(rank) if axis not in gone]
            order = tuple(None if a is None else kept.index(a) for a in order if a not in gone)
        where = self._w.ints([x.order.index(axis) for axis in gone])
        return self._made(node, code, [x.tensor, where], order, "Reducer", KeepDims=keep)

    def _softmax(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        rank = len(x.shape)
        axis = int(given.get("axis", -1)) % rank
        order = (*(a for a in x.order if a != axis), axis)  # TFLite's runs over the last axis only
        x = turned(self._w, node.input[0], x, order)
        return self._made(node, "SOFTMAX", [x.tensor], order, "Softmax", Beta=1.0)
