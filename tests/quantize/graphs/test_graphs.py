"""The graph builders compute what the papers say, checked against plain numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device.model_store.sessions import OnnxSession
from quantize import reference
from quantize.graphs import campplus
from quantize.graphs.builder import GraphBuilder, lstm
from quantize.graphs.pyannote import sinc_filters
from quantize.upstream.checkpoint import read_tensors
from quantize.upstream.fetch import fetch

RNG = np.random.default_rng(3)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def plain_lstm(w: dict[str, np.ndarray], end: str, x: np.ndarray) -> np.ndarray:
    """PyTorch's LSTM (gates i, f, g, o), one frame at a time; `x` is (frames, features)."""
    hidden = w[f"n.weight_hh_l0{end}"].shape[1]
    h, c, out = np.zeros(hidden), np.zeros(hidden), []
    for frame in x:
        gates = w[f"n.weight_ih_l0{end}"] @ frame + w[f"n.bias_ih_l0{end}"]
        gates = gates + w[f"n.weight_hh_l0{end}"] @ h + w[f"n.bias_hh_l0{end}"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_layer_computes_what_pytorch_defines(bidirectional: bool) -> None:
    ends = ("", "_reverse") if bidirectional else ("",)
    shapes = {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias_ih": (20,), "bias_hh": (20,)}
    w = {
        f"n.{part}_l0{end}": RNG.standard_normal(shape).astype(np.float32)
        for end in ends
        for part, shape in shapes.items()
    }
    g = GraphBuilder("toy")
    out, last = lstm(g, w, g.input("x", ["frames", 1, 3]), "n", 0, bidirectional=bidirectional)
    g.output(out, "out", ["frames", 1, 5 * len(ends)])
    g.output(last, "last", [len(ends), 1, 5])
    x = RNG.standard_normal((7, 1, 3)).astype(np.float32)
    got, state = OnnxSession(g.model().SerializeToString()).run({"x": x})
    expected = [plain_lstm(w, "", x[:, 0])]
    if bidirectional:
        expected.append(plain_lstm(w, "_reverse", x[::-1, 0])[::-1])
    np.testing.assert_allclose(got[:, 0], np.concatenate(expected, axis=1), atol=1e-5)
    np.testing.assert_allclose(state[0, 0], expected[0][-1], atol=1e-5)


def campplus_in_numpy(w: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """CAM++ straight from the paper, in float64, nothing folded; `features` is (frames, 80)."""

    def norm(x: np.ndarray, prefix: str) -> np.ndarray:
        shape = (-1,) + (1,) * (x.ndim - 1)
        mean, var = w[f"{prefix}.running_mean"].reshape(shape), w[f"{prefix}.running_var"].reshape(shape)
        x = (x - mean) / np.sqrt(var + 1e-5)
        if f"{prefix}.weight" in w:
            x = x * w[f"{prefix}.weight"].reshape(shape) + w[f"{prefix}.bias"].reshape(shape)
        return x

    def conv(x: np.ndarray, kernel: np.ndarray, pad: int, stride: int = 1, dilation: int = 1) -> np.ndarray:
        size = kernel.shape[2]
        x = np.pad(x, ((0, 0), (pad, pad)))
        count = (x.shape[1] - dilation * (size - 1) - 1) // stride + 1
        taps = [x[:, k * dilation : k * dilation + stride * (count - 1) + 1 : stride] for k in range(size)]
        return sum(kernel[:, :, k] @ tap for k, tap in enumerate(taps))

    def conv2(x: np.ndarray, name: str, stride: int) -> np.ndarray:
        kernel = w[f"{name}.weight"]
        pad = kernel.shape[2] // 2
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        rows = (x.shape[1] - kernel.shape[2]) // stride + 1
        columns = x.shape[2] - kernel.shape[3] + 1
        out = np.zeros((len(kernel), rows, columns))
        for i in range(kernel.shape[2]):
            for j in range(kernel.shape[3]):
                tap = x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + columns]
                out += np.einsum("oc,crt->ort", kernel[:, :, i, j], tap)
        return out

    def relu(x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0.0)

    x = relu(norm(conv2(features.T[np.newaxis], "head.conv1", 1), "head.bn1"))
    for layer in ("layer1", "layer2"):
        for block, stride in enumerate((2, 1)):
            p = f"head.{layer}.{block}"
            y = relu(norm(conv2(x, f"{p}.conv1", stride), f"{p}.bn1"))
            y = norm(conv2(y, f"{p}.conv2", 1), f"{p}.bn2")
            if f"{p}.shortcut.0.weight" in w:
                x = norm(conv2(x, f"{p}.shortcut.0", stride), f"{p}.shortcut.1")
            x = relu(x + y)
    x = relu(norm(conv2(x, "head.conv2", 2), "head.bn2")).reshape(320, -1)
    x = relu(norm(conv(x, w["xvector.tdnn.linear.weight"], 2, 2), "xvector.tdnn.nonlinear.batchnorm"))
    for number, (layers, size, dilation) in enumerate(campplus.BLOCKS, start=1):
        for layer in range(1, layers + 1):
            p = f"xvector.block{number}.tdnnd{layer}"
            y = conv(relu(norm(x, f"{p}.nonlinear1.batchnorm")), w[f"{p}.linear1.weight"], 0)
            y = relu(norm(y, f"{p}.nonlinear2.batchnorm"))
            local = conv(y, w[f"{p}.cam_layer.linear_local.weight"], (size - 1) // 2 * dilation, 1, dilation)
            segments = [y[:, t // 100 * 100 :][:, :100].mean(axis=1) for t in range(y.shape[1])]
            mask = np.stack(segments, axis=1) + y.mean(axis=1, keepdims=True)
            for part, last in (("linear1", relu), ("linear2", sigmoid)):
                cam = f"{p}.cam_layer.{part}"
                mask = last(conv(mask, w[f"{cam}.weight"], 0) + w[f"{cam}.bias"][:, None])
            x = np.concatenate([x, local * mask])
        p = f"xvector.transit{number}"
        x = conv(relu(norm(x, f"{p}.nonlinear.batchnorm")), w[f"{p}.linear.weight"], 0)
    x = relu(norm(x, "xvector.out_nonlinear.batchnorm"))
    statistics = np.concatenate([x.mean(axis=1), x.std(axis=1, ddof=1)])
    return norm(w["xvector.dense.linear.weight"][:, :, 0] @ statistics, "xvector.dense.nonlinear.batchnorm")


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return read_tensors(fetch("campplus"))


@pytest.mark.parametrize("frames", [21, 230])
def test_campplus_computes_what_the_paper_defines(weights: dict[str, np.ndarray], frames: int) -> None:
    features = (RNG.standard_normal((frames, 80)) * 2).astype(np.float32)
    session = OnnxSession(campplus.build(weights).SerializeToString())
    got = session.run({"features": features[np.newaxis]})[0][0]
    expected = campplus_in_numpy(
        {name: value.astype(np.float64) for name, value in weights.items()}, features
    )
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_a_graph_is_the_same_bytes_every_time(weights: dict[str, np.ndarray]) -> None:
    made = [campplus.build(weights).SerializeToString() for _ in range(2)]
    assert made[0] == made[1]


def test_sinc_filters_pass_their_band_and_stop_the_rest() -> None:
    half = np.arange(-125, 0, dtype=np.float64)[np.newaxis]
    weights = {
        "f.low_hz_": np.asarray([[950.0]]),
        "f.band_hz_": np.asarray([[450.0]]),
        "f.n_": 2 * np.pi * half / 16_000,
        "f.window_": np.hamming(251)[:125],
    }
    even, odd = np.abs(np.fft.rfft(sinc_filters(weights, "f")[:, 0], 16_000))
    for response in (even, odd):
        inside, outside = response[1100:1400].min(), max(response[:700].max(), response[1900:].max())
        assert inside > 20 * outside


@pytest.mark.slow
def test_the_references_are_built_once_and_give_what_evaluation_needs(tmp_path: Path) -> None:
    built = reference.build(tmp_path)
    assert reference.build(tmp_path) == built
    embedding = OnnxSession(built.resemblyzer).run({"mel": RNG.random((2, 160, 40)).astype(np.float32)})[0]
    assert embedding.shape == (2, 256)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1.0, atol=1e-5)
    wave = (RNG.standard_normal((1, 1, 32_000)) * 0.1).astype(np.float32)
    log_probability = OnnxSession(built.pyannote).run({"wave": wave})[0]
    assert log_probability.shape[2] == 7
    np.testing.assert_allclose(np.exp(log_probability).sum(axis=2), 1.0, atol=1e-4)
