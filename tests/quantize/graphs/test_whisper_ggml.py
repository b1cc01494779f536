"""Whisper's weights in whisper.cpp's layout: the same numbers, smaller, and nothing from a damaged source."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from quantize.errors import QuantizeError
from quantize.graphs import whisper_ggml as whisper

STATE, VOCABULARY, TEXT_TOKENS = 64, 300, 280
KINDS = {np.dtype("float32"): 0, np.dtype("int8"): 1, np.dtype("int16"): 2, np.dtype("float16"): 4}


def tiny_tensors() -> dict[str, npt.NDArray[Any]]:
    """A Whisper of one layer a side, random, under CTranslate2's names."""
    dice = np.random.default_rng(5)

    def linear(name: str, rows: int, columns: int) -> dict[str, npt.NDArray[Any]]:
        return {
            f"{name}/weight": dice.normal(size=(rows, columns)).astype("<f2"),
            f"{name}/bias": dice.normal(size=rows).astype("<f2"),
        }

    def norm(name: str) -> dict[str, npt.NDArray[Any]]:
        return {
            f"{name}/layer_norm/{part}": dice.normal(size=STATE).astype("<f2") for part in ("gamma", "beta")
        }

    tensors: dict[str, npt.NDArray[Any]] = {
        "decoder/embeddings/weight": dice.normal(size=(VOCABULARY, STATE)).astype("<f2"),
        "encoder/position_encodings/encodings": dice.normal(size=(50, STATE)).astype("<f2"),
        "decoder/position_encodings/encodings": dice.normal(size=(20, STATE)).astype("<f2"),
        "encoder/conv1/weight": dice.normal(size=(STATE, 80, 3)).astype("<f2"),
        "encoder/conv1/bias": dice.normal(size=STATE).astype("<f2"),
        "encoder/conv2/weight": dice.normal(size=(STATE, STATE, 3)).astype("<f2"),
        "encoder/conv2/bias": dice.normal(size=STATE).astype("<f2"),
    }
    for side in ("encoder", "decoder"):
        tensors[f"{side}/num_heads"] = np.array(1, dtype="<i2")
        layer = f"{side}/layer_0"
        tensors |= norm(side) | norm(f"{layer}/self_attention") | norm(f"{layer}/ffn")
        tensors |= linear(f"{layer}/self_attention/linear_0", 3 * STATE, STATE)
        tensors |= linear(f"{layer}/self_attention/linear_1", STATE, STATE)
        tensors |= linear(f"{layer}/ffn/linear_0", 4 * STATE, STATE)
        tensors |= linear(f"{layer}/ffn/linear_1", STATE, 4 * STATE)
    tensors |= norm("decoder/layer_0/attention")
    tensors |= linear("decoder/layer_0/attention/linear_0", STATE, STATE)
    tensors |= linear("decoder/layer_0/attention/linear_1", 2 * STATE, STATE)
    tensors |= linear("decoder/layer_0/attention/linear_2", STATE, STATE)
    return tensors


def ctranslate2_bytes(tensors: dict[str, npt.NDArray[Any]]) -> bytes:
    """CTranslate2's binary version 6, as its converter writes it."""

    def text(value: str) -> bytes:
        raw = value.encode() + b"\0"
        return struct.pack("<H", len(raw)) + raw

    body = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor).tobytes()
        body += text(name) + struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        body += struct.pack("<BI", KINDS[tensor.dtype], len(data)) + data
    return body + struct.pack("<I", 0)


def write_source(folder: Path, tensors: dict[str, npt.NDArray[Any]]) -> tuple[Path, Path]:
    model, tokenizer = folder / "model.bin", folder / "tokenizer.json"
    model.write_bytes(ctranslate2_bytes(tensors))
    symbols = [chr(33 + at) for at in range(90)] + ["Ġ", "Ċ"]
    vocabulary = {symbol: at for at, symbol in enumerate(symbols)}
    vocabulary |= {f"Ġ{chr(97 + at % 26)}{at}": at for at in range(len(symbols), TEXT_TOKENS)}
    tokenizer.write_text(json.dumps({"model": {"vocab": vocabulary}}), encoding="utf-8")
    return model, tokenizer


def read_ggml(
    path: Path,
) -> tuple[tuple[int, ...], list[bytes], dict[str, tuple[int, tuple[int, ...], bytes]]]:
    """Header, vocabulary and tensors of a whisper.cpp file, read as its loader does."""
    data, at = path.read_bytes(), 48
    header = struct.unpack_from("<12i", data)
    mels, bins = struct.unpack_from("<2i", data, at)
    at += 8 + 4 * mels * bins
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    vocabulary = []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, at)
        vocabulary.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    sizes = {0: (1, 4), 1: (1, 2), 7: (32, 24), 8: (32, 34)}
    tensors = {}
    while at < len(data):
        dims, length, kind = struct.unpack_from("<3i", data, at)
        shape = struct.unpack_from(f"<{dims}i", data, at + 12)
        at += 12 + 4 * dims
        name = data[at : at + length].decode()
        block, stride = sizes[kind]
        size = int(np.prod(shape)) // block * stride
        tensors[name] = (kind, shape, data[at + length : at + length + size])
        at += length + size
    return header, vocabulary, tensors


