"""LSTMs with INT8 weights stay close to float, give the same bytes twice, and stay float where told."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from device.model_store.sessions import OnnxSession
from quantize.graphs.builder import GraphBuilder, lstm
from quantize.int8.lstm import quantise_lstms

FEATURES, HIDDEN = 24, 16


def network(bidirectional: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(7)
    weights = {}
    for end in ("", "_reverse") if bidirectional else ("",):
        for kind, inputs in (("ih", FEATURES), ("hh", HIDDEN)):
            weights[f"lstm.weight_{kind}_l0{end}"] = rng.normal(0, 0.3, (4 * HIDDEN, inputs))
            weights[f"lstm.bias_{kind}_l0{end}"] = rng.normal(0, 0.1, 4 * HIDDEN)
    g = GraphBuilder("toy")
    x = g.input("x", ["frames", "batch", FEATURES])
    every, _ = lstm(g, weights, x, "lstm", 0, bidirectional=bidirectional)
    g.output(every, "y", ["frames", "batch", HIDDEN * (1 + bidirectional)])
    return g.model()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_int8_weights_stay_close_to_float(bidirectional: bool) -> None:
    model = network(bidirectional)
    exact, small = (OnnxSession(m.SerializeToString()) for m in (model, quantise_lstms(model)))
    for frames, batch in ((30, 1), (81, 3)):
        given = {"x": np.random.default_rng(frames).standard_normal((frames, batch, FEATURES)).astype("f")}
        before, after = exact.run(given)[0], small.run(given)[0]
        assert np.linalg.norm(before - after) < 0.03 * np.linalg.norm(before)


def test_weights_become_eight_bit_except_where_told() -> None:
    model = network(bidirectional=False)
    types = {t.name: numpy_helper.to_array(t).dtype for t in quantise_lstms(model).graph.initializer}
    assert types["lstm.0.kernel"] == types["lstm.0.recurrence"] == np.int8
    assert types["lstm.0.bias"] == np.float32
    assert (
        quantise_lstms(model, [n.name for n in model.graph.node if n.op_type == "LSTM"]).graph == model.graph
    )


def test_the_same_network_gives_the_same_bytes() -> None:
    made = [quantise_lstms(network(bidirectional=True)).SerializeToString() for _ in range(2)]
    assert made[0] == made[1]
