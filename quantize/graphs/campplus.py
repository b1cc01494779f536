"""CAM++ (Wang et al., Interspeech 2023): speaker embeddings from a densely connected TDNN with context masks.

Written after the paper and the checkpoint's own shapes. Every batch norm that follows a convolution is folded
into it. The mask of a layer depends on time only through its segment, so it is computed once per segment and
spread over the frames afterwards: the same numbers for a hundredth of the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantize.graphs.builder import GraphBuilder, Weights, batch_norm, folded_conv

Array = npt.NDArray[Any]

FEATURE_BINS = 80
EMBEDDING_SIZE = 192
SEGMENT_FRAMES = 100
"""Frames, after the stride of two, that share one mask."""

# (layers, kernel, dilation) of the three dense blocks.
BLOCKS = ((12, 3, 1), (24, 3, 2), (16, 3, 2))


# Where eight bits cost most and save least: the first convolution sees raw features, the masks and the last
# map are small. Names of node outputs.
SENSITIVE = ("head.conv1", "xvector.dense", "*.mask1", "*.mask2", "*.shortcut")


def build(weights: Weights) -> onnx.ModelProto:
    """Float graph: `features` (batch, frames, 80) -> `embedding` (batch, 192), any length over 4 frames."""
    g = GraphBuilder("campplus")
    features = g.input("features", ["batch", "frames", FEATURE_BINS])
    x = _head(g, weights, features)
    x = _conv_norm_relu(g, weights, x, "xvector.tdnn.linear", "xvector.tdnn.nonlinear.batchnorm", [2], [2])
    segment_of_frame = _segment_of_frame(g, x)
    for number, (layers, kernel, dilation) in enumerate(BLOCKS, start=1):
        for layer in range(1, layers + 1):
            prefix = f"xvector.block{number}.tdnnd{layer}"
            new = _dense_layer(g, weights, x, prefix, segment_of_frame, kernel, dilation)
            x = g.add("Concat", x, new, name=f"{prefix}.concat", axis=1)
        x = _transit(g, weights, x, f"xvector.transit{number}")
    x = _norm_relu(g, weights, x, "xvector.out_nonlinear.batchnorm")
    g.output(_embedding(g, weights, _statistics(g, x)), "embedding", ["batch", EMBEDDING_SIZE])
    return g.model()


def _head(g: GraphBuilder, w: Weights, features: str) -> str:
    """Two-dimensional residual convolutions that shrink 80 bins to 10, then 32 x 10 channels per frame."""
    x = g.add("Transpose", features, name="bins_first", perm=[0, 2, 1])
    x = g.add("Unsqueeze", x, g.ints(1), name="image")
    x = _conv_norm_relu(g, w, x, "head.conv1", "head.bn1", [1, 1], [1, 1])
    for layer, strides in (("layer1", (2, 1)), ("layer2", (2, 1))):
        for block, stride in enumerate(strides):
            x = _residual(g, w, x, f"head.{layer}.{block}", stride)
    x = _conv_norm_relu(g, w, x, "head.conv2", "head.bn2", [1, 1], [2, 1])
    # (batch, 32, 10, frames) -> (batch, 320, frames)
    return g.add("Reshape", x, g.ints(0, 320, -1), name="head.flat")


def _residual(g: GraphBuilder, w: Weights, x: str, prefix: str, stride: int) -> str:
    y = _conv_norm_relu(g, w, x, f"{prefix}.conv1", f"{prefix}.bn1", [1, 1], [stride, 1])
    y = _conv(g, y, f"{prefix}.conv2", *folded_conv(w, f"{prefix}.conv2", f"{prefix}.bn2"), [1, 1], [1, 1])
    if f"{prefix}.shortcut.0.weight" in w:
        kernel, bias = folded_conv(w, f"{prefix}.shortcut.0", f"{prefix}.shortcut.1")
        x = _conv(g, x, f"{prefix}.shortcut", kernel, bias, [0, 0], [stride, 1])
    return g.add("Relu", g.add("Add", y, x, name=f"{prefix}.sum"), name=f"{prefix}.relu")


def _dense_layer(
    g: GraphBuilder, w: Weights, x: str, prefix: str, segment_of_frame: str, kernel: int, dilation: int
) -> str:
    """Bottleneck, then a local convolution whose channels a mask from the context turns up or down."""
    x = _norm_relu(g, w, x, f"{prefix}.nonlinear1.batchnorm")
    x = _conv_norm_relu(g, w, x, f"{prefix}.linear1", f"{prefix}.nonlinear2.batchnorm", [0], [1])
    cam = f"{prefix}.cam_layer"
    local_kernel = w[f"{cam}.linear_local.weight"]
    pad = (kernel - 1) // 2 * dilation
    local = _conv(g, x, f"{cam}.local", local_kernel, None, [pad], [1], [dilation])
    whole = g.add("ReduceMean", x, name=f"{cam}.whole", axes=[2], keepdims=1)
    segments = g.add(
        "AveragePool", x, name=f"{cam}.segments",
        kernel_shape=[SEGMENT_FRAMES], strides=[SEGMENT_FRAMES], ceil_mode=1, count_include_pad=0,
    )  # fmt: skip
    mask = g.add("Add", whole, segments, name=f"{cam}.context")
    mask = _conv(g, mask, f"{cam}.mask1", w[f"{cam}.linear1.weight"], w[f"{cam}.linear1.bias"], [0], [1])
    mask = g.add("Relu", mask, name=f"{cam}.mask1.relu")
    mask = _conv(g, mask, f"{cam}.mask2", w[f"{cam}.linear2.weight"], w[f"{cam}.linear2.bias"], [0], [1])
    mask = g.add("Sigmoid", mask, name=f"{cam}.mask")
    mask = g.add("Gather", mask, segment_of_frame, name=f"{cam}.mask.frames", axis=2)
    return g.add("Mul", local, mask, name=f"{cam}.masked")


def _segment_of_frame(g: GraphBuilder, x: str) -> str:
    """0, 0, ..., 1, 1, ...: the segment each frame belongs to, as int64 (frames,)."""
    shape = g.add("Shape", x, name="frames.shape", start=2, end=3)
    count = g.add("Squeeze", shape, g.ints(0), name="frames.count")
    zero, one = g.const("zero", np.asarray(0, np.int64)), g.const("one", np.asarray(1, np.int64))
    frames = g.add("Range", zero, count, one, name="frames.index")
    return g.add(
        "Div", frames, g.const("segment", np.asarray(SEGMENT_FRAMES, np.int64)), name="frames.segment"
    )


def _transit(g: GraphBuilder, w: Weights, x: str, prefix: str) -> str:
    x = _norm_relu(g, w, x, f"{prefix}.nonlinear.batchnorm")
    return _conv(g, x, f"{prefix}.linear", w[f"{prefix}.linear.weight"], None, [0], [1])


def _statistics(g: GraphBuilder, x: str) -> str:
    """Mean and unbiased standard deviation over time, side by side."""
    mean = g.add("ReduceMean", x, name="stats.mean", axes=[2], keepdims=1)
    centred = g.add("Sub", x, mean, name="stats.centred")
    squares = g.add("ReduceSumSquare", centred, name="stats.squares", axes=[2], keepdims=1)
    shape = g.add("Shape", x, name="stats.shape", start=2, end=3)
    count = g.add("Cast", shape, name="stats.count", to=onnx.TensorProto.FLOAT)
    freedom = g.add("Sub", count, g.const("one_frame", np.asarray([1.0], np.float32)), name="stats.freedom")
    deviation = g.add("Sqrt", g.add("Div", squares, freedom, name="stats.variance"), name="stats.deviation")
    return g.add("Concat", mean, deviation, name="stats", axis=1)


def _embedding(g: GraphBuilder, w: Weights, statistics: str) -> str:
    """The last affine map; its batch norm has no gain, and no activation follows."""
    kernel, bias = folded_conv(w, "xvector.dense.linear", "xvector.dense.nonlinear.batchnorm")
    flat = g.add("Flatten", statistics, name="stats.flat", axis=1)
    matrix = g.const("xvector.dense.kernel", kernel.reshape(EMBEDDING_SIZE, -1))
    return g.add("Gemm", flat, matrix, g.const("xvector.dense.bias", bias), name="xvector.dense", transB=1)


def _conv_norm_relu(
    g: GraphBuilder, w: Weights, x: str, conv: str, norm: str, pads: list[int], strides: list[int]
) -> str:
    return g.add("Relu", _conv(g, x, conv, *folded_conv(w, conv, norm), pads, strides), name=f"{conv}.relu")


def _norm_relu(g: GraphBuilder, w: Weights, x: str, norm: str) -> str:
    """A batch norm before its convolution stays: its input has other readers, so nothing can absorb it."""
    scale, shift = (value.astype(np.float32).reshape(1, -1, 1) for value in batch_norm(w, norm))
    x = g.add("Mul", x, g.const(f"{norm}.scale", scale), name=f"{norm}.scaled")
    x = g.add("Add", x, g.const(f"{norm}.shift", shift), name=f"{norm}.shifted")
    return g.add("Relu", x, name=f"{norm}.relu")


def _conv(
    g: GraphBuilder, x: str, name: str, kernel: Array, bias: Array | None,
    pads: list[int], strides: list[int], dilations: list[int] | None = None,
) -> str:  # fmt: skip
    inputs = [x, g.const(f"{name}.kernel", kernel)]
    if bias is not None:
        inputs.append(g.const(f"{name}.bias", bias))
    return g.add(
        "Conv", *inputs, name=name, kernel_shape=list(kernel.shape[2:]), pads=pads * 2,
        strides=strides, dilations=dilations or [1] * len(pads),
    )  # fmt: skip