def dequantise_q8(raw: bytes) -> npt.NDArray[np.float32]:
    blocks = np.frombuffer(raw, dtype=[("d", "<f2"), ("q", "i1", (32,))])
    return (blocks["d"].astype(np.float32)[:, None] * blocks["q"]).reshape(-1)


def dequantise_q5(raw: bytes) -> npt.NDArray[np.float32]:
    blocks = np.frombuffer(raw, dtype=[("d", "<f2"), ("m", "<f2"), ("h", "<u4"), ("q", "u1", (16,))])
    low = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1)
    fifth = (blocks["h"][:, None] >> np.arange(32, dtype=np.uint32)) & 1
    levels = low + 16 * fifth
    return (
        blocks["d"].astype(np.float32)[:, None] * levels + blocks["m"].astype(np.float32)[:, None]
    ).reshape(-1)


def test_a_file_holds_every_tensor_once_with_the_dimensions_fastest_first(tmp_path: Path) -> None:
    whisper.build(*write_source(tmp_path, tiny_tensors()), tmp_path / "out.bin")
    header, vocabulary, tensors = read_ggml(tmp_path / "out.bin")
    assert header == (0x67676D6C, VOCABULARY, 50, STATE, 1, 1, 20, STATE, 1, 1, 80, 2007)
    assert len(vocabulary) == TEXT_TOKENS
    assert vocabulary[90] == b" "
    assert tensors["encoder.blocks.0.mlp.0.weight"][1] == (STATE, 4 * STATE)
    assert tensors["encoder.conv1.bias"][1] == (1, STATE)
    assert "decoder.blocks.0.cross_attn.key.weight" in tensors
    assert not [name for name in tensors if name.endswith("key.bias")]
    assert len(tensors) == 50


def test_fused_attention_comes_apart_in_the_order_query_key_value(tmp_path: Path) -> None:
    source = tiny_tensors()
    whisper.build(*write_source(tmp_path, source), tmp_path / "out.bin")
    _, _, tensors = read_ggml(tmp_path / "out.bin")
    fused = source["encoder/layer_0/self_attention/linear_0/weight"].astype(np.float32)
    for part, rows in zip(("query", "key", "value"), np.split(fused, 3), strict=True):
        _, _, raw = tensors[f"encoder.blocks.0.attn.{part}.weight"]
        np.testing.assert_allclose(dequantise_q8(raw), rows.reshape(-1), atol=0.02)


@pytest.mark.parametrize(
    ("pack", "unpack", "levels"), [("q8_0", dequantise_q8, 254), ("q5_1", dequantise_q5, 31)]
)
def test_quantised_weights_are_within_half_a_step(pack: str, unpack: Any, levels: int) -> None:
    blocks = np.random.default_rng(1).normal(size=(200, 32)).astype(np.float32)
    restored = unpack(whisper.FORMATS[pack].pack(blocks)).reshape(blocks.shape)
    if pack == "q8_0":
        step = 2 * np.abs(blocks).max(axis=1, keepdims=True) / levels
    else:
        step = (blocks.max(axis=1, keepdims=True) - blocks.min(axis=1, keepdims=True)) / levels
    # The float16 scale itself adds up to one part in 2048 of the largest value.
    assert (np.abs(restored - blocks) <= 0.5 * step + np.abs(blocks).max() / 1024).all()


@pytest.mark.parametrize("pack", ["q8_0", "q5_1"])
def test_a_block_of_zeros_stays_zero(pack: str) -> None:
    packed = whisper.FORMATS[pack].pack(np.zeros((3, 32), dtype=np.float32))
    assert not any(packed)


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    model, tokenizer = write_source(tmp_path, tiny_tensors())
    for name in ("one", "two"):
        whisper.build(model, tokenizer, tmp_path / name, weights="q5_1")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_mel_filters_are_whispers() -> None:
    filters = whisper.mel_filters()
    assert filters.shape == (80, 201)
    # The first weight of the array that openai/whisper ships as assets/mel_filters.npz.
    assert filters[0, 1] == pytest.approx(0.02486259, abs=1e-7)
    assert (filters >= 0).all()
    assert (filters.sum(axis=1) > 0).all()


def test_a_truncated_source_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    model, tokenizer = write_source(tmp_path, tiny_tensors())
    model.write_bytes(model.read_bytes()[:-1000])
    with pytest.raises(QuantizeError):
        whisper.build(model, tokenizer, tmp_path / "out.bin")
    assert not (tmp_path / "out.bin").exists()


def test_a_source_without_a_tensor_is_refused_by_its_name(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    del tensors["decoder/layer_0/ffn/linear_1/weight"]
    with pytest.raises(QuantizeError, match="ffn/linear_1/weight"):
        whisper.build(*write_source(tmp_path, tensors), tmp_path / "out.bin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "tokenizer.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"model": {"vocab": {"a": 0, "b": 2}}}', '{"model": {"vocab": {"\u4e16": 0}}}', "\x00"],
)
def test_a_broken_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    model, tokenizer = write_source(tmp_path, tiny_tensors())
    tokenizer.write_text(text, encoding="utf-8")
    with pytest.raises(QuantizeError, match="tokenizer"):
        whisper.build(model, tokenizer, tmp_path / "out.bin")


def test_an_unknown_weight_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="q8_0"):
        whisper.build(*write_source(tmp_path, tiny_tensors()), tmp_path / "out.bin", weights="q1")
