"""pyannote segmentation 3.0 (Plaquet & Bredin, Interspeech 2023): who speaks when, two at once included.

SincNet filters, three pooled convolutions, four bidirectional LSTM layers, and a softmax over the seven sets
of at most two of three speakers. The filters are learnt as band edges and worked out here, once, in numpy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.graphs.builder import GraphBuilder, Weights, lstm

CLASSES = 7
KERNEL_SAMPLES = 251
STRIDE_SAMPLES = 10
LAYERS = 4
_LOWEST_HZ = 50.0
_NARROWEST_HZ = 50.0
_LEAK = 0.01


def build(weights: Weights) -> onnx.ModelProto:
    """Float graph: `wave` (batch, 1, samples) at 16 kHz -> `log_probability` (batch, frames, 7)."""
    g = GraphBuilder("pyannote-segmentation")
    x = _instance_norm(g, weights, g.input("wave", ["batch", 1, "samples"]), "sincnet.wav_norm1d")
    for layer in range(3):
        prefix = f"sincnet.conv1d.{layer}"
        if layer == 0:
            bank = g.const(f"{prefix}.kernel", sinc_filters(weights, f"{prefix}.filterbank"))
            x = g.add("Conv", x, bank, name=prefix, kernel_shape=[KERNEL_SAMPLES], strides=[STRIDE_SAMPLES])
            x = g.add("Abs", x, name=f"{prefix}.magnitude")
        else:
            kernel, bias = weights[f"{prefix}.weight"], weights[f"{prefix}.bias"]
            constants = (g.const(f"{prefix}.kernel", kernel), g.const(f"{prefix}.bias", bias))
            x = g.add("Conv", x, *constants, name=prefix, kernel_shape=[kernel.shape[2]], strides=[1])
        x = g.add("MaxPool", x, name=f"sincnet.pool.{layer}", kernel_shape=[3], strides=[3])
        x = _instance_norm(g, weights, x, f"sincnet.norm1d.{layer}")
        x = g.add("LeakyRelu", x, name=f"sincnet.relu.{layer}", alpha=_LEAK)
    x = g.add("Transpose", x, name="frames_first", perm=[2, 0, 1])
    for layer in range(LAYERS):
        x, _ = lstm(g, weights, x, "lstm", layer, bidirectional=True)
    x = g.add("Transpose", x, name="batch_first", perm=[1, 0, 2])
    for layer in range(2):
        x = g.add("LeakyRelu", _affine(g, weights, x, f"linear.{layer}"), alpha=_LEAK)
    x = g.add("LogSoftmax", _affine(g, weights, x, "classifier"), name="log_softmax", axis=-1)
    g.output(x, "log_probability", ["batch", "frames", CLASSES])
    return g.model()


def sinc_filters(weights: Weights, prefix: str) -> npt.NDArray[np.float32]:
    """Windowed even and odd band-pass filters, (80, 1, 251), from learnt lower edges and widths in Hz.

    SincNet (Ravanelli & Bengio 2018), extended by odd filters (Pariente et al. 2020).
    """
    low = _LOWEST_HZ + np.abs(weights[f"{prefix}.low_hz_"].astype(np.float64))
    high = np.clip(
        low + _NARROWEST_HZ + np.abs(weights[f"{prefix}.band_hz_"].astype(np.float64)),
        _LOWEST_HZ,
        SAMPLE_RATE_HZ / 2,
    )
    width = high - low
    angle = weights[f"{prefix}.n_"].astype(np.float64)  # 2 pi t of the left half, (1, 125)
    window = weights[f"{prefix}.window_"].astype(np.float64)
    even = (np.sin(high * angle) - np.sin(low * angle)) / (angle / 2) * window
    odd = (np.cos(low * angle) - np.cos(high * angle)) / (angle / 2) * window
    filters = np.concatenate(
        [
            np.concatenate([even, 2 * width, even[:, ::-1]], axis=1) / (2 * width),
            np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1) / (2 * width),
        ]
    )
    return np.asarray(filters[:, np.newaxis], dtype=np.float32)


def _instance_norm(g: GraphBuilder, w: Weights, x: str, prefix: str) -> str:
    constants = [g.const(f"{prefix}.{part}", w[f"{prefix}.{part}"]) for part in ("weight", "bias")]
    return g.add("InstanceNormalization", x, *constants, name=prefix, epsilon=1e-5)


def _affine(g: GraphBuilder, w: Weights, x: str, prefix: str) -> str:
    kernel = g.const(f"{prefix}.kernel", np.ascontiguousarray(w[f"{prefix}.weight"].T))
    product = g.add("MatMul", x, kernel, name=f"{prefix}.product")
    return g.add("Add", product, g.const(f"{prefix}.bias", w[f"{prefix}.bias"]), name=prefix)
