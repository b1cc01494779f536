"""LSTM layers with INT8 weights: ONNX Runtime's own operator, whose activations find their own range.

The standard has no quantised LSTM. DynamicQuantizeLSTM keeps weights symmetric with one scale per gate and
unit, rounds each step's input and state to their own range, and computes the gates themselves in float.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

DOMAIN = "com.microsoft"
_LIMIT = 127
_INITIAL_INPUTS = 8
"""What both operators have in common: X, W, R, B, lengths, initial state, initial cell, peepholes."""


def quantise_lstms(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """`model` with its LSTMs' weights in INT8, but for the nodes named; the same gives the same bytes."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type != "LSTM" or node.name in keep_float:
            continue
        node.op_type, node.domain = "DynamicQuantizeLSTM", DOMAIN
        node.input.extend([""] * (_INITIAL_INPUTS - len(node.input)))
        for at in (1, 2):
            tensor = weights[node.input[at]]
            steps, scale = _eight_bits(numpy_helper.to_array(tensor))
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(steps, name))
            for what, value in (("scale", scale), ("zero", np.zeros(scale.shape, np.int8))):
                made.graph.initializer.append(numpy_helper.from_array(value, f"{name}.{what}"))
                node.input.append(f"{name}.{what}")
    if DOMAIN not in {opset.domain for opset in made.opset_import}:
        made.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    onnx.checker.check_model(made)
    return made


def _eight_bits(kernel: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """(directions, 4 * hidden, inputs) -> (directions, inputs, 4 * hidden) int8, and a scale per column."""
    columns = kernel.astype(np.float64).transpose(0, 2, 1)
    scale = np.maximum(np.abs(columns).max(axis=1), 1e-9) / _LIMIT
    steps = np.rint(columns / scale[:, np.newaxis]).astype(np.int8)
    return np.ascontiguousarray(steps), scale.astype(np.float32)
