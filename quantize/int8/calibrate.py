"""Listens to speech through a float graph and writes down what the quantiser needs: a developer's step.

Ranges are percentiles, because one click in one recording would otherwise coarsen every other value. The
means of channels, as they are and as their eight bits would have them, tell what rounding takes from a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from device.model_store.sessions import Array, OnnxSession
from quantize.errors import QuantizeError
from quantize.int8.graph import Weighed, rounded_nodes, settled_output, weights_of
from quantize.int8.learned import Learned, Range

Feed = Mapping[str, Array]

PERCENTILE = 99.999


def listen(
    model: onnx.ModelProto,
    feeds: Sequence[Feed],
    *,
    weights: str = "",
    speech: str = "",
    percentile: float = PERCENTILE,
    keep_float: Iterable[str] = (),
    progress: Callable[[float], None] = lambda done: None,
) -> Learned:
    """What `quantize.int8.graph.quantise` needs to know about `model`, from `feeds`. `progress` is told.

    `weights` and `speech` name what it was learned from. Raises QuantizeError without feeds.
    """
    if not feeds:
        raise QuantizeError("there is nothing to calibrate on; give at least one recording")
    chosen = rounded_nodes(model, keep_float)
    measured = [node.input[0] for node in chosen] + [settled_output(model, node) for node in chosen]
    ranges = activation_ranges(model, list(dict.fromkeys(measured)), feeds, percentile, progress)
    inputs = list(dict.fromkeys(node.input[0] for node in chosen if node.op_type == "Conv"))
    means = channel_means(model, inputs, feeds, ranges)
    weighed = weights_of(model, chosen)
    steps = {
        node.output[0]: _bias_steps(weighed[node.output[0]], ranges[node.input[0]], *means[node.input[0]])
        for node in chosen
        if node.op_type == "Conv"
    }
    return Learned(weights, speech, percentile, ranges, steps)


def _bias_steps(weighed: Weighed, given: Range, mean: Array, mean_rounded: Array) -> tuple[int, ...]:
    """What rounding takes from the mean of each output channel, in steps of the bias.

    (Nagel et al., ICCV 2019, section 4.2, from calibration data.)
    """
    kernel_axes = tuple(range(2, weighed.exact.ndim))
    lost = weighed.exact.sum(axis=kernel_axes) @ mean - weighed.rounded.sum(axis=kernel_axes) @ mean_rounded
    plain = weighed.bias_steps(given)
    full = np.rint((weighed.bias + lost) / weighed.sum_scale(given))
    return tuple(int(step) for step in full - plain)


def activation_ranges(
    model: onnx.ModelProto,
    names: Sequence[str],
    feeds: Sequence[Feed],
    percentile: float,
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, Range]:
    """Range of each named tensor over all feeds: `percentile` of its values lie inside it."""
    tail = (1.0 - percentile / 100.0) / 2.0
    outside = dict.fromkeys(names, 0)
    for values in _values(model, names, feeds):
        for name, value in values.items():
            outside[name] += value.size
    outside = {name: int(tail * count) + 1 for name, count in outside.items()}
    lowest: dict[str, Array] = dict.fromkeys(names, np.zeros(0, np.float32))
    highest = dict(lowest)
    for done, values in enumerate(_values(model, names, feeds)):
        for name, value in values.items():
            lowest[name] = _smallest(np.append(lowest[name], value), outside[name])
            highest[name] = -_smallest(-np.append(highest[name], value), outside[name])
        progress(done / len(feeds))
    # Of as many values as may lie outside and one more, the innermost one is where the range ends.
    return {
        name: Range(min(0.0, float(lowest[name].max())), max(0.0, float(highest[name].min())))
        for name in names
    }


def _smallest(values: Array, count: int) -> Array:
    return np.partition(values, count - 1)[:count] if len(values) > count else values


def channel_means(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed], ranges: Mapping[str, Range]
) -> dict[str, tuple[Array, Array]]:
    """Mean per channel (axis 1) of each named tensor, as it is and as its uint8 grid would have it."""
    sums: dict[str, tuple[Array, Array]] = {}
    counts: dict[str, int] = {}
    for values in _values(model, names, feeds):
        for name, value in values.items():
            others = tuple(axis for axis in range(value.ndim) if axis != 1)
            scale, zero = ranges[name].grid()
            steps = np.clip(np.rint(value / scale) + int(zero), 0, 255)
            rounded = (steps - int(zero)) * scale
            # What lies outside the range was cut on purpose: a click must not come back through the bias.
            inside = np.clip(value, ranges[name].low, ranges[name].high)
            both = (inside.sum(axis=others, dtype=np.float64), rounded.sum(axis=others, dtype=np.float64))
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + both[0], before[1] + both[1])
            counts[name] = counts.get(name, 0) + value.size // value.shape[1]
    return {name: (exact / counts[name], rounded / counts[name]) for name, (exact, rounded) in sums.items()}


def _values(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed]
) -> Iterator[dict[str, Array]]:
    """What the float graph computes for every feed: each named tensor."""
    given = {value.name for value in model.graph.input}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    inner = [name for name in names if name not in given]
    if not inner:
        yield from ({name: feed[name] for name in names} for feed in feeds)
        return
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
    # One thread: sums come out in the same order, so the ranges come out the same.
    session = OnnxSession(probe.SerializeToString(), threads=1)
    for feed in feeds:
        computed = dict(zip(inner, session.run(dict(feed)), strict=True))
        yield computed | {name: feed[name] for name in names if name in given}
