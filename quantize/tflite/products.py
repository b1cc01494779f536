"""Convolutions and matrix products, in INT8 where both sides are, with what their rounding needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import tflite

from quantize.errors import QuantizeError
from quantize.tflite.graph import Graph
from quantize.tflite.layout import Value, channels_last, turned
from quantize.tflite.writer import Array, Grid

UNSIGNED_TO_SIGNED = 128

# The schema's numbers.
NONE: int = tflite.ActivationFunctionType.NONE
RELU: int = tflite.ActivationFunctionType.RELU
SAME: int = tflite.Padding.SAME
VALID: int = tflite.Padding.VALID


class Products(Graph):
    """Rounding, its way back, and everything that multiplies by weights."""

    def _quantizelinear(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        value = self._value(node.input[0])
        out = self._w.tensor(node.output[0], value.stored, np.int8, self._grid(node))
        self._w.operator("QUANTIZE", [value.tensor], out, "Quantize")
        return Value(out, value.order, value.shape, "int8", self._grid(node))

    def _grid(self, node: onnx.NodeProto) -> Grid:
        scale, zero = self._constants[node.input[1]], self._constants[node.input[2]]
        if scale.size != 1 or zero.dtype != np.uint8:
            raise QuantizeError(f"{node.name}: activations must be uint8 with one scale")
        return Grid(scale.reshape(1), int(zero) - UNSIGNED_TO_SIGNED)

    def _dequantizelinear(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        source, name = node.input[0], node.output[0]
        if source not in self._constants:
            self._rounded[name] = source
            return
        scale, zero = self._constants[node.input[1]], self._constants[node.input[2]]
        if np.any(zero):
            raise QuantizeError(f"{node.name}: weights must be symmetric")
        steps, axis = self._constants[source], int(given.get("axis", 1))
        self._weights[name] = (steps, scale, axis)
        shape = [-1 if at == axis else 1 for at in range(steps.ndim)]
        real = steps * (scale.reshape(shape) if scale.size > 1 else scale)
        self._constants[name] = real.astype(np.float32)

    def _conv(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value | None:
        rank = len(self._shapes[node.input[0]])
        spatial = rank - 2
        pads = list(given.get("pads", [0] * 2 * spatial))
        strides, dilations = (list(given.get(key, [1] * spatial)) for key in ("strides", "dilations"))
        if given.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise QuantizeError(f"{node.name}: padding must be stated in numbers")
        if rank == 3:
            pads, strides, dilations = [0, pads[0], 0, pads[1]], [1, *strides], [1, *dilations]
        return self._product(node, node.input[1], pads, strides, dilations, int(given.get("group", 1)))

    def _gemm(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value | None:
        if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0):
            raise QuantizeError(f"{node.name}: only plain matrix products have a TFLite form here")
        return self._product(node, node.input[1], [0] * 4, [1, 1], [1, 1], 1, flip=not given.get("transB", 0))

    def _matmul(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value | None:
        if len(self._shapes[node.input[0]]) != 2:
            raise QuantizeError(f"{node.name}: only products of matrices have a TFLite form here")
        return self._product(node, node.input[1], [0] * 4, [1, 1], [1, 1], 1, flip=True)

    def _product(
        self, node: onnx.NodeProto, weights: str, pads: list[int], strides: list[int], dilations: list[int],
        group: int, flip: bool = False,
    ) -> Value | None:  # fmt: skip
        """A convolution. A matrix product is one over a single point: only those have a scale per channel."""
        if weights not in self._constants:
            raise QuantizeError(f"{node.name}: the weights must be constants")
        relu, quantize = self._followers(node)
        small = node.input[0] in self._rounded and weights in self._weights and quantize is not None
        order = channels_last(len(self._shapes[node.input[0]]))
        if small:
            source = self._rounded[node.input[0]]
            x = turned(self._w, source, self._values[source], order)
        else:
            x = self._value(node.input[0], order)
        steps, scale, _ = self._weights[weights] if small else (self._constants[weights], None, 0)
        steps = steps.T if flip else steps
        channels_in = x.shape[1]
        kernel = steps.reshape((*steps.shape[:2], *(1,) * (4 - steps.ndim), *steps.shape[2:]))
        depthwise = group > 1 and group == channels_in == kernel.shape[0]
        # (out, in, height, width) -> (out, height, width, in), or (1, height, width, channels).
        kernel = kernel.transpose(1, 2, 3, 0) if depthwise else kernel.transpose(0, 2, 3, 1)
        bias = np.zeros(steps.shape[0], np.float32)
        if len(node.input) > 2 and node.input[2]:
            bias = self._constants[node.input[2]]
        kernel_number, bias_number = self._weighed(node, weights, kernel, bias, scale, x, depthwise)
        padding = self._padding(node, pads, strides, dilations, kernel.shape[1:3])
        if padding == VALID:
            x = self._padded(node, x, pads)
        last, grid = node, None
        if small and quantize is not None:
            last, grid = quantize, self._grid(quantize)
        elif relu is not None:
            last = relu
        depth: dict[str, int] = {"DepthMultiplier": 1} if depthwise else {}
        shape = self._shapes[node.output[0]]
        dtype = "int8" if small else "float32"
        out = Value(-1, channels_last(len(shape)), shape, dtype, grid)
        number = self._w.tensor(last.output[0], out.stored, dtype, grid)
        self._w.operator(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x.tensor, kernel_number, bias_number], number,
            "DepthwiseConv2D" if depthwise else "Conv2D",
            Padding=padding, StrideH=strides[0], StrideW=strides[1],
            DilationHFactor=dilations[0], DilationWFactor=dilations[1],
            FusedActivationFunction=NONE if relu is None else RELU,
            **depth,
        )  # fmt: skip
        value = Value(number, out.order, shape, dtype, grid)
        self._done.update(n.output[0] for n in (relu, quantize if small else None) if n is not None)
        self._values[last.output[0]] = value
        return None

    def _followers(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto | None, onnx.NodeProto | None]:
        """The ReLU and the rounding that alone read the node: they become part of it."""
        relu = self._only_reader(node.output[0], "Relu")
        return relu, self._only_reader((relu or node).output[0], "QuantizeLinear")

    def _only_reader(self, name: str, op: str) -> onnx.NodeProto | None:
        readers = self._readers.get(name, [])
        wanted = any(output.name == name for output in self._graph.output)
        return readers[0] if len(readers) == 1 and readers[0].op_type == op and not wanted else None

    def _weighed(
        self, node: onnx.NodeProto, weights: str, kernel: Array, bias: Array, scale: Array | None, x: Value,
        depthwise: bool,
    ) -> tuple[int, int]:  # fmt: skip
        name = f"{node.output[0]}/kernel"
        if scale is None:
            return self._real(name, weights, kernel), self._w.constant(f"{name}/bias", bias)
        if x.grid is None or kernel.dtype != np.int8:
            raise QuantizeError(f"{node.name}: weights must be int8 where activations are")
        channels = np.broadcast_to(scale.reshape(-1), (len(bias),)).astype(np.float64)
        sum_scale = channels * float(x.grid.scale[0])
        given = self._weights.get(node.input[2]) if len(node.input) > 2 else None
        steps = given[0] if given is not None else np.rint(bias / sum_scale).astype(np.int32)
        grid = Grid(channels.astype(np.float32), axis=3 if depthwise else 0)
        return (
            self._w.constant(name, kernel, grid),
            self._w.constant(f"{name}/bias", steps, Grid(sum_scale.astype(np.float32))),
        )

    def _real(self, name: str, weights: str, kernel: Array) -> int:
        """A float kernel. From 16 bits the runtimes make 32 once, when they open the file."""
        if weights not in self._halves:
            return self._w.constant(name, kernel.astype(np.float32))
        out = self._w.tensor(name, kernel.shape, np.float32)
        half = self._w.constant(f"{name}/f16", kernel.astype(np.float16))
        self._w.operator("DEQUANTIZE", [half], out, "Dequantize")
        return out

    def _padding(
        self, node: onnx.NodeProto, pads: list[int], strides: list[int], dilations: list[int],
        kernel: Sequence[int],
    ) -> int:  # fmt: skip
        """SAME only where it means what ONNX means; elsewhere the zeros are put there by an operator."""
        spread = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        even = all(pads[i] == pads[i + 2] == spread[i] // 2 and spread[i] % 2 == 0 for i in range(2))
        return SAME if even and any(pads) and strides == [1, 1] else VALID

    def _padded(self, node: onnx.NodeProto, x: Value, pads: list[int]) -> Value:
        if not any(pads):
            return x
        top, left, bottom, right = pads
        around = np.asarray([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        length = [n if n < 0 else n + int(around[i].sum()) for i, n in enumerate(x.stored)]
        out = self._w.tensor(f"{node.output[0]}/padded", length, x.dtype, x.grid)
        self._w.operator("PAD", [x.tensor, self._w.constant(f"{node.output[0]}/pads", around)], out, "Pad")
        return Value(out, x.order, x.shape, x.dtype, x.grid)
