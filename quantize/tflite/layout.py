"""Which way round a tensor lies: TFLite puts channels last, ONNX puts them second.

A tensor stays as it was computed and only remembers its order. It is turned when an operator insists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantize.tflite.writer import Array, Grid, Writer

Order = tuple[int | None, ...]
"""Which axis of the ONNX tensor each stored one is; None is an axis of length one that ONNX does not have."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the TFLite graph that stands for one of the ONNX graph."""

    tensor: int
    order: Order
    shape: tuple[int, ...]
    """In ONNX's order; -1 where the length may vary."""
    dtype: str = "float32"
    grid: Grid | None = None

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape as it lies."""
        return tuple(1 if axis is None else self.shape[axis] for axis in self.order)


def natural(shape: Sequence[int]) -> Order:
    """ONNX's own order."""
    return tuple(range(len(shape)))


def channels_last(rank: int) -> Order:
    """The order that convolutions and pools want, always of four axes."""
    orders: dict[int, Order] = {2: (0, None, None, 1), 3: (0, None, 2, 1), 4: (0, 2, 3, 1)}
    return orders[rank]


def arrange(constant: Array, rank: int, order: Order) -> Array:
    """A constant that broadcasts against a tensor of `rank` axes, in that tensor's order."""
    full = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    turned = full.transpose([axis for axis in order if axis is not None])
    lengths = iter(turned.shape)
    return turned.reshape([1 if axis is None else next(lengths) for axis in order])


def turned(w: Writer, name: str, value: Value, order: Order) -> Value:
    """`value` in `order`, with as few operators as that takes."""
    if value.order == order:
        return value
    wanted = Value(-1, order, value.shape).stored
    if _moving(value) == _moving(Value(-1, order, value.shape)):
        # Only axes of length one change place: the numbers lie right already.
        return Value(reshape(w, f"{name}.as", value, wanted), order, value.shape, value.dtype, value.grid)
    missing = len(order) - len(value.order)
    if sorted(map(str, value.order)) != sorted(map(str, order)):
        bare = tuple(axis for axis in value.order if axis is not None)
        spread: Order = (None,) * (len(order) - len(bare)) + bare
        shape = Value(-1, spread, value.shape).stored
        moved = reshape(w, f"{name}.of{missing:+d}", value, shape)
        value = Value(moved, spread, value.shape, value.dtype, value.grid)
    left = list(value.order)
    turns = []
    for axis in order:
        at = left.index(axis)
        left[at] = -1
        turns.append(at)
    out = w.tensor(f"{name}.turned", wanted, value.dtype, value.grid)
    w.operator("TRANSPOSE", [value.tensor, w.ints(turns)], out, "Transpose")
    return Value(out, order, value.shape, value.dtype, value.grid)


def _moving(value: Value) -> list[int]:
    return [axis for axis in value.order if axis is not None and value.shape[axis] != 1]


def reshape(w: Writer, name: str, value: Value, shape: Sequence[int]) -> int:
    """The same numbers in another shape, of which at most one length may vary."""
    out = w.tensor(name, shape, value.dtype, value.grid)
    if not shape:
        w.operator("SQUEEZE", [value.tensor], out, "Squeeze")
        return out
    w.operator("RESHAPE", [value.tensor, w.ints(shape)], out, "Reshape", NewShape=tuple(shape))
    return out
