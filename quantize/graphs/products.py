"""Matrix products with constant weights, in float or in eight bits: what makes one graph two precisions.

Weights come as (outputs, inputs), the way they are trained. In eight bits an output has one scale, and so has
every row of what is multiplied with it, found while the graph runs: nothing is calibrated, and what a row
gives does not depend on the rows beside it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from quantize.graphs.builder import GraphBuilder

Matrix = npt.NDArray[Any]

STEPS = 127
ZERO = 128
"""How uint8 writes zero."""


class Products(Protocol):
    """How weights are kept and multiplied with."""

    def product(self, g: GraphBuilder, x: str, name: str, weight: Matrix, bias: Matrix | None) -> str:
        """`x` (rows, inputs) times `weight` (outputs, inputs), plus `bias`: (rows, outputs)."""
        ...

    def lookup(self, g: GraphBuilder, rows: str, name: str, table: Matrix) -> str:
        """`table`'s rows (b, n) by number: (b, n, inputs). A weight of the same name is kept once."""
        ...


class Exact:
    """Float32."""

    def product(self, g: GraphBuilder, x: str, name: str, weight: Matrix, bias: Matrix | None) -> str:
        y = g.add("MatMul", x, g.const(name, weight.T.astype(np.float32)))
        return y if bias is None else g.add("Add", y, g.const(f"{name}.bias", bias.astype(np.float32)))

    def lookup(self, g: GraphBuilder, rows: str, name: str, table: Matrix) -> str:
        found = g.add("Gather", g.const(name, table.T.astype(np.float32)), rows, axis=1)
        return g.add("Transpose", found, perm=[1, 2, 0])


class EightBits:
    """int8 weights, uint8 rows, int32 sums."""

    def product(self, g: GraphBuilder, x: str, name: str, weight: Matrix, bias: Matrix | None) -> str:
        steps, scales = self._kept(g, name, weight)
        row_scales, rounded = self._rounded(g, x)
        zero = g.const("zero8", np.array(ZERO, np.uint8).reshape(1))
        sums = g.add("MatMulInteger", rounded, steps, g.add("Squeeze", zero))
        y = g.add("Mul", g.add("Mul", g.add("Cast", sums, to=TensorProto.FLOAT), row_scales), scales)
        return y if bias is None else g.add("Add", y, g.const(f"{name}.bias", bias.astype(np.float32)))

    def lookup(self, g: GraphBuilder, rows: str, name: str, table: Matrix) -> str:
        steps, scales = self._kept(g, name, table)
        found = g.add("Cast", g.add("Gather", steps, rows, axis=1), to=TensorProto.FLOAT)
        grid = g.add("Gather", scales, rows, axis=0)
        return g.add("Transpose", g.add("Mul", found, grid), perm=[1, 2, 0])

    def _rounded(self, g: GraphBuilder, x: str) -> tuple[str, str]:
        largest = g.add("ReduceMax", g.add("Abs", x), axes=[-1], keepdims=1)
        scale = g.add(
            "Max",
            g.add("Mul", largest, g.const("step", np.array(1 / STEPS, np.float32))),
            g.const("least", np.array(1e-9, np.float32)),
        )
        flat = g.add("Squeeze", scale, g.ints(-1))
        zeros = g.add("Expand", g.const("zero8", np.array([ZERO], np.uint8)), g.add("Shape", flat))
        return scale, g.add("QuantizeLinear", x, flat, zeros, axis=0)

    def _kept(self, g: GraphBuilder, name: str, weight: Matrix) -> tuple[str, str]:
        """Steps (inputs, outputs) int8 and the scale of each output."""
        scales = np.maximum(np.abs(weight.astype(np.float64)).max(axis=1), 1e-9) / STEPS
        steps = np.rint(weight / scales[:, None]).astype(np.int8)
        return g.const(f"{name}.steps", steps.T), g.const(f"{name}.scales", scales.astype(np.float32))
