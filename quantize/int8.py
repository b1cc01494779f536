"""From a float graph to INT8 (QDQ), with activation ranges chosen on real speech.

Only convolutions and matrix products are quantised: doing the same to every addition and activation costs
several points of equal error rate. Ranges are percentiles, because one click in one recording would otherwise
coarsen every other value. Weights are symmetric, one scale per output channel. On x86 without VNNI eight-bit
weights saturate 16-bit sums silently; `device.model_store.sessions` opens the session so that they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from device.model_store.sessions import Array, OnnxSession
from quantize.errors import QuantizeError

Feed = Mapping[str, Array]

PERCENTILE = 99.999
OPERATORS = ("Conv", "Gemm", "MatMul")
WEIGHT_LIMIT = 127
WORTH_HALVING = 1024
_FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True, slots=True)
class Range:
    """Where a tensor's values lie, percentiles excepted; always includes zero."""

    low: float
    high: float

    def grid(self) -> tuple[np.float32, np.uint8]:
        """Scale and zero point of uint8."""
        scale = np.float32(max(self.high - self.low, 1e-6) / 255.0)
        return scale, np.uint8(np.clip(round(-self.low / float(scale)), 0, 255))


def quantise(
    model: onnx.ModelProto,
    feeds: Sequence[Feed],
    *,
    percentile: float = PERCENTILE,
    keep_float: Iterable[str] = (),
    tick: Callable[[float], None] = lambda done: None,
) -> onnx.ModelProto:
    """`model` with INT8 weights and activations; the same model and feeds give the same bytes.

    `keep_float` are patterns of node outputs to leave alone. `tick` hears how far it is.
    Raises QuantizeError without feeds.
    """
    if not feeds:
        raise QuantizeError("there is nothing to calibrate on; give at least one recording")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    left = list(keep_float)
    chosen = [n for n in model.graph.node if n.op_type in OPERATORS]
    chosen = [n for n in chosen if not any(fnmatchcase(n.output[0], pattern) for pattern in left)]
    chosen = [n for n in chosen if n.input[1] in constants]
    settled = {node.output[0]: _after_relu(model, node) for node in chosen}
    measured = [node.input[0] for node in chosen] + list(settled.values())
    ranges = activation_ranges(model, list(dict.fromkeys(measured)), feeds, percentile, tick)
    inputs = list(dict.fromkeys(node.input[0] for node in chosen if node.op_type == "Conv"))
    means = channel_means(model, inputs, feeds, ranges)
    return halved(_Rewriter(model, constants, chosen, settled, ranges, means).model())


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the large weights that stayed float kept in 16 bits: half the bytes, and the same speed.

    A Cast makes them 32 bits again when a runtime opens the file. Arithmetic stays in 32 bits.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    kernels = {node.input[1] for node in made.graph.node if node.op_type in OPERATORS}
    casts = []
    for tensor in made.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.name in kernels and value.dtype == np.float32 and value.size >= WORTH_HALVING:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}.f16"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}/Cast", to=_FLOAT))
    nodes = [*casts, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    onnx.checker.check_model(made, full_check=True)
    return made


def activation_ranges(
    model: onnx.ModelProto,
    names: Sequence[str],
    feeds: Sequence[Feed],
    percentile: float,
    tick: Callable[[float], None] = lambda done: None,
) -> dict[str, Range]:
    """Range of each named tensor over all feeds: `percentile` of its values lie inside it."""
    tail = (1.0 - percentile / 100.0) / 2.0
    outside = dict.fromkeys(names, 0)
    for values in _values(model, names, feeds):
        for name, value in values.items():
            outside[name] += value.size
    outside = {name: int(tail * count) + 1 for name, count in outside.items()}
    lowest: dict[str, Array] = dict.fromkeys(names, np.zeros(0, np.float32))
    highest = dict(lowest)
    for done, values in enumerate(_values(model, names, feeds)):
        for name, value in values.items():
            lowest[name] = _smallest(np.append(lowest[name], value), outside[name])
            highest[name] = -_smallest(-np.append(highest[name], value), outside[name])
        tick(done / len(feeds))
    # Of as many values as may lie outside and one more, the innermost one is where the range ends.
    return {
        name: Range(min(0.0, float(lowest[name].max())), max(0.0, float(highest[name].min())))
        for name in names
    }


def _smallest(values: Array, count: int) -> Array:
    return np.partition(values, count - 1)[:count] if len(values) > count else values


def channel_means(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed], ranges: Mapping[str, Range]
) -> dict[str, tuple[Array, Array]]:
    """Mean per channel (axis 1) of each named tensor, as it is and as its uint8 grid would have it."""
    sums: dict[str, tuple[Array, Array]] = {}
    counts: dict[str, int] = {}
    for values in _values(model, names, feeds):
        for name, value in values.items():
            others = tuple(axis for axis in range(value.ndim) if axis != 1)
            scale, zero = ranges[name].grid()
            steps = np.clip(np.rint(value / scale) + int(zero), 0, 255)
            rounded = (steps - int(zero)) * scale
            # What lies outside the range was cut on purpose: a click must not come back through the bias.
            inside = np.clip(value, ranges[name].low, ranges[name].high)
            both = (inside.sum(axis=others, dtype=np.float64), rounded.sum(axis=others, dtype=np.float64))
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + both[0], before[1] + both[1])
            counts[name] = counts.get(name, 0) + value.size // value.shape[1]
    return {name: (exact / counts[name], rounded / counts[name]) for name, (exact, rounded) in sums.items()}


