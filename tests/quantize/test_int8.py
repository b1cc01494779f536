"""INT8 keeps what matters, gives the same bytes twice, and leaves alone what it is told to."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from device.model_store.sessions import OnnxSession
from quantize.errors import QuantizeError
from quantize.graphs.builder import GraphBuilder, folded_conv
from quantize.int8 import Range, quantise

RNG = np.random.default_rng(11)


def network() -> onnx.ModelProto:
    """Two convolutions with a ReLU between, then an affine map."""
    rng = np.random.default_rng(1)
    g = GraphBuilder("toy")
    x = g.input("x", ["batch", 4, "frames"])
    first = g.const("first.kernel", rng.standard_normal((8, 4, 3)).astype(np.float32))
    x = g.add("Conv", x, first, name="first", kernel_shape=[3], pads=[1, 1])
    x = g.add("Relu", x, name="relu")
    second = g.const("second.kernel", rng.standard_normal((6, 8, 1)).astype(np.float32))
    bias = g.const("second.bias", rng.standard_normal(6).astype(np.float32))
    x = g.add("Conv", x, second, bias, name="second", kernel_shape=[1])
    x = g.add("GlobalAveragePool", x, name="mean")
    x = g.add("Flatten", x, name="flat")
    matrix = g.const("last.kernel", rng.standard_normal((5, 6)).astype(np.float32))
    g.output(g.add("Gemm", x, matrix, name="last", transB=1), "y", ["batch", 5])
    return g.model()


def feeds(count: int, frames: int = 50) -> list[dict[str, np.ndarray]]:
    return [{"x": RNG.standard_normal((1, 4, frames + i)).astype(np.float32)} for i in range(count)]


def test_int8_stays_close_to_float_on_inputs_of_any_length() -> None:
    small = OnnxSession(quantise(network(), feeds(8)).SerializeToString())
    exact = OnnxSession(network().SerializeToString())
    for feed in feeds(5, frames=200):
        before, after = exact.run(feed)[0], small.run(feed)[0]
        assert np.linalg.norm(before - after) < 0.05 * np.linalg.norm(before)


def test_the_same_network_and_speech_give_the_same_bytes() -> None:
    speech = feeds(4)
    made = [quantise(network(), speech).SerializeToString() for _ in range(2)]
    assert made[0] == made[1]


def test_weights_become_eight_bit_except_where_told() -> None:
    made = quantise(network(), feeds(2), keep_float=["las?"])
    types = {t.name: numpy_helper.to_array(t).dtype for t in made.graph.initializer}
    assert types["first.kernel.steps"] == np.int8
    assert types["second/bias.steps"] == np.int32
    assert types["last.kernel"] == np.float32
    assert "first.kernel" not in types


def test_one_click_does_not_coarsen_everything() -> None:
    speech = feeds(4, frames=30_000)
    speech[0]["x"][0, 0, 0] = 1e4
    small = OnnxSession(quantise(network(), speech, percentile=99.9).SerializeToString())
    exact = OnnxSession(network().SerializeToString())
    feed = feeds(1)[0]
    before, after = exact.run(feed)[0], small.run(feed)[0]
    assert np.linalg.norm(before - after) < 0.1 * np.linalg.norm(before)


def test_without_speech_nothing_is_guessed() -> None:
    with pytest.raises(QuantizeError, match="nothing to calibrate on"):
        quantise(network(), [])


def test_zero_has_an_exact_step_on_every_grid() -> None:
    for low, high in ((0.0, 1.0), (-3.0, 1.0), (-2.0, 0.0), (0.0, 0.0)):
        scale, zero = Range(low, high).grid()
        assert 0 <= int(zero) <= 255
        assert scale > 0


def test_a_folded_batch_norm_computes_the_same() -> None:
    weights = {
        "conv.weight": RNG.standard_normal((3, 2, 1)).astype(np.float32),
        "norm.weight": RNG.standard_normal(3).astype(np.float32),
        "norm.bias": RNG.standard_normal(3).astype(np.float32),
        "norm.running_mean": RNG.standard_normal(3).astype(np.float32),
        "norm.running_var": RNG.random(3).astype(np.float32) + 0.1,
    }
    x = RNG.standard_normal(2)
    kernel, bias = folded_conv(weights, "conv", "norm")
    plain = weights["conv.weight"][:, :, 0] @ x
    normed = (plain - weights["norm.running_mean"]) / np.sqrt(weights["norm.running_var"] + 1e-5)
    expected = normed * weights["norm.weight"] + weights["norm.bias"]
    np.testing.assert_allclose(kernel[:, :, 0] @ x + bias, expected, rtol=1e-5, atol=1e-6)
