"""A lowered graph computes in TFLite what it computes in ONNX Runtime, at any length, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import tflite

from device.model_store.sessions import Array, OnnxSession, TfliteSession
from quantize.errors import QuantizeError
from quantize.graphs.builder import GraphBuilder
from quantize.int8.calibrate import listen
from quantize.int8.graph import quantise
from quantize.tflite.lower import lower

FRAMES = (40, 57, 211, 40)
Build = Callable[[GraphBuilder, str], str]


def graph(build: Build, rank: int = 3) -> onnx.ModelProto:
    """A network over `x` (batch, 6, frames) that ends in whatever `build` returns."""
    g = GraphBuilder("toy")
    x = g.input("x", ["batch", 6, "frames"])
    g.output(build(g, x), "y", [f"length_{axis}" for axis in range(rank)])
    return g.model()


def noise(*shape: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_alike(model: onnx.ModelProto, rtol: float = 1e-4) -> None:
    exact, lowered = OnnxSession(model.SerializeToString()), TfliteSession(lower(model))
    for frames in FRAMES:
        feed = {"x": noise(1, 6, frames, seed=frames)}
        wanted, found = exact.run(feed), lowered.run(feed)
        assert found[0].shape == wanted[0].shape
        np.testing.assert_allclose(found[0], wanted[0], rtol=rtol, atol=rtol)


def conv(g: GraphBuilder, x: str, kernel: Array, name: str = "conv", **attributes: object) -> str:
    weight = g.const(f"{name}.kernel", kernel)
    bias = g.const(f"{name}.bias", noise(len(kernel), seed=8))
    shape = list(kernel.shape[2:])
    return g.add("Conv", x, weight, bias, name=name, kernel_shape=shape, **attributes)


def image(g: GraphBuilder, x: str) -> str:
    return g.add("Unsqueeze", x, g.ints(1), name="image")


def dense(g: GraphBuilder, x: str) -> str:
    mean = g.add("ReduceMean", x, axes=[2], keepdims=0)
    return g.add("Gemm", mean, g.const("m", noise(5, 6)), g.const("b", noise(5)), transB=1)


def counted(g: GraphBuilder, x: str) -> str:
    """Every frame times the number of the ten frames it lies in."""
    count = g.add("Squeeze", g.add("Shape", x, start=2, end=3), g.ints(0))
    zero, one = g.const("0", np.asarray(0, np.int64)), g.const("1", np.asarray(1, np.int64))
    index = g.add("Div", g.add("Range", zero, count, one), g.const("10", np.asarray(10, np.int64)))
    tens = g.add("AveragePool", x, kernel_shape=[10], strides=[10], ceil_mode=1, count_include_pad=0)
    return g.add("Mul", x, g.add("Gather", tens, index, axis=2))


def spread(g: GraphBuilder, x: str) -> str:
    squares = g.add("ReduceSumSquare", x, axes=[2], keepdims=1)
    count = g.add("Cast", g.add("Shape", x, start=2, end=3), to=onnx.TensorProto.FLOAT)
    return g.add("Sqrt", g.add("Div", squares, count))


CASES: dict[str, Build] = {
    "conv": lambda g, x: conv(g, x, noise(4, 6, 3), pads=[1, 1]),
    "dilated conv": lambda g, x: conv(g, x, noise(4, 6, 3), pads=[2, 2], dilations=[2]),
    "strided conv": lambda g, x: conv(g, x, noise(4, 6, 5), pads=[2, 2], strides=[2]),
    "uneven pads": lambda g, x: conv(g, x, noise(4, 6, 4), pads=[1, 2]),
    "conv over images": lambda g, x: conv(g, image(g, x), noise(4, 1, 3, 3), pads=[1] * 4, strides=[2, 1]),
    "depthwise conv": lambda g, x: conv(g, x, noise(6, 1, 3), pads=[1, 1], group=6),
    "conv with relu": lambda g, x: g.add("Relu", conv(g, x, noise(4, 6, 1))),
    "relu with two readers": lambda g, x: g.add("Add", g.add("Relu", x, name="r"), g.add("Sigmoid", "r")),
    "affine map": dense,
    "matrix product": lambda g, x: g.add(
        "MatMul", g.add("ReduceMean", x, axes=[2], keepdims=0), g.const("m", noise(6, 3))
    ),
    "partial windows and counts": counted,
    "spread": spread,
    "plain windows": lambda g, x: g.add("AveragePool", x, kernel_shape=[3], strides=[3]),
    "greatest of windows": lambda g, x: g.add("MaxPool", x, kernel_shape=[3], strides=[2]),
    "mean of everything": lambda g, x: g.add("GlobalAveragePool", x),
    "concat": lambda g, x: g.add("Concat", x, g.add("Tanh", x), axis=1),
    "transpose": lambda g, x: g.add("Transpose", x, perm=[0, 2, 1]),
    "reshape": lambda g, x: g.add("Reshape", image(g, x), g.ints(0, 6, -1)),
    "flatten": lambda g, x: g.add("Flatten", g.add("ReduceMax", image(g, x), axes=[3]), axis=1),
    "constants": lambda g, x: g.add("Sub", g.const("c", noise(1, 6, 1)), g.add("Exp", x)),
    "softmax": lambda g, x: g.add("Softmax", x, axis=1),
    "clip": lambda g, x: g.add("Clip", x, g.const("l", np.float32(-1)), g.const("h", np.float32(0.5))),
    "leaky": lambda g, x: g.add("LeakyRelu", x, alpha=0.1),
    "max": lambda g, x: g.add("Max", x, g.const("z", np.zeros(1, np.float32))),
}


RANKS = {"conv over images": 4, "affine map": 2, "matrix product": 2, "flatten": 2}


@pytest.mark.parametrize("name", CASES)
def test_a_float_graph_computes_the_same_at_every_length(name: str) -> None:
    assert_alike(graph(CASES[name], RANKS.get(name, 3)))


def small(build: Build) -> onnx.ModelProto:
    exact = graph(build, rank=2)
    return quantise(exact, listen(exact, [{"x": noise(1, 6, 60 + n, seed=n)} for n in range(5)]))


def two_layers(g: GraphBuilder, x: str) -> str:
    first = g.add("Relu", conv(g, x, noise(16, 6, 3), "first", pads=[1, 1]), name="first.relu")
    second = conv(g, first, noise(8, 16, 3, seed=5), "second", pads=[2, 2], dilations=[2])
    mean = g.add("Flatten", g.add("GlobalAveragePool", g.add("Sigmoid", second)), axis=1)
    return g.add("Gemm", mean, g.const("m", noise(5, 8)), g.const("b", noise(5)), name="last", transB=1)


def test_an_int8_graph_differs_by_no_more_than_roundings() -> None:
    model = small(two_layers)
    exact, lowered = OnnxSession(model.SerializeToString()), TfliteSession(lower(model))
    for frames in FRAMES:
        feed = {"x": noise(1, 6, frames, seed=frames)}
        wanted, found = exact.run(feed)[0], lowered.run(feed)[0]
        assert np.linalg.norm(wanted - found) < 0.01 * np.linalg.norm(wanted)


def test_weights_are_int8_with_a_scale_per_channel_and_biases_int32() -> None:
    model = tflite.Model.GetRootAs(lower(small(two_layers)), 0)
    graph = model.Subgraphs(0)
    tensors = {graph.Tensors(i).Name().decode(): graph.Tensors(i) for i in range(graph.TensorsLength())}
    kernel, bias = tensors["first/kernel"], tensors["first/kernel/bias"]
    assert kernel.Type() == tflite.TensorType.INT8
    assert kernel.Quantization().ScaleLength() == 16
    assert not kernel.Quantization().ZeroPointAsNumpy().any()
    assert bias.Type() == tflite.TensorType.INT32
    sums = kernel.Quantization().ScaleAsNumpy() * tensors["x.u8"].Quantization().Scale(0)
    np.testing.assert_allclose(bias.Quantization().ScaleAsNumpy(), sums, rtol=1e-6)


def test_the_same_graph_gives_the_same_bytes() -> None:
    model = small(two_layers)
    assert lower(model) == lower(model)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda g, x: g.add("Erf", x), "Erf .* has no TFLite form"),
        (lambda g, x: g.add("Clip", g.add("CumSum", x, g.ints(2)), "", ""), "CumSum"),
        (lambda g, x: g.add("MaxPool", x, kernel_shape=[3], strides=[3], ceil_mode=1), "partial windows"),
        (lambda g, x: g.add("Conv", x, g.add("Abs", g.const("k", noise(4, 6, 1)))), "must be constants"),
    ],
)
def test_what_has_no_form_in_tflite_is_named(build: Build, said: str) -> None:
    with pytest.raises(QuantizeError, match=said):
        lower(graph(build))
