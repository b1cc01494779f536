"""Whisper for whisper.cpp is kept only when it judges as float does."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from device.models.words.transcriber import ENGINE_ROLES, GGML_ROLES
from quantize.errors import QuantizeError
from quantize.graphs import whisper_ggml
from quantize.networks.words import Upstream, parity_clips
from quantize.networks.words_ggml import build_ggml, prove_ggml
from quantize.parity import FLIPS
from quantize.release.build import CALIBRATION_FILE
from quantize.release.catalogue import RECIPES
from quantize.upstream.fetch import fetch
from tests.quantize.graphs.test_whisper_ggml import (
    dequantise_q5,
    dequantise_q8,
    read_ggml,
    tiny_tensors,
    write_source,
)


def test_every_form_that_a_unit_may_choose_has_a_recipe_and_none_is_built_unasked() -> None:
    optional = {recipe.role: recipe.optional for recipe in RECIPES}
    assert all(optional[role] for role in GGML_ROLES.values())
    networks = [recipe.network for recipe in RECIPES if recipe.role in GGML_ROLES.values()]
    assert networks == [
        "whisper-tiny.en-q8_0", "whisper-tiny.en-q5_1", "whisper-base-q8_0", "whisper-base-q5_1",
    ]  # fmt: skip


@pytest.mark.parametrize(("form", "read"), [("q8_0", dequantise_q8), ("q5_1", dequantise_q5)])
def test_what_is_compared_with_float_is_what_the_file_holds(tmp_path: Path, form: str, read: object) -> None:
    source = tiny_tensors()
    whisper_ggml.build(*write_source(tmp_path, source), tmp_path / "out.bin", weights=form)
    _, _, written = read_ggml(tmp_path / "out.bin")
    kept = whisper_ggml.rounded(source, form)
    assert callable(read)
    for ours, theirs in (
        ("encoder.blocks.0.mlp.0.weight", "encoder/layer_0/ffn/linear_0/weight"),
        ("decoder.token_embedding.weight", "decoder/embeddings/weight"),
    ):
        assert read(written[ours][2]).tolist() == kept[theirs].reshape(-1).tolist()
        assert kept[theirs].tolist() != source[theirs].tolist()
    for name in ("encoder/conv1/weight", "encoder/layer_norm/gamma", "decoder/num_heads"):
        assert kept[name] is source[name]


@pytest.mark.slow
def test_a_file_that_judges_otherwise_fails_its_proof(tmp_path: Path) -> None:
    model, tokenizer = fetch("whisper-tiny-en"), fetch("whisper-tiny-en-tokenizer")
    upstream = Upstream.read(model, tokenizer)
    # What counts as float is far less sure of every word than what the file holds.
    weights = dict(upstream.weights)
    weights["decoder/layer_norm/gamma"] = 0.5 * weights["decoder/layer_norm/gamma"]
    strange = Upstream(weights, upstream.ordinary, upstream.prompt)
    clips, out = parity_clips()[:2], tmp_path / "out.bin"
    few = 0.3  # two recordings are no proof
    build_ggml(model, tokenizer, out, "q5_1", lambda text, done: None)
    with pytest.raises(QuantizeError, match="not released"):
        prove_ggml(strange, out, "q5_1", clips, lambda text, done: None, few)
    build_ggml(model, tokenizer, out, "q8_0", lambda text, done: None)
    assert prove_ggml(upstream, out, "q8_0", clips, lambda text, done: None, few)[FLIPS] == 0


def test_every_form_that_a_unit_may_choose_is_calibrated_with_an_origin() -> None:
    stated = tomllib.loads(CALIBRATION_FILE.read_text("utf-8"))
    for role in ENGINE_ROLES.values():
        assert stated[role]["scale"] > 0
        assert stated[role]["origin"]
