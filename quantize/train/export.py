"""From the trained networks to one ONNX graph, and from that to INT8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from device.models.spoof.features import BINS, PICTURES, SHALLOW
from quantize.train.networks.moments import CELL_BINS, CELL_FRAMES, HEARD, Layer, Moments, Residual
from quantize.train.networks.network import Texture
from sync.plain_file import plain_path

INPUT, OUTPUT = "features", "logits"
OPSET = 17
Features = Sequence[npt.NDArray[np.float32]]
"""Of some waves, (PICTURES, BINS, frames) each."""
STEP_ANSWERS = ("step.logits", "step.weights")
IN_FLOAT = ("level", "patch", "texture", *STEP_ANSWERS)
"""Left in float: the choice of a picture, the patches (20 KB; in eight bits they alone double the drift), and
the answers."""


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def const(self, name: str, value: npt.ArrayLike) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name


def _array(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = tensor.detach().contiguous().numpy().astype(np.float32)
    return values


def build(texture: Texture, moments: Moments, shares: Mapping[str, float]) -> onnx.ModelProto:
    """Both networks as an ONNX graph: features (batch, PICTURES, BINS, frames) -> logits (batch, 2).

    The first logit is the first network's for synthesis; the second is the sum of both networks' for a
    loudspeaker, weighted by `shares`: "loudspeaker" weighs the first network's, "moments" the second's.
    """
    g = _Graph()
    given = _texture(g, texture)
    kept = g.const("texture.share", np.array([[1.0, shares["loudspeaker"]]], np.float32))
    mixed = g.const("moments.share", np.array([[0.0, shares["moments"]]], np.float32))
    second = g.add("Mul", [_moments(g, moments), mixed], "moments.weighed")
    g.add("Add", [g.add("Mul", [given, kept], "texture.weighed"), second], OUTPUT)
    graph = helper.make_graph(
        g.nodes,
        "ostiary-spoof",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", PICTURES, BINS, "frames"])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 2])],
        g.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ostiary")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def _conv(
    g: _Graph,
    x: str,
    weight: torch.Tensor,
    bias: torch.Tensor,
    name: str,
    pads: Sequence[int] = (0, 0),
    strides: Sequence[int] = (1, 1),
) -> str:
    inputs = [x, g.const(name + ".w", _array(weight)), g.const(name + ".b", _array(bias))]
    shape = list(weight.shape[2:])
    return g.add("Conv", inputs, name, kernel_shape=shape, pads=[*pads, *pads], strides=list(strides))


def _texture(g: _Graph, net: Texture) -> str:
    """The shallow level picture alone, then patches, bands, mean and spread over time, and the heads."""
    only_level = torch.zeros(1, PICTURES, 1, 1)
    only_level[0, SHALLOW] = 1.0
    level = _conv(g, INPUT, only_level, torch.zeros(1), "level")
    conv, heads = net.patches.conv, net.heads
    x = g.add("Relu", [_conv(g, level, conv.weight, conv.bias, "patch", strides=conv.stride)], "patch.relu")
    band = list(net.patches.bands.kernel_size)
    x = g.add("AveragePool", [x], "bands", kernel_shape=band, strides=band)
    mean = g.add("ReduceMean", [x], "mean", axes=[3], keepdims=0)
    square = g.add("ReduceMean", [g.add("Mul", [x, x], "x.x")], "square", axes=[3], keepdims=0)
    variance = g.add(
        "Relu", [g.add("Sub", [square, g.add("Mul", [mean, mean], "m.m")], "variance")], "positive"
    )
    spread = g.add("Sqrt", [g.add("Add", [variance, g.const("tiny", np.float32(1e-5))], "floored")], "spread")
    flat = [g.add("Flatten", [part], part + ".flat", axis=1) for part in (mean, spread)]
    pooled = g.add("Concat", flat, "pooled", axis=1)
    centred = g.add("Sub", [pooled, g.const("centre", _array(heads.centre))], "centred")
    scaled = g.add("Div", [centred, g.const("scale", _array(heads.spread))], "scaled")
    limits = [g.const("low", np.float32(-4.0)), g.const("high", np.float32(4.0))]
    x = g.add("Clip", [scaled, *limits], "clipped")
    hidden = [np.concatenate([_array(getattr(h, name)) for h in heads.hidden]) for name in ("weight", "bias")]
    x = g.add("Gemm", [x, g.const("hidden.w", hidden[0]), g.const("hidden.b", hidden[1])], "hidden", transB=1)
    count = np.float32(len(heads.out))
    last = np.concatenate([_array(o.weight) for o in heads.out], axis=1) / count
    bias = sum(_array(o.bias) for o in heads.out) / count
    x = g.add("Relu", [x], "hidden.relu")
    return g.add("Gemm", [x, g.const("out.w", last), g.const("out.b", bias)], "texture", transB=1)


def _moments(g: _Graph, net: Moments) -> str:
    """Every kernel is transposed: training has time before frequency, the pictures frequency before time.

    Cells and the layer over them become one convolution whose stride is the cell; the unused picture gets
    zero weights.
    """

    def layer(x: str, one: Layer, name: str, relu: bool = True) -> str:
        weight, bias = one.folded()
        pads, strides = one.conv.padding[::-1], one.conv.stride[::-1]
        x = _conv(g, x, weight.transpose(2, 3), bias, name, pads, strides)
        return g.add("Relu", [x], name + ".relu") if relu else x

    def residual(x: str, one: Residual, name: str) -> str:
        inner = layer(layer(x, one.first, name + ".first"), one.second, name + ".second", relu=False)
        return g.add("Relu", [g.add("Add", [x, inner], name + ".sum")], name + ".relu")

    weight, bias = net.squeeze.folded()
    heard = weight.reshape(-1, HEARD, CELL_FRAMES, CELL_BINS).transpose(2, 3)
    over = torch.nn.functional.pad(heard, (0, 0, 0, 0, 0, PICTURES - HEARD))
    x = g.add("Relu", [_conv(g, INPUT, over, bias, "squeeze", strides=(CELL_BINS, CELL_FRAMES))], "squeezed")
    x = residual(layer(x, net.stem, "stem"), net.fine, "fine")
    x = layer(residual(layer(x, net.down, "down"), net.coarse, "coarse"), net.reduce, "reduce")
    x = g.add("Relu", [_conv(g, x, net.join.weight.transpose(2, 3), net.join.bias, "join")], "join.relu")
    logits = _conv(g, x, net.logits.weight, net.logits.bias, STEP_ANSWERS[0])
    weights = _conv(g, x, net.weight.weight, net.weight.bias, STEP_ANSWERS[1])
    shares = g.add("Softmax", [weights], "step.shares", axis=3)
    axes = g.const("time", np.array([2, 3], np.int64))
    return g.add("ReduceSum", [g.add("Mul", [logits, shares], "step.weighed"), axes], "moments", keepdims=0)


class _Features(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, features: Features) -> None:
        self._left = iter(features)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        one = next(self._left, None)
        return None if one is None else {INPUT: one[None]}


def quantise(float_path: Path, int8_path: Path, features: Features) -> None:
    """Write the INT8 graph: static QDQ, per-channel weights, of every Conv and Gemm outside `IN_FLOAT`.

    Rounding shifts each pooled number a little, always the same way; moving the heads' centre undoes that.
    """
    quantize_static(
        float_path,
        int8_path,
        _Features(features),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm"],
        nodes_to_exclude=list(IN_FLOAT),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    shift = _pooled(int8_path, features) - _pooled(float_path, features)
    model = onnx.load(str(plain_path(int8_path)))
    (centre,) = (one for one in model.graph.initializer if one.name == "centre")
    moved = numpy_helper.to_array(centre) + shift.mean(axis=0)
    centre.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), "centre"))
    onnx.save(model, str(int8_path))


def _pooled(path: Path, features: Features) -> npt.NDArray[np.float32]:
    """The heads' input before it is centred: shape (files, pooled)."""
    model = onnx.load(str(plain_path(path)))
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None))
    opened = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.stack([opened.run(["pooled"], {INPUT: f[None]})[0][0] for f in features])


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """The graph in `path`, opened on the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])


def session_scores(opened: onnxruntime.InferenceSession, features: Features) -> npt.NDArray[np.float32]:
    """Scores against synthesis and against a loudspeaker, higher for bona fide: shape (n, 2)."""
    return np.array([-opened.run([OUTPUT], {INPUT: f[None]})[0][0] for f in features])
