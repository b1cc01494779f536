"""Resemblyzer (Wan et al., ICASSP 2018, end-to-end loss): three LSTM layers and one affine map."""

from __future__ import annotations

import numpy as np
import onnx

from quantize.graphs.builder import GraphBuilder, Weights, lstm

MEL_BANDS = 40
EMBEDDING_SIZE = 256
LAYERS = 3


def build(weights: Weights) -> onnx.ModelProto:
    """Float graph: `mel` (windows, frames, 40), power and not log -> `embedding` (windows, 256), unit."""
    g = GraphBuilder("resemblyzer")
    mel = g.input("mel", ["windows", "frames", MEL_BANDS])
    x = g.add("Transpose", mel, name="frames_first", perm=[1, 0, 2])
    last = ""
    for layer in range(LAYERS):
        x, last = lstm(g, weights, x, "lstm", layer, bidirectional=False)
    state = g.add("Squeeze", last, g.ints(0), name="state")
    kernel = g.const("linear.kernel", weights["linear.weight"])
    raw = g.add(
        "Gemm", state, kernel, g.const("linear.bias", weights["linear.bias"]), name="linear", transB=1
    )
    positive = g.add("Relu", raw, name="positive")
    length = g.add("ReduceL2", positive, name="length", axes=[1], keepdims=1)
    # A window of silence may give nothing at all; then the answer is zero and not NaN.
    safe = g.add("Max", length, g.const("tiny", np.asarray([[1e-9]], np.float32)), name="safe_length")
    g.output(g.add("Div", positive, safe, name="unit"), "embedding", ["windows", EMBEDDING_SIZE])
    return g.model()
