"""INT8 keeps what matters, gives the same bytes twice, and leaves alone what it is told to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from device.model_store.sessions import OnnxSession
from quantize.errors import QuantizeError
from quantize.graphs.builder import GraphBuilder, folded_conv
from quantize.int8.calibrate import listen
from quantize.int8.graph import quantise
from quantize.int8.learned import Learned, Range, learned

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
    rounded = OnnxSession(quantise(network(), listen(network(), feeds(8))).SerializeToString())
    exact = OnnxSession(network().SerializeToString())
    for feed in feeds(5, frames=200):
        before, after = exact.run(feed)[0], rounded.run(feed)[0]
        assert np.linalg.norm(before - after) < 0.05 * np.linalg.norm(before)


def test_what_was_learned_makes_the_same_bytes_from_its_file_too() -> None:
    known = listen(network(), feeds(4), weights="ab", speech="cd")
    again = Learned.from_bytes(known.to_bytes())
    assert again == known
    assert [quantise(network(), one).SerializeToString() for one in (known, again)] == [
        quantise(network(), known).SerializeToString()
    ] * 2


def test_a_bias_gives_back_what_rounding_takes_in_whole_steps() -> None:
    known = listen(network(), feeds(4))
    assert set(known.bias_steps) == {"first", "second"}
    assert len(known.bias_steps["first"]) == 8
    changed = {**known.bias_steps, "first": tuple(step + 1 for step in known.bias_steps["first"])}
    plain, moved = (
        {t.name: numpy_helper.to_array(t) for t in quantise(network(), one).graph.initializer}
        for one in (known, replace(known, bias_steps=changed))
    )
    assert (moved["first/bias.steps"] - plain["first/bias.steps"] == 1).all()


def test_what_was_learned_about_another_network_is_refused(tmp_path: Path) -> None:
    known = listen(network(), feeds(2))
    with pytest.raises(QuantizeError, match="nothing was learned about first"):
        quantise(network(), replace(known, ranges={}))
    with pytest.raises(QuantizeError, match="other channels"):
        quantise(network(), replace(known, bias_steps={"first": (1,)}))
    (tmp_path / "toy.json").write_bytes(replace(known, weights="ab").to_bytes())
    assert learned("toy", "ab", tmp_path).ranges == known.ranges
    with pytest.raises(QuantizeError, match="other weights"):
        learned("toy", "cd", tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"ranges": {"x": [1, 2]}}', None])
def test_a_calibration_file_that_is_damaged_or_gone_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "toy.json").write_bytes(content)
    with pytest.raises(QuantizeError, match="restore it from version control"):
        learned("toy", "ab", tmp_path)


def test_weights_become_eight_bit_except_where_told() -> None:
    known = listen(network(), feeds(2), keep_float=["las?"])
    made = quantise(network(), known, keep_float=["las?"])
    types = {t.name: numpy_helper.to_array(t).dtype for t in made.graph.initializer}
    assert types["first.kernel.steps"] == np.int8
    assert types["second/bias.steps"] == np.int32
    assert types["last.kernel"] == np.float32
    assert "first.kernel" not in types


def test_one_click_does_not_coarsen_everything() -> None:
    speech = feeds(4, frames=30_000)
    speech[0]["x"][0, 0, 0] = 1e4
    # The last map sees one mean a recording: too few values for a percentile.
    known = listen(network(), speech, percentile=99.9, keep_float=["last"])
    rounded = OnnxSession(quantise(network(), known, keep_float=["last"]).SerializeToString())
    exact = OnnxSession(network().SerializeToString())
    feed = feeds(1)[0]
    before, after = exact.run(feed)[0], rounded.run(feed)[0]
    assert np.linalg.norm(before - after) < 0.1 * np.linalg.norm(before)


def test_without_speech_nothing_is_guessed() -> None:
    with pytest.raises(QuantizeError, match="nothing to calibrate on"):
        listen(network(), [])


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
