"""From an INT8 ONNX graph (QDQ) to the TFLite file that computes the same with the same numbers.

Scales and zero points are taken over: uint8 becomes int8 by subtracting 128 from both, weights keep their
steps and their scale per channel, biases stay int32. Whatever the ONNX graph computes in float stays float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tflite
from onnx import helper, numpy_helper

from device.models.sessions import OnnxSession
from quantize.errors import QuantizeError
from quantize.tflite.layout import Order, Value, arrange, channels_last, natural, reshape, turned
from quantize.tflite.writer import Array, Field, Grid, Writer

UNSIGNED_TO_SIGNED = 128
PROBE_LENGTHS = (208, 332)
"""Two lengths of every varying axis; what differs between them varies."""

# The schema's numbers.
NONE: int = tflite.ActivationFunctionType.NONE
RELU: int = tflite.ActivationFunctionType.RELU
SAME: int = tflite.Padding.SAME
VALID: int = tflite.Padding.VALID
FLOAT: int = tflite.TensorType.FLOAT32
INT: int = tflite.TensorType.INT32


class LoweringError(QuantizeError):
    """The graph holds something that has no TFLite form here."""


def lower(model: onnx.ModelProto, *, fixed: Mapping[str, int] | None = None) -> bytes:
    """The TFLite file of `model`; the same model gives the same bytes. Raises LoweringError.

    Varying axes are those that ONNX names; `fixed` gives some of them a length, `batch` is one.
    """
    return _Lowering(model, {"batch": 1, **(fixed or {})}).to_bytes()


class _Lowering:
    def __init__(self, model: onnx.ModelProto, fixed: Mapping[str, int]) -> None:
        self._w = Writer(model.producer_name, PROBE_LENGTHS[0])
        self._graph = model.graph
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._shapes = _shapes(model, fixed)
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
        if how is None and node.op_type in _SIMPLE:
            how = self._simple
        if how is None and node.op_type in _PAIRS:
            how = self._pair
        if how is None:
            raise LoweringError(f"{node.op_type} ({node.name}) has no TFLite form here; add one to lower.py")
        value = how(node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        if value is not None:
            self._values[node.output[0]] = value

    # --- values -------------------------------------------------------------------------------------------

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

    # --- integers -----------------------------------------------------------------------------------------

    def _quantizelinear(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        value = self._value(node.input[0])
        out = self._w.tensor(node.output[0], value.stored, np.int8, self._grid(node))
        self._w.operator("QUANTIZE", [value.tensor], out, "Quantize")
        return Value(out, value.order, value.shape, "int8", self._grid(node))

    def _grid(self, node: onnx.NodeProto) -> Grid:
        scale, zero = self._constants[node.input[1]], self._constants[node.input[2]]
        if scale.size != 1 or zero.dtype != np.uint8:
            raise LoweringError(f"{node.name}: activations must be uint8 with one scale")
        return Grid(scale.reshape(1), int(zero) - UNSIGNED_TO_SIGNED)

    def _dequantizelinear(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        source, name = node.input[0], node.output[0]
        if source not in self._constants:
            self._rounded[name] = source
            return
        scale, zero = self._constants[node.input[1]], self._constants[node.input[2]]
        if np.any(zero):
            raise LoweringError(f"{node.name}: weights must be symmetric")
        steps, axis = self._constants[source], int(given.get("axis", 1))
        self._weights[name] = (steps, scale, axis)
        shape = [-1 if at == axis else 1 for at in range(steps.ndim)]
        real = steps * (scale.reshape(shape) if scale.size > 1 else scale)
        self._constants[name] = real.astype(np.float32)

    # --- products -----------------------------------------------------------------------------------------

    def _conv(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value | None:
        rank = len(self._shapes[node.input[0]])
        spatial = rank - 2
        pads = list(given.get("pads", [0] * 2 * spatial))
        strides, dilations = (list(given.get(key, [1] * spatial)) for key in ("strides", "dilations"))
        if given.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise LoweringError(f"{node.name}: padding must be stated in numbers")
        if rank == 3:
            pads, strides, dilations = [0, pads[0], 0, pads[1]], [1, *strides], [1, *dilations]
        return self._product(node, node.input[1], pads, strides, dilations, int(given.get("group", 1)))

    def _gemm(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value | None:
        if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0):
            raise LoweringError(f"{node.name}: only plain matrix products have a TFLite form here")
        return self._product(node, node.input[1], [0] * 4, [1, 1], [1, 1], 1, flip=not given.get("transB", 0))

    def _matmul(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value | None:
        if len(self._shapes[node.input[0]]) != 2:
            raise LoweringError(f"{node.name}: only products of matrices have a TFLite form here")
        return self._product(node, node.input[1], [0] * 4, [1, 1], [1, 1], 1, flip=True)

    def _product(
        self, node: onnx.NodeProto, weights: str, pads: list[int], strides: list[int], dilations: list[int],
        group: int, flip: bool = False,
    ) -> Value | None:  # fmt: skip
        """A convolution. A matrix product is one over a single point: only those have a scale per channel."""
        if weights not in self._constants:
            raise LoweringError(f"{node.name}: the weights must be constants")
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
            raise LoweringError(f"{node.name}: weights must be int8 where activations are")
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

    # --- element by element -------------------------------------------------------------------------------

    def _simple(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        code, options = _SIMPLE[node.op_type]
        return self._made(node, code, [x.tensor], x.order, options)

    def _pair(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        code, options = _PAIRS[node.op_type]
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
            raise LoweringError(f"{node.name}: operands of different rank have no TFLite form here")
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

    # --- over axes ----------------------------------------------------------------------------------------

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

    # --- windows ------------------------------------------------------------------------------------------

    def _averagepool(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x, size, strides = self._windows(node, given)
        if not given.get("ceil_mode", 0):
            return self._pooled(node, "AVERAGE_POOL_2D", x, size, strides)
        if size != strides:
            raise LoweringError(f"{node.name}: a partial last window must not overlap the one before")
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
            raise LoweringError(f"{node.name}: partial windows have no TFLite form here")
        return self._pooled(node, "MAX_POOL_2D", x, size, strides)

    def _windows(self, node: onnx.NodeProto, given: dict[str, Any]) -> tuple[Value, list[int], list[int]]:
        x = self._value(node.input[0], channels_last(len(self._shapes[node.input[0]])))
        size = list(given["kernel_shape"])
        strides = list(given.get("strides", [1] * len(size)))
        if any(given.get("pads", [0])) or any(d != 1 for d in given.get("dilations", [1])):
            raise LoweringError(f"{node.name}: padded or dilated pools have no TFLite form here")
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

    # --- shapes -------------------------------------------------------------------------------------------

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
            raise LoweringError(f"{node.name}: more than one length varies")
        return Value(reshape(self._w, node.output[0], x, shape), natural(shape), shape, x.dtype)

    _flatten = _reshape
    _squeeze = _reshape

    def _shape(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x = self._value(node.input[0])
        rank = len(x.shape)
        start, end = int(given.get("start", 0)), int(given.get("end", rank))
        if end - start != 1:
            raise LoweringError(f"{node.name}: only one length at a time has a TFLite form here")
        at = x.order.index(start % rank)
        whole = self._w.tensor(f"{node.output[0]}/all", [len(x.order)], np.int32)
        self._w.operator("SHAPE", [x.tensor], whole, "Shape", OutType=INT)
        inputs = [whole, self._w.ints([at]), self._w.ints([at + 1]), self._w.ints([1])]
        return self._made(node, "STRIDED_SLICE", inputs, (0,), "StridedSlice", "int32")

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
            raise LoweringError(f"{node.name}: only a count along a tensor has a TFLite form here")
        attributes = {a.name: helper.get_attribute_value(a) for a in found.attribute}
        return found.input[0], int(attributes.get("start", 0))

    def _cast(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value | None:
        if node.input[0] in self._constants and self._constants[node.input[0]].dtype == np.float16:
            self._constants[node.output[0]] = self._constants[node.input[0]].astype(np.float32)
            self._halves.add(node.output[0])
            return None
        x = self._value(node.input[0])
        if given["to"] not in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            raise LoweringError(f"{node.name}: only casts between float and int have a TFLite form here")
        real = given["to"] == onnx.TensorProto.FLOAT
        before, after = FLOAT if x.dtype == "float32" else INT, FLOAT if real else INT
        dtype = "float32" if real else "int32"
        fields = {"InDataType": before, "OutDataType": after}
        return self._made(node, "CAST", [x.tensor], x.order, "Cast", dtype, "", **fields)

    def _gather(self, node: onnx.NodeProto, given: dict[str, Any]) -> Value:
        x, indices = self._value(node.input[0]), self._value(node.input[1])
        if len(indices.shape) != 1:
            raise LoweringError(f"{node.name}: only a list of indices has a TFLite form here")
        axis = x.order.index(int(given.get("axis", 0)) % len(x.shape))
        return self._made(node, "GATHER", [x.tensor, indices.tensor], x.order, "Gather", x.dtype, Axis=axis)


_SIMPLE = {
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
_PAIRS = {
    "Add": ("ADD", "Add"),
    "Sub": ("SUB", "Sub"),
    "Mul": ("MUL", "Mul"),
    "Div": ("DIV", "Div"),
    "Max": ("MAXIMUM", "MaximumMinimum"),
    "Min": ("MINIMUM", "MaximumMinimum"),
}


def _shapes(model: onnx.ModelProto, fixed: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
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