def _values(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed]
) -> Iterator[dict[str, Array]]:
    """What the float graph computes for every feed: each named tensor."""
    given = {value.name for value in model.graph.input}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    inner = [name for name in names if name not in given]
    if not inner:
        yield from ({name: feed[name] for name in names} for feed in feeds)
        return
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
    # One thread: sums come out in the same order, so the ranges come out the same.
    session = OnnxSession(probe.SerializeToString(), threads=1)
    for feed in feeds:
        computed = dict(zip(inner, session.run(dict(feed)), strict=True))
        yield computed | {name: feed[name] for name in names if name in given}


def _after_relu(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    """The tensor to round for `node`: past its ReLU when that alone reads it, so that no range is wasted."""
    readers = [n for n in model.graph.node if node.output[0] in n.input]
    alone = len(readers) == 1 and readers[0].op_type == "Relu"
    return str(readers[0].output[0] if alone else node.output[0])


class _Rewriter:
    """Copies a graph, putting quantised tensors around the chosen nodes."""

    def __init__(
        self, model: onnx.ModelProto, constants: Mapping[str, npt.NDArray[Any]], chosen: list[onnx.NodeProto],
        settled: Mapping[str, str], ranges: Mapping[str, Range], means: Mapping[str, tuple[Array, Array]],
    ) -> None:  # fmt: skip
        self._source = model
        self._constants = constants
        self._chosen = {node.name for node in chosen}
        self._means = means
        self._grids = {name: ranges[name].grid() for name in ranges}
        self._snapped = set(settled.values())
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[str, npt.NDArray[Any]] = {}
        self._rounded: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        outputs = {output.name for output in self._source.graph.output}
        for node in self._source.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.name in self._chosen:
                self._round(node.input[0])
                self._weigh(copy)
            for at, name in enumerate(copy.input):
                copy.input[at] = self._rounded.get(name, name)
            self._nodes.append(copy)
            if node.output[0] in self._snapped and node.output[0] not in outputs:
                self._round(node.output[0])
        used = {name for node in self._nodes for name in node.input}
        kept = {name: value for name, value in self._constants.items() if name in used} | self._made
        graph = helper.make_graph(
            self._nodes, self._source.graph.name, list(self._source.graph.input),
            list(self._source.graph.output), [numpy_helper.from_array(v, n) for n, v in kept.items()],
        )  # fmt: skip
        made = helper.make_model(
            graph,
            opset_imports=list(self._source.opset_import),
            producer_name=self._source.producer_name,
            ir_version=self._source.ir_version,
        )
        onnx.checker.check_model(made, full_check=True)
        return made

    def _round(self, name: str) -> None:
        """From here on, readers of `name` see it rounded to its uint8 grid."""
        if name in self._rounded:
            return
        scale, zero = self._grids[name]
        grid = [self._constant(f"{name}.scale8", scale), self._constant(f"{name}.zero8", zero)]
        self._nodes.append(
            helper.make_node("QuantizeLinear", [name, *grid], [f"{name}.u8"], name=f"{name}/Quantize")
        )
        self._nodes.append(
            helper.make_node(
                "DequantizeLinear", [f"{name}.u8", *grid], [f"{name}.q"], name=f"{name}/Dequantize"
            )
        )
        self._rounded[name] = f"{name}.q"

    def _weigh(self, node: onnx.NodeProto) -> None:
        """INT8 for the weight, one scale per output channel, and INT32 on the sum's grid for the bias."""
        weight = self._constants[node.input[1]].astype(np.float64)
        transposed = node.op_type == "MatMul" or (
            node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute)
        )
        axis = weight.ndim - 1 if transposed else 0
        others = tuple(a for a in range(weight.ndim) if a != axis)
        scale = np.maximum(np.abs(weight).max(axis=others), 1e-9) / WEIGHT_LIMIT
        shape = [-1 if a == axis else 1 for a in range(weight.ndim)]
        steps = np.rint(weight / scale.reshape(shape)).astype(np.int8)
        node.input[1] = self._channels(node.input[1], steps, scale, axis)
        if node.op_type == "MatMul":
            return  # the standard gives it no bias
        exact = self._constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(scale))
        bias = exact + self._lost(node, weight, steps * scale.reshape(shape))
        sum_scale = scale * float(self._grids[node.input[0]][0])
        del node.input[2:]
        named = self._channels(
            f"{node.output[0]}/bias", np.rint(bias / sum_scale).astype(np.int32), sum_scale, 0
        )
        node.input.append(named)

    def _lost(self, node: onnx.NodeProto, exact: Array, rounded: Array) -> Array:
        """What rounding takes from the mean of each output channel; the bias gives it back.

        (Nagel et al., ICCV 2019, section 4.2, from calibration data.)
        """
        if node.op_type != "Conv" or node.input[0] not in self._means:
            return np.zeros(len(exact))
        kernel_axes = tuple(range(2, exact.ndim))
        mean, mean_rounded = self._means[node.input[0]]
        return np.asarray(exact.sum(axis=kernel_axes) @ mean - rounded.sum(axis=kernel_axes) @ mean_rounded)

    def _channels(self, name: str, steps: npt.NDArray[Any], scale: npt.NDArray[Any], axis: int) -> str:
        grid = [
            self._constant(f"{name}.scale", scale.astype(np.float32)),
            self._constant(f"{name}.zero", np.zeros(len(scale), dtype=steps.dtype)),
        ]
        given = self._constant(f"{name}.steps", steps)
        self._nodes.append(
            helper.make_node(
                "DequantizeLinear", [given, *grid], [f"{name}.q"], name=f"{name}/Dequantize", axis=axis
            )
        )
        return f"{name}.q"

    def _constant(self, name: str, value: npt.NDArray[Any] | np.generic) -> str:
        self._made[name] = np.asarray(value)
        return name
