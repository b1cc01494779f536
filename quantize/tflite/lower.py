"""From an INT8 ONNX graph (QDQ) to the TFLite file that computes the same with the same numbers.

Scales and zero points are taken over: uint8 becomes int8 by subtracting 128 from both, weights keep their
steps and their scale per channel, biases stay int32. Whatever the ONNX graph computes in float stays float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantize.errors import QuantizeError
from quantize.tflite.elements import PAIRS, SIMPLE, Elements
from quantize.tflite.layout import Value, natural
from quantize.tflite.shapes import Shapes
from quantize.tflite.windows import Windows

__all__ = ["QuantizeError", "lower"]


def lower(model: onnx.ModelProto, *, fixed: Mapping[str, int] | None = None) -> bytes:
    """The TFLite file of `model`; the same model gives the same bytes. Raises QuantizeError.

    Varying axes are those that ONNX names; `fixed` gives some of them a length, `batch` is one.
    """
    return _Lowering(model, {"batch": 1, **(fixed or {})}).to_bytes()


class _Lowering(Windows, Elements, Shapes):
    """Goes through the nodes in order and has each lowered by the method that is named like it."""

    def to_bytes(self) -> bytes:
        inputs = []
        for given in self._graph.input:
            shape = self._shapes[given.name]
            value = Value(self._w.tensor(given.name, shape, np.float32), natural(shape), shape)
            self._values[given.name] = value
            inputs.append(value.tensor)
        for node in self._graph.node:
            if node.output[0] not in self._done:
                self._lower(node)
        outputs = []
        for wanted in self._graph.output:
            shape = self._shapes[wanted.name]
            outputs.append(self._value(wanted.name, natural(shape)).tensor)
        return self._w.to_bytes(inputs, outputs)

    def _lower(self, node: onnx.NodeProto) -> None:
        how: Callable[[onnx.NodeProto, dict[str, Any]], Value | None] | None
        how = getattr(self, f"_{node.op_type.lower()}", None)
        if how is None and node.op_type in SIMPLE:
            how = self._simple
        if how is None and node.op_type in PAIRS:
            how = self._pair
        if how is None:
            raise QuantizeError(f"{node.op_type} ({node.name}) has no TFLite form here; add one to lower.py")
        value = how(node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        if value is not None:
            self._values[node.output[0]] = value
