"""Pools over windows, the last of which may be partial, and counting along a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantize.errors import QuantizeError
from quantize.tflite.graph import FLOAT, INT
from quantize.tflite.layout import Value, channels_last, natural, reshape
from quantize.tflite.products import VALID, Products


class Windows(Products):
    """Pools are padded like convolutions."""

    def _averagepool(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x, size, strides = self._windows(node, given)
        if not given.get("ceil_mode", 0):
            return self._pooled(node, "AVERAGE_POOL_2D", x, size, strides)
        if size != strides:
            raise QuantizeError(f"{node.name}: a partial last window must not overlap the one before")
        # The last window may be partial: fill it with zeros and divide by how much of it was there.
        pads = [0, 0, size[0] - 1, size[1] - 1]
        sums = self._pooled(
            node, "AVERAGE_POOL_2D", self._padded(node, x, pads), size, strides, f"{node.output[0]}/part"
        )
        key = (tuple(size), x.stored[1:3])
        if key not in self._coverage:
            ones = self._ones(node, x, 1, 2)
            name = f"{node.output[0]}/coverage"
            shape = [1, *Value(-1, sums.order, sums.shape).stored[1:3], 1]
            filled = self._padded(node, ones, pads)
            number = self._w.tensor(name, shape, np.float32)
            self._pool(number, "AVERAGE_POOL_2D", filled, size, strides)
            self._coverage[key] = Value(number, sums.order, sums.shape)
        return self._made(node, "DIV", [sums.tensor, self._coverage[key].tensor], sums.order, "Div")

    def _maxpool(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x, size, strides = self._windows(node, given)
        if given.get("ceil_mode", 0):
            raise QuantizeError(f"{node.name}: partial windows have no TFLite form here")
        return self._pooled(node, "MAX_POOL_2D", x, size, strides)

    def _windows(self, node: onnx.NodeProto, given: dict[str, Any]) -> tuple[Value, list[int], list[int]]:
        x = self._value(node.input[0], channels_last(len(self._shapes[node.input[0]])))
        size = list(given["kernel_shape"])
        strides = list(given.get("strides", [1] * len(size)))
        if any(given.get("pads", [0])) or any(d != 1 for d in given.get("dilations", [1])):
            raise QuantizeError(f"{node.name}: padded or dilated pools have no TFLite form here")
        return (x, size, strides) if len(size) == 2 else (x, [1, *size], [1, *strides])

    def _pooled(
        self, node: onnx.NodeProto, code: str, x: Value, size: list[int], strides: list[int], name: str = ""
    ) -> Value:
        shape = self._shapes[node.output[0]]
        out = self._w.tensor(name or node.output[0], Value(-1, x.order, shape).stored, np.float32)
        self._pool(out, code, x, size, strides)
        return Value(out, x.order, shape)

    def _pool(self, out: int, code: str, x: Value, size: list[int], strides: list[int]) -> None:
        self._w.operator(
            code, [x.tensor], out, "Pool2D", Padding=VALID, StrideH=strides[0], StrideW=strides[1],
            FilterHeight=size[0], FilterWidth=size[1],
        )  # fmt: skip

    def _ones(self, node: onnx.NodeProto, x: Value, *kept: int) -> Value:
        """Ones as long as `x` along the stored axes `kept`, of length one along the others."""
        lengths = [x.shape[axis] if at in kept and axis is not None else 1 for at, axis in enumerate(x.order)]
        shape = tuple(lengths)
        others = self._w.ints([at for at in range(len(shape)) if at not in kept])
        first = self._w.tensor(f"{node.output[0]}/one", shape, np.float32)
        # Not SLICE: where one is in the graph, XNNPACK does not take it.
        self._w.operator("REDUCE_MAX", [x.tensor, others], first, "Reducer", KeepDims=True)
        onnx_shape = [1] * len(x.shape)
        for at in kept:
            onnx_shape[x.order[at] or 0] = lengths[at]
        value = Value(first, x.order, tuple(onnx_shape))
        for code, options, constant in (("MUL", "Mul", 0.0), ("ADD", "Add", 1.0)):
            number = self._w.constant(
                f"{node.output[0]}/{constant:g}", np.full((1,) * len(shape), constant, np.float32)
            )
            out = self._w.tensor(f"{node.output[0]}/{code.lower()}", shape, np.float32)
            self._w.operator(code, [value.tensor, number], out, options)
            value = Value(out, x.order, value.shape)
        return value

    def _range(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        """0, 1, 2, ... as many as a tensor is long, counted along it.

        TFLite's own RANGE makes a tensor of unknown size, and with one of those no delegate takes the graph.
        """
        source, axis = self._measured(node)
        x = self._value(source)
        at = x.order.index(axis % len(x.shape))
        ones = self._ones(node, x, at)
        counted = self._w.tensor(f"{node.output[0]}/counted", ones.stored, np.float32)
        self._w.operator("CUMSUM", [ones.tensor, self._w.ints([at])], counted, "Cumsum", Exclusive=True)
        whole = self._w.tensor(f"{node.output[0]}/whole", ones.stored, np.int32)
        self._w.operator("CAST", [counted], whole, "Cast", InDataType=FLOAT, OutDataType=INT)
        value = Value(whole, ones.order, ones.shape, "int32")
        shape = self._shapes[node.output[0]]
        return Value(reshape(self._w, node.output[0], value, shape), natural(shape), shape, "int32")

    def _measured(self, node: onnx.NodeProto) -> tuple[str, int]:
        """The tensor and axis whose length ends a range that starts at nought and steps by one."""
        start, limit, step = node.input
        made_by = {n.output[0]: n for n in self._graph.node}
        found = made_by.get(limit)
        if found is not None and found.op_type == "Squeeze":
            found = made_by.get(found.input[0])
        known = [self._constants.get(name) for name in (start, step)]
        if (
            found is None
            or found.op_type != "Shape"
            or [k is not None and int(k.flat[0]) for k in known] != [0, 1]
        ):
            raise QuantizeError(f"{node.name}: only a count along a tensor has a TFLite form here")
        attributes = {a.name: helper.get_attribute_value(a) for a in found.attribute}
        return found.input[0], int(attributes.get("start", 0))
