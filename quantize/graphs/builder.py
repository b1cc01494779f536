"""Writes ONNX graphs as straight-line Python: every call adds one node and returns the name of its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 9

Weights = Mapping[str, npt.NDArray[Any]]


class GraphBuilder:
    """Collects nodes and constants; `model()` gives the checked graph. The same calls give the same bytes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[str | int], kind: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(
        self, value: str, name: str, shape: Sequence[str | int], kind: int = TensorProto.FLOAT
    ) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"{name}/out"))
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def const(self, name: str, value: npt.NDArray[Any]) -> str:
        """A named constant; the same name twice must be the same constant."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, *values: int) -> str:
        return self.const("ints_" + "_".join(map(str, values)), np.asarray(values, dtype=np.int64))

    def add(self, op: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Append one node; returns its first output."""
        label = name or f"{op.lower()}_{len(self._nodes)}"
        names = [label] if outputs == 1 else [f"{label}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=f"{label}/{op}", **attributes))
        return names[0]

    def model(self) -> onnx.ModelProto:
        """The finished model; raises onnx.checker.ValidationError when a builder made a mistake."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="ostiary",
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def batch_norm(weights: Weights, prefix: str, eps: float = 1e-5) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Scale and shift, each (channels,) float64, of an inference-time batch norm."""
    variance = weights[f"{prefix}.running_var"].astype(np.float64)
    mean = weights[f"{prefix}.running_mean"].astype(np.float64)
    gain = weights.get(f"{prefix}.weight")
    bias = weights.get(f"{prefix}.bias")
    scale = 1.0 / np.sqrt(variance + eps)
    if gain is not None:
        scale = scale * gain
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    return scale, shift


def folded_conv(weights: Weights, conv: str, norm: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Kernel and bias (float32) of a bias-free convolution followed by a batch norm, as one convolution."""
    scale, shift = batch_norm(weights, norm)
    kernel = weights[f"{conv}.weight"].astype(np.float64)
    kernel = kernel * scale.reshape(-1, *([1] * (kernel.ndim - 1)))
    return kernel.astype(np.float32), shift.astype(np.float32)


def lstm(
    g: GraphBuilder, weights: Weights, x: str, prefix: str, layer: int, *, bidirectional: bool
) -> tuple[str, str]:
    """One layer of PyTorch's LSTM on `x` (frames, batch, features).

    Returns the names of all outputs (frames, batch, directions * hidden) and of the last hidden state
    (directions, batch, hidden). PyTorch stores gates as i, f, g, o; ONNX needs i, o, f, c.
    """
    ends = ("", "_reverse") if bidirectional else ("",)
    kernels, recurrences, biases = [], [], []
    for end in ends:
        tag = f"l{layer}{end}"
        kernels.append(_gates(weights[f"{prefix}.weight_ih_{tag}"]))
        recurrences.append(_gates(weights[f"{prefix}.weight_hh_{tag}"]))
        given = [_gates(weights[f"{prefix}.bias_{kind}_{tag}"]) for kind in ("ih", "hh")]
        biases.append(np.concatenate(given))
    hidden = recurrences[0].shape[1]
    name = f"{prefix}.{layer}"
    parts = (("kernel", kernels), ("recurrence", recurrences), ("bias", biases))
    constants = [g.const(f"{name}.{what}", np.stack(arrays).astype(np.float32)) for what, arrays in parts]
    direction = "bidirectional" if bidirectional else "forward"
    y = g.add("LSTM", x, *constants, name=name, outputs=2, hidden_size=hidden, direction=direction)
    # (frames, directions, batch, hidden) -> (frames, batch, directions * hidden)
    beside = g.add("Transpose", y, name=f"{name}.beside", perm=[0, 2, 1, 3])
    return g.add("Reshape", beside, g.ints(0, 0, hidden * len(ends)), name=f"{name}.out"), f"{name}.1"


def _gates(stacked: npt.NDArray[Any]) -> npt.NDArray[Any]:
    i, f, c, o = np.split(stacked, 4)
    return np.concatenate([i, o, f, c])
