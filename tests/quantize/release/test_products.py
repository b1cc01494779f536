"""Products in eight bits: close to float, and no row depends on the rows beside it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from device.model_store.sessions import Array, OnnxSession
from quantize.graphs.builder import GraphBuilder
from quantize.graphs.products import EightBits, Exact, Products

WEIGHT = np.random.default_rng(1).normal(0, 0.2, (24, 64)).astype(np.float32)
BIAS = np.random.default_rng(2).normal(0, 1.0, 24).astype(np.float32)


def product(products: Products, x: Array) -> Array:
    g = GraphBuilder("product")
    given = g.input("x", ("n", 64))
    g.output(products.product(g, given, "weight", WEIGHT, BIAS), "y", ("n", 24))
    return OnnxSession(g.model().SerializeToString()).run({"x": x})[0]


def lookup(products: Products, rows: Array) -> Array:
    g = GraphBuilder("lookup")
    given = g.input("rows", ("b", "n"), onnx.TensorProto.INT64)
    g.output(products.lookup(g, given, "weight", WEIGHT), "y", ("b", "n", 64))
    return OnnxSession(g.model().SerializeToString()).run({"rows": rows})[0]


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(3).normal(0, 3.0, (7, 64)).astype(np.float32)


def test_float_is_the_matrix_product(x: Array) -> None:
    assert product(Exact(), x) == pytest.approx(x @ WEIGHT.T + BIAS, abs=1e-4)


def test_eight_bits_are_close_to_float(x: Array) -> None:
    exact = x @ WEIGHT.T + BIAS
    assert np.abs(product(EightBits(), x) - exact).max() < 0.02 * np.abs(exact).max()


def test_a_row_gives_the_same_whatever_stands_beside_it(x: Array) -> None:
    loud = np.concatenate([x, 1000 * x])
    np.testing.assert_array_equal(product(EightBits(), loud)[: len(x)], product(EightBits(), x))


def test_a_row_of_zeros_gives_the_bias() -> None:
    assert product(EightBits(), np.zeros((1, 64), np.float32))[0] == pytest.approx(BIAS)


@pytest.mark.parametrize("products", [Exact(), EightBits()])
def test_a_looked_up_row_is_the_weights_row(products: Products) -> None:
    rows = np.array([[0, 5], [23, 5]])
    assert lookup(products, rows) == pytest.approx(WEIGHT[rows], abs=0.01)


def test_a_table_that_is_multiplied_with_too_is_kept_once() -> None:
    g = GraphBuilder("shared")
    rows = g.input("rows", ("b", "n"), onnx.TensorProto.INT64)
    found = EightBits().lookup(g, rows, "weight", WEIGHT)
    flat = g.add("Reshape", found, g.ints(-1, 64))
    g.output(EightBits().product(g, flat, "weight", WEIGHT, None), "y", ("m", 24))
    kept = [tensor for tensor in g.model().graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert len(kept) == 1
