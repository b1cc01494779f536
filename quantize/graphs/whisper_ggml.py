"""Whisper: from CTranslate2's flat weight file to whisper.cpp's quantised one, with numpy alone.

The layout written is whisper.cpp's legacy ggml file: hyper-parameters, mel filters, vocabulary, tensors.
Matrices are quantised in blocks of 32 to Q8_0 or Q5_1; convolutions stay float16; biases, norms and positions
stay float32.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from device.models.words.log_mel import BINS, WINDOW, mel_filters
from quantize.errors import QuantizeError
from quantize.upstream.checkpoint import read_tensors
from quantize.upstream.tokenizer import read_vocabulary

Floats = npt.NDArray[np.float32]
Tensors = Mapping[str, npt.NDArray[Any]]

MAGIC = 0x67676D6C
BLOCK = 32
GGML_F32, GGML_F16 = 0, 1
QUANTISATION_VERSION = 2


def q8_0(blocks: Floats) -> bytes:
    """Blocks (n, 32) as ggml's Q8_0: a float16 scale and 32 signed bytes each."""
    scale = (np.abs(blocks).max(axis=1) / 127.0).astype(np.float32)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    packed = np.empty(len(blocks), dtype=[("d", "<f2"), ("q", "i1", (BLOCK,))])
    packed["d"] = scale
    packed["q"] = np.rint(blocks * inverse[:, None])
    return packed.tobytes()


