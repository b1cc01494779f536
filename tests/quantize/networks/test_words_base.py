"""The larger words model: asked for and never by default, with eight-bit weights and float products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from device.models.words.hearing import Sentence
from device.models.words.whisper_onnx import OnnxWhisper
from quantize.errors import QuantizeError
from quantize.graphs.products import EightBits, Exact, Products
from quantize.networks.words_base import Base
from quantize.release.catalogue import RECIPES
from tests.quantize.graphs.test_whisper_ggml import ctranslate2_bytes, tiny_tensors
from tests.quantize.networks.test_words import RATE_HZ, upstream


def graphs(products: Products) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    small = upstream()
    return Base(small.weights, small.ordinary, small.prompt).graphs(products)


def test_nobody_gets_the_larger_model_without_asking() -> None:
    optional = {recipe.role: recipe.optional for recipe in RECIPES}
    assert optional["words-base"]
    assert optional["words-base-encoder"]
    assert not optional["words"]


def test_eight_bit_weights_say_what_float_says() -> None:
    wave = np.random.default_rng(7).normal(0, 0.1, RATE_HZ).astype(np.float32)
    exact, small = (
        OnnxWhisper(*(graph.SerializeToString() for graph in graphs(products)), threads=1)
        .listen(wave, [Sentence((70, 71, 72, 73))])
        .sentences[0]
        for products in (Exact(), EightBits())
    )
    assert small.logprobs == pytest.approx(exact.logprobs, abs=0.1)
    assert small.logprobs != exact.logprobs


def test_its_weights_take_a_byte_and_its_rows_are_never_rounded() -> None:
    for graph in graphs(EightBits()):
        kept = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
        steps = [kind for name, kind in kept.items() if name.endswith(".steps")]
        assert steps
        assert set(steps) == {onnx.TensorProto.INT8}
        assert not {"QuantizeLinear", "MatMulInteger"} & {node.op_type for node in graph.graph.node}


def test_a_tokenizer_of_one_language_is_refused(tmp_path: Path) -> None:
    model, listed = tmp_path / "model.bin", tmp_path / "tokenizer.json"
    model.write_bytes(ctranslate2_bytes(tiny_tensors()))
    names = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
    added = ", ".join(f'{{"id": {2 + at}, "content": "{name}"}}' for at, name in enumerate(names))
    listed.write_text(f'{{"added_tokens": [{added}], "model": {{"vocab": {{"!": 0, "a": 1}}}}}}', "utf-8")
    with pytest.raises(QuantizeError, match="has no token"):
        Base.of(model, listed)
