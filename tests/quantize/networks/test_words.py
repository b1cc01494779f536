"""Whisper's graphs from a small random model: sound once, sentences together, nothing kept that strays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device.models.words.hearing import Sentence
from device.models.words.whisper_onnx import OnnxWhisper
from quantize.errors import QuantizeError
from quantize.graphs.products import EightBits, Exact, Products
from quantize.networks.words import Upstream, build_encoder, prove_encoder
from tests.quantize.graphs.test_whisper_ggml import STATE, VOCABULARY, ctranslate2_bytes, tiny_tensors

BYTES = [bytes([value]) for value in range(256)]
PROMPT = [290, 291]
RATE_HZ = 16_000


def upstream() -> Upstream:
    """One layer a side, a vocabulary of bytes, and room for utterances of some seconds."""
    dice = np.random.default_rng(6)
    weights = {
        name: tensor if "num_heads" in name or "layer_norm" in name else (tensor * 0.2).astype("<f2")
        for name, tensor in tiny_tensors().items()
    }
    # Loud places in the text, so that the model does not repeat itself.
    for side, length, loudness in (("encoder", 1500, 1), ("decoder", 448, 4)):
        places = dice.normal(size=(length, STATE)) * loudness
        weights[f"{side}/position_encodings/encodings"] = places.astype("<f2")
    return Upstream(weights, BYTES, PROMPT)


def whisper(products: Products) -> OnnxWhisper:
    encoder, decoder = (graph.SerializeToString() for graph in upstream().graphs(products))
    return OnnxWhisper(encoder, decoder, threads=1)


@pytest.fixture
def wave() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.1, RATE_HZ).astype(np.float32)


def test_only_the_tokens_that_a_door_needs_are_kept() -> None:
    _, decoder = upstream().graphs(EightBits())
    kept = {tensor.name: list(tensor.dims) for tensor in decoder.graph.initializer}
    assert kept["embedding.steps"] == [STATE, len(BYTES) + 1 + len(PROMPT)]
    assert len(BYTES) + 1 + len(PROMPT) < VOCABULARY


def test_sentences_weigh_together_what_they_weigh_alone(wave: np.ndarray) -> None:
    model = whisper(Exact())
    sentences = [Sentence(model.tokens(text)) for text in ("one", "twenty two", "a")]
    together = model.listen(wave, sentences).sentences
    for sentence, spoken in zip(sentences, together, strict=True):
        (alone,) = model.listen(wave, [sentence]).sentences
        assert spoken.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_what_is_heard_freely_is_the_likeliest_word_each_time(wave: np.ndarray) -> None:
    model = whisper(Exact())
    free = model.listen(wave, []).free
    (again,) = model.listen(wave, [Sentence(free.tokens[:12])]).sentences
    assert again.logprobs[1:12] == pytest.approx(free.logprobs[1:12], abs=1e-3)
    assert again.logprobs[1:12] == pytest.approx(again.best_logprobs[1:12], abs=1e-3)


def test_a_guess_changes_nothing_about_what_is_heard(wave: np.ndarray) -> None:
    model = whisper(Exact())
    free = model.listen(wave, []).free.tokens
    wrong_in_the_middle = (*free[:3], free[3] ^ 1, *free[4:8])
    for guess in (free[:5], wrong_in_the_middle, model.tokens("something else")):
        assert model.listen(wave, [Sentence(guess)]).free.tokens == free


def test_rivals_are_the_mean_of_what_could_stand_there(wave: np.ndarray) -> None:
    model = whisper(Exact())
    rivals = np.array([65, 66, 67])
    spoken = model.listen(wave, [Sentence((70, 71), {0: rivals})]).sentences[0]
    alone = [model.listen(wave, [Sentence((int(token),))]).sentences[0].logprobs[0] for token in rivals]
    assert spoken.rival_logprobs[0] == pytest.approx(np.log(np.mean(np.exp(alone))), abs=1e-4)
    assert spoken.rival_logprobs[1:] == (None, None)


def test_eight_bits_say_nearly_what_float_says(wave: np.ndarray) -> None:
    sentence = [Sentence((70, 71, 72, 73))]
    exact, small = (whisper(kind).listen(wave, sentence).sentences[0] for kind in (Exact(), EightBits()))
    assert small.logprobs == pytest.approx(exact.logprobs, abs=0.3)


def test_the_same_source_gives_the_same_bytes() -> None:
    first, second = (
        [graph.SerializeToString(deterministic=True) for graph in upstream().graphs(EightBits())]
        for _ in range(2)
    )
    assert first == second


def test_a_network_that_strays_fails_its_proof(tmp_path: Path) -> None:
    source = upstream()
    # One channel so loud that rounding leaves nothing of the others, and no weight that would hear it.
    weights = {name: tensor.copy() for name, tensor in source.weights.items()}
    weights["encoder/layer_norm/gamma"][0] = 6e4
    weights["decoder/layer_0/attention/linear_1/weight"][:, 0] = 0
    strange, out = Upstream(weights, BYTES, PROMPT), tmp_path / "out.onnx"
    build_encoder(strange, out, lambda text, done: None)
    with pytest.raises(QuantizeError, match="not released"):
        prove_encoder(strange, out, lambda text, done: None)


@pytest.mark.parametrize(
    "tokenizer",
    ["", "{}", '{"added_tokens": []}', '{"added_tokens": [], "model": {"vocab": {"!": 0}}}', "[1]"],
)
def test_a_tokenizer_without_what_is_needed_is_refused(tmp_path: Path, tokenizer: str) -> None:
    model, listed = tmp_path / "model.bin", tmp_path / "tokenizer.json"
    model.write_bytes(ctranslate2_bytes(tiny_tensors()))
    listed.write_text(tokenizer, encoding="utf-8")
    with pytest.raises(QuantizeError):
        Upstream.read(model, listed)


@pytest.mark.parametrize("gone", ["model.bin", "tokenizer.json"])
def test_a_file_that_is_gone_is_named(tmp_path: Path, gone: str) -> None:
    model, listed = tmp_path / "model.bin", tmp_path / "tokenizer.json"
    model.write_bytes(ctranslate2_bytes(tiny_tensors()))
    names = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
    added = [{"id": 2 + at, "content": name} for at, name in enumerate(names)]
    listed.write_text(json.dumps({"added_tokens": added, "model": {"vocab": {"!": 0, "a": 1}}}), "utf-8")
    (tmp_path / gone).unlink()
    with pytest.raises(QuantizeError, match=gone):
        Upstream.read(model, listed)


def test_the_prompt_of_a_model_of_many_languages_names_ours(tmp_path: Path) -> None:
    model, listed = tmp_path / "model.bin", tmp_path / "tokenizer.json"
    model.write_bytes(ctranslate2_bytes(tiny_tensors()))
    names = (
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|transcribe|>",
        "<|notimestamps|>",
        "<|de|>",
    )
    added = [{"id": 2 + at, "content": name} for at, name in enumerate(names)]
    listed.write_text(json.dumps({"added_tokens": added, "model": {"vocab": {"!": 0, "a": 1}}}), "utf-8")
    assert Upstream.read(model, listed, multilingual=True).prompt == [3, 4, 5, 6]
    assert Upstream.read(model, listed).prompt == [3, 6]
