"""From a float graph to INT8 (QDQ), on ranges that were learned from speech and committed.

Only convolutions and matrix products are quantised: doing the same to every addition and activation costs
several points of equal error rate. Weights are symmetric, one scale per output channel. Every step is an
elementwise operation that IEEE 754 rounds in one way, or a comparison: the same graph and the same learned
numbers give the same bytes on every processor. On x86 without VNNI eight-bit weights saturate 16-bit sums
silently; `device.model_store.sessions` opens the session so that they do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from quantize.errors import QuantizeError
from quantize.int8.learned import Learned, Range

Array = npt.NDArray[Any]

OPERATORS = ("Conv", "Gemm", "MatMul")
WEIGHT_LIMIT = 127
WORTH_HALVING = 1024
_FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """One node's weights and bias, exact and in eight bits."""

    exact: Array
    steps: npt.NDArray[np.int8]
    scale: Array
    """Of each output channel."""
    axis: int
    """Which axis of the weights the output channels are."""
    bias: Array

    @property
    def rounded(self) -> Array:
        shape = [-1 if at == self.axis else 1 for at in range(self.exact.ndim)]
        return np.asarray(self.steps * self.scale.reshape(shape))

    def sum_scale(self, given: Range) -> Array:
        """The grid of the sums, and so of the bias, when inputs lie in `given`."""
        return self.scale * float(given.grid()[0])

    def bias_steps(self, given: Range) -> Array:
        """The bias as it is, in whole steps of that grid."""
        return np.rint(self.bias / self.sum_scale(given))


def rounded_nodes(model: onnx.ModelProto, keep_float: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that eight bits are for: constant weights, and no output that `keep_float` matches."""
    constants = {tensor.name for tensor in model.graph.initializer}
    left = list(keep_float)
    return [
        node
        for node in model.graph.node
        if node.op_type in OPERATORS
        and node.input[1] in constants
        and not any(fnmatchcase(node.output[0], pattern) for pattern in left)
    ]


def settled_output(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    """The tensor to round for `node`: past its ReLU when that alone reads it, so that no range is wasted."""
    readers = [n for n in model.graph.node if node.output[0] in n.input]
    alone = len(readers) == 1 and readers[0].op_type == "Relu"
    return str(readers[0].output[0] if alone else node.output[0])


def weights_of(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> dict[str, Weighed]:
    """By output name: the weights of each of `nodes`."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {node.output[0]: _weighed(node, constants) for node in nodes}


def _weighed(node: onnx.NodeProto, constants: Mapping[str, Array]) -> Weighed:
    exact = constants[node.input[1]].astype(np.float64)
    transposed = node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute)
    )
    axis = exact.ndim - 1 if transposed else 0
    others = tuple(a for a in range(exact.ndim) if a != axis)
    scale = np.maximum(np.abs(exact).max(axis=others), 1e-9) / WEIGHT_LIMIT
    steps = np.rint(exact / scale.reshape([-1 if a == axis else 1 for a in range(exact.ndim)]))
    bias = constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else np.zeros(len(scale))
    return Weighed(exact, steps.astype(np.int8), scale, axis, bias)


def quantise(model: onnx.ModelProto, known: Learned, *, keep_float: Iterable[str] = ()) -> onnx.ModelProto:
    """`model` with INT8 weights and activations; the same model and the same `known` give the same bytes.

    `keep_float` are patterns of node outputs to leave alone. Raises QuantizeError when `known` is about
    another network.
    """
    chosen = rounded_nodes(model, keep_float)
    settled = {node.output[0]: settled_output(model, node) for node in chosen}
    for node in chosen:
        if node.input[0] not in known.ranges or settled[node.output[0]] not in known.ranges:
            raise QuantizeError(f"nothing was learned about {node.output[0]}; run `ostiary models calibrate`")
    return halved(_Rewriter(model, chosen, settled, known).model())


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


class _Rewriter:
    """Copies a graph, putting quantised tensors around the chosen nodes."""

    def __init__(
        self,
        model: onnx.ModelProto,
        chosen: list[onnx.NodeProto],
        settled: Mapping[str, str],
        known: Learned,
    ) -> None:
        self._source = model
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._weighed = weights_of(model, chosen)
        self._known = known
        self._snapped = set(settled.values())
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[str, npt.NDArray[Any]] = {}
        self._rounded: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        outputs = {output.name for output in self._source.graph.output}
        for node in self._source.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.output[0] in self._weighed:
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
        scale, zero = self._known.ranges[name].grid()
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
        weighed, given = self._weighed[node.output[0]], self._known.ranges[node.input[0]]
        node.input[1] = self._channels(node.input[1], weighed.steps, weighed.scale, weighed.axis)
        if node.op_type == "MatMul":
            return  # the standard gives it no bias
        steps = weighed.bias_steps(given)
        learned = self._known.bias_steps.get(node.output[0])
        if learned is not None:
            if len(learned) != len(steps):
                raise QuantizeError(f"{node.output[0]} has other channels; run `ostiary models calibrate`")
            steps = steps + np.asarray(learned, np.float64)
        del node.input[2:]
        bias = self._channels(f"{node.output[0]}/bias", steps.astype(np.int32), weighed.sum_scale(given), 0)
        node.input.append(bias)

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
