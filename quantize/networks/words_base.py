"""Whisper base for a door: a larger model of many languages, told to hear English, with eight-bit weights.

Eight bits for its rows as well, as in the usual model, let its LLR drift ten times as far (docs/models.md).
So its products stay float, and only the weights are rounded.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from device.models.second_words_answers import ANSWERS_ROLE
from quantize.graphs.builder import GraphBuilder
from quantize.graphs.products import EightBits, Exact, Matrix, Products
from quantize.networks.words import Upstream, recipes
from quantize.recipe import Recipe, shipped


class EightBitWeights(EightBits):
    """int8 weights with one scale an output, widened when the graph is loaded; rows and sums in float."""

    def product(self, g: GraphBuilder, x: str, name: str, weight: Matrix, bias: Matrix | None) -> str:
        steps, scales = self._kept(g, name, weight)
        y = g.add("Mul", g.add("MatMul", x, g.add("Cast", steps, to=TensorProto.FLOAT)), scales)
        return y if bias is None else g.add("Add", y, g.const(f"{name}.bias", bias.astype("float32")))


class Base(Upstream):
    """Whisper base as CTranslate2's files hold it."""

    @classmethod
    def of(cls, model: Path, tokenizer: Path) -> Upstream:
        """Raises QuantizeError when the files are not what they should be."""
        return cls.read(model, tokenizer, multilingual=True)

    def graphs(self, products: Products) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """Exact, or what eight bits mean for this model."""
        return super().graphs(products if isinstance(products, Exact) else EightBitWeights())


ANSWERS = Path(__file__).parent / "words-base-answers.json"
"""What it must answer to a known recording before a second hearing by it counts."""
SOURCES = ("whisper-base", "whisper-base-tokenizer")
RECIPES = (
    Recipe(
        role=ANSWERS_ROLE,
        file=ANSWERS.name,
        network=ANSWERS_ROLE,
        task="what the larger words model must answer to a known recording, on any processor",
        licence="Apache-2.0",
        make=shipped(ANSWERS, ANSWERS_ROLE),
        optional=True,
    ),
    *recipes(
        "words-base",
        "whisper-base",
        "speech recognition, the larger model",
        SOURCES,
        Base.of,
        optional=True,
        beside=(ANSWERS_ROLE,),
    ),
)