def q5_1(blocks: Floats) -> bytes:
    """Blocks (n, 32) as ggml's Q5_1: float16 step and minimum, fifth bits, then nibbles (low half first)."""
    low = blocks.min(axis=1)
    step = ((blocks.max(axis=1) - low) / 31.0).astype(np.float32)
    inverse = np.divide(1.0, step, out=np.zeros_like(step), where=step > 0)
    levels = np.clip((blocks - low[:, None]) * inverse[:, None] + 0.5, 0, 31).astype(np.uint8)
    packed = np.empty(
        len(blocks), dtype=[("d", "<f2"), ("m", "<f2"), ("qh", "<u4"), ("qs", "u1", (BLOCK // 2,))]
    )
    packed["d"], packed["m"] = step, low
    packed["qh"] = ((levels >> 4).astype(np.uint32) << np.arange(BLOCK, dtype=np.uint32)).sum(
        axis=1, dtype=np.uint32
    )
    half = BLOCK // 2
    packed["qs"] = (levels[:, :half] & 0xF) | ((levels[:, half:] & 0xF) << 4)
    return packed.tobytes()


def from_q8_0(packed: bytes) -> Floats:
    """What Q8_0 bytes stand for: blocks (n, 32)."""
    read = np.frombuffer(packed, dtype=[("d", "<f2"), ("q", "i1", (BLOCK,))])
    found: Floats = read["d"].astype(np.float32)[:, None] * read["q"].astype(np.float32)
    return found


def from_q5_1(packed: bytes) -> Floats:
    """What Q5_1 bytes stand for: blocks (n, 32)."""
    read = np.frombuffer(
        packed, dtype=[("d", "<f2"), ("m", "<f2"), ("qh", "<u4"), ("qs", "u1", (BLOCK // 2,))]
    )
    fifth = (read["qh"][:, None] >> np.arange(BLOCK, dtype=np.uint32)) & 1
    levels = np.concatenate([read["qs"] & 0xF, read["qs"] >> 4], axis=1) + 16 * fifth
    step, low = (read[name].astype(np.float32)[:, None] for name in ("d", "m"))
    found: Floats = step * levels.astype(np.float32) + low
    return found


@dataclass(frozen=True, slots=True)
class _Format:
    tensor_type: int
    file_type: int
    pack: Callable[[Floats], bytes]
    unpack: Callable[[bytes], Floats]


FORMATS = {
    "q8_0": _Format(tensor_type=8, file_type=7, pack=q8_0, unpack=from_q8_0),
    "q5_1": _Format(tensor_type=7, file_type=9, pack=q5_1, unpack=from_q5_1),
}
_HALF = _Format(
    tensor_type=GGML_F16,
    file_type=1,
    pack=lambda blocks: blocks.astype("<f2").tobytes(),
    unpack=lambda packed: np.frombuffer(packed, "<f2").astype(np.float32).reshape(-1, BLOCK),
)


def build(source_model_bin: Path, tokenizer_json: Path, out_path: Path, *, weights: str = "q8_0") -> None:
    """Write a whisper.cpp model to `out_path`; `weights` is q8_0, q5_1 or f16. Same input, same bytes.

    Raises QuantizeError when a source file is not a CTranslate2 Whisper model or its tokenizer.
    """
    chosen = _HALF if weights == "f16" else FORMATS.get(weights)
    if chosen is None:
        raise QuantizeError(f"unknown weight format {weights!r}; choose f16 or one of {', '.join(FORMATS)}")
    tensors = read_tensors(source_model_bin)
    vocabulary = read_vocabulary(tokenizer_json)
    partial = out_path.with_name(out_path.name + ".part")
    try:
        shape = _shape(tensors)
        with partial.open("wb") as out:
            file_type = chosen.file_type + (0 if weights == "f16" else 1000 * QUANTISATION_VERSION)
            out.write(struct.pack("<12i", MAGIC, *shape, file_type))
            out.write(struct.pack("<2i", BINS, WINDOW // 2 + 1))
            out.write(mel_filters().astype("<f4").tobytes())
            out.write(struct.pack("<i", len(vocabulary)))
            for token in vocabulary:
                out.write(struct.pack("<I", len(token)) + token)
            for name, tensor in _ggml_tensors(tensors):
                _write_tensor(out, name, tensor, chosen)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(out_path)
    except KeyError as err:
        raise QuantizeError(f"{source_model_bin.name} lacks the tensor {err}") from err
    finally:
        partial.unlink(missing_ok=True)


def rounded(tensors: Tensors, weights: str) -> dict[str, npt.NDArray[Any]]:
    """`tensors` with every matrix as a file of that form holds it; names are CTranslate2's."""
    kept = FORMATS[weights]

    def one(name: str, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not (name.endswith("/weight") and tensor.ndim == 2 and tensor.shape[1] % BLOCK == 0):
            return tensor
        blocks = tensor.astype(np.float32).reshape(-1, BLOCK)
        return kept.unpack(kept.pack(blocks)).reshape(tensor.shape)

    return {name: one(name, tensor) for name, tensor in tensors.items()}


def _shape(tensors: Tensors) -> tuple[int, ...]:
    vocabulary, text_state = tensors["decoder/embeddings/weight"].shape
    audio_ctx, audio_state = tensors["encoder/position_encodings/encodings"].shape
    text_ctx = tensors["decoder/position_encodings/encodings"].shape[0]
    audio_heads, text_heads = (int(tensors[f"{side}/num_heads"].item()) for side in ("encoder", "decoder"))
    audio_layers, text_layers = (_layers(tensors, side) for side in ("encoder", "decoder"))
    return (
        vocabulary, audio_ctx, audio_state, audio_heads, audio_layers,
        text_ctx, text_state, text_heads, text_layers, BINS,
    )  # fmt: skip


def _layers(tensors: Tensors, side: str) -> int:
    return len(
        {name.split("/")[1] for name in tensors if name.startswith(f"{side}/layer_") and "/ffn/" in name}
    )


def _ggml_tensors(tensors: Tensors) -> Iterator[tuple[str, Floats]]:
    """Every tensor under whisper.cpp's name. CTranslate2 fuses q, k, v by rows; k has no bias in Whisper."""

    def get(name: str) -> Floats:
        return tensors[name].astype(np.float32)

    def pair(
        ours: str, theirs: str, weight: str = "weight", bias: str = "bias"
    ) -> Iterator[tuple[str, Floats]]:
        yield f"{ours}.weight", get(f"{theirs}/{weight}")
        yield f"{ours}.bias", get(f"{theirs}/{bias}")

    def norm(ours: str, theirs: str) -> Iterator[tuple[str, Floats]]:
        return pair(ours, f"{theirs}/layer_norm", "gamma", "beta")

    def fused(ours: str, theirs: str, parts: tuple[str, ...]) -> Iterator[tuple[str, Floats]]:
        weights = np.split(get(f"{theirs}/weight"), len(parts))
        biases = np.split(get(f"{theirs}/bias"), len(parts))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            yield f"{ours}.{part}.weight", weight
            if part != "key":
                yield f"{ours}.{part}.bias", bias

    for side in ("encoder", "decoder"):
        yield f"{side}.positional_embedding", get(f"{side}/position_encodings/encodings")
    for conv in ("conv1", "conv2"):
        yield f"encoder.{conv}.weight", get(f"encoder/{conv}/weight")
        yield f"encoder.{conv}.bias", get(f"encoder/{conv}/bias")[:, None]
    yield "decoder.token_embedding.weight", get("decoder/embeddings/weight")
    yield from norm("encoder.ln_post", "encoder")
    yield from norm("decoder.ln", "decoder")
    for side in ("encoder", "decoder"):
        for layer in range(_layers(tensors, side)):
            ours, theirs = f"{side}.blocks.{layer}", f"{side}/layer_{layer}"
            yield from norm(f"{ours}.attn_ln", f"{theirs}/self_attention")
            yield from fused(f"{ours}.attn", f"{theirs}/self_attention/linear_0", ("query", "key", "value"))
            yield from pair(f"{ours}.attn.out", f"{theirs}/self_attention/linear_1")
            if side == "decoder":
                yield from norm(f"{ours}.cross_attn_ln", f"{theirs}/attention")
                yield from fused(f"{ours}.cross_attn", f"{theirs}/attention/linear_0", ("query",))
                yield from fused(f"{ours}.cross_attn", f"{theirs}/attention/linear_1", ("key", "value"))
                yield from pair(f"{ours}.cross_attn.out", f"{theirs}/attention/linear_2")
            yield from norm(f"{ours}.mlp_ln", f"{theirs}/ffn")
            yield from pair(f"{ours}.mlp.0", f"{theirs}/ffn/linear_0")
            yield from pair(f"{ours}.mlp.2", f"{theirs}/ffn/linear_1")


def _write_tensor(out: BinaryIO, name: str, tensor: Floats, chosen: _Format) -> None:
    """Header, then data; ggml lists the dimensions fastest first."""
    matrix = tensor.ndim == 2 and name.endswith(".weight")
    if matrix and tensor.shape[1] % BLOCK == 0:
        kind, payload = chosen.tensor_type, chosen.pack(tensor.reshape(-1, BLOCK))
    elif tensor.ndim == 3:
        kind, payload = GGML_F16, tensor.astype("<f2").tobytes()
    else:
        kind, payload = GGML_F32, tensor.astype("<f4").tobytes()
    encoded = name.encode()
    out.write(struct.pack("<3i", tensor.ndim, len(encoded), kind))
    out.write(struct.pack(f"<{tensor.ndim}i", *reversed(tensor.shape)))
    out.write(encoded)
    out.write(payload)
