"""How each file of the bundle is made. A recipe is data and one function; `quantize.build` does the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantize.errors import QuantizeError
from quantize.recipe import Kitchen, Made, Recipe, ports
from quantize.sources import source
from quantize.speech import packaged_speech

if TYPE_CHECKING:
    from quantize.words import Upstream

HERE = Path(__file__).parent
WEIGHTS = HERE / "train" / "weights"
ENVELOPES = "spoof-envelopes.npz"


def _speaker(out: Path, kitchen: Kitchen) -> Made:
    from quantize.speaker import build_speaker

    return build_speaker(kitchen.source("campplus"), out, packaged_speech(), kitchen.tick)


def _words_encoder(out: Path, kitchen: Kitchen) -> Made:
    from quantize.words import build_encoder

    return build_encoder(_tiny(kitchen), out, kitchen.tick)


def _words(out: Path, kitchen: Kitchen) -> Made:
    from quantize.words import build_decoder

    return build_decoder(_tiny(kitchen), kitchen.shelf["words-encoder"], out, kitchen.tick)


def _tiny(kitchen: Kitchen) -> Upstream:
    from quantize.words import Upstream

    return Upstream.read(kitchen.source("whisper-tiny-en"), kitchen.source("whisper-tiny-en-tokenizer"))


def _words_base_encoder(out: Path, kitchen: Kitchen) -> Made:
    from quantize.words import build_encoder

    return build_encoder(_base(kitchen), out, kitchen.tick)


def _words_base(out: Path, kitchen: Kitchen) -> Made:
    from quantize.words import build_decoder

    return build_decoder(_base(kitchen), kitchen.shelf["words-base-encoder"], out, kitchen.tick)


def _base(kitchen: Kitchen) -> Upstream:
    from quantize.words_base import Base

    return Base.of(*(kitchen.source(name) for name in WHISPER_BASE))


def _words_ggml(
    sources: Sequence[str], read: Callable[[Kitchen], Upstream], weights: str
) -> Callable[[Path, Kitchen], Made]:
    def make(out: Path, kitchen: Kitchen) -> Made:
        from quantize.words import parity_clips
        from quantize.words_ggml import build_ggml

        model, tokenizer = (kitchen.source(name) for name in sources)
        return build_ggml(read(kitchen), model, tokenizer, out, weights, parity_clips(), kitchen.tick)

    return make


def _spoof(out: Path, kitchen: Kitchen) -> Made:
    import onnx

    kitchen.tick("copying the spoof detector", 0.5)
    _copy(WEIGHTS / "spoof.int8.onnx", out)
    card = _card()
    graph = onnx.load(out).graph
    return Made(
        ports(graph.input), ports(graph.output), _numbers(card.get("parity", {})), str(card["version"])
    )


def _spoof_card(out: Path, kitchen: Kitchen) -> Made:
    _copy(WEIGHTS / "spoof.json", out)
    return Made(version=str(_card()["version"]))


def _spoof_envelopes(out: Path, kitchen: Kitchen) -> Made:
    _copy(WEIGHTS / ENVELOPES, out)
    return Made(version=str(_card()["version"]))


def _speaker_twin(out: Path, kitchen: Kitchen) -> Made:
    from quantize.twins import build_speaker_twin

    return build_speaker_twin(kitchen.shelf["speaker"], out, kitchen.tick)


def _spoof_twin(out: Path, kitchen: Kitchen) -> Made:
    from device.models.spoof.detector import SpoofCard
    from quantize.twins import build_spoof_twin

    card = SpoofCard.from_bytes(kitchen.shelf["spoof-card"].read_bytes())
    return build_spoof_twin(kitchen.shelf["spoof"], card, out, kitchen.tick)


def _resemblyzer(out: Path, kitchen: Kitchen) -> Made:
    from quantize.recurrent import build_resemblyzer

    return build_resemblyzer(kitchen.source("resemblyzer"), out, kitchen.tick)


def _segmentation(out: Path, kitchen: Kitchen) -> Made:
    from quantize.recurrent import build_segmentation

    return build_segmentation(kitchen.source("pyannote-segmentation"), out, kitchen.tick)


def _copy(given: Path, out: Path) -> None:
    if not given.is_file():
        raise QuantizeError(f"{given.name} is not in quantize/train/weights; restore it from version control")
    shutil.copyfile(given, out)


def _card() -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((WEIGHTS / "spoof.json").read_bytes())
        return {"version": card["version"], **card}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise QuantizeError(f"the spoof detector's card cannot be read ({err}); restore it") from err


def _numbers(fields: Mapping[str, Any]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in fields.items() if isinstance(value, int | float)}


LOWERING = ("quantize.twins", "quantize.parity", *(f"quantize.tflite.{name}" for name in (
    "elements", "graph", "layout", "lower", "products", "shapes", "windows", "writer")))  # fmt: skip
RECURRENT = ("quantize.recurrent", "quantize.int8_lstm", "quantize.parity", "quantize.graphs.builder")
TFLITE_TOOLS = ("onnx", "numpy", "tflite", "flatbuffers")

WHISPER = ("whisper-tiny-en", "whisper-tiny-en-tokenizer")
WHISPER_BASE = ("whisper-base", "whisper-base-tokenizer")
WHISPER_CODE = ("quantize.words", "quantize.tokenizer", "quantize.graphs.whisper", "quantize.graphs.products",
                "quantize.graphs.builder", "device.models.words.log_mel",
                "device.models.words.tokens")  # fmt: skip
WHISPER_BASE_CODE = (*WHISPER_CODE, "quantize.words_base")
WHISPER_TOOLS = ("onnx", "onnxruntime", "numpy")

WHISPER_CPP_CODE = ("quantize.words_ggml", "quantize.graphs.whisper_ggml", "device.models.words.whisper_cpp",
                    *WHISPER_BASE_CODE)  # fmt: skip


def _for_whisper_cpp(role: str, stem: str, weights: str) -> Recipe:
    base = stem == "words-base"
    sources = WHISPER_BASE if base else WHISPER
    return Recipe(
        role=role,
        file=f"{stem}.{weights}.bin",
        network=f"whisper-{'base' if base else 'tiny.en'}-{weights}",
        task=f"speech recognition, {'the larger model' if base else 'English'}, for whisper.cpp",
        licence=source(sources[0]).licence,
        make=_words_ggml(sources, _base if base else _tiny, weights),
        sources=sources,
        code=WHISPER_CPP_CODE,
        tools=(*WHISPER_TOOLS, "pywhispercpp"),
        needs_speech=True,
        optional=True,
    )


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        role="speaker",
        file="speaker.int8.onnx",
        network="campplus-int8",
        task="speaker verification, 192-dimensional embeddings",
        licence=source("campplus").licence,
        make=_speaker,
        sources=("campplus",),
        code=("quantize.speaker", "quantize.int8", "quantize.parity", "quantize.graphs.campplus",
              "quantize.graphs.builder", "device.models.features"),
        tools=("onnx", "onnxruntime", "numpy"),
        needs_speech=True,
    ),
    Recipe(
        role="words-encoder",
        file="words-encoder.int8.onnx",
        network="whisper-tiny.en-encoder-int8",
        task="speech recognition, English: what was heard",
        licence=source("whisper-tiny-en").licence,
        make=_words_encoder,
        sources=WHISPER,
        code=WHISPER_CODE,
        tools=WHISPER_TOOLS,
        needs_speech=True,
    ),
    Recipe(
        role="words",
        file="words.int8.onnx",
        network="whisper-tiny.en-int8",
        task="speech recognition, English: how well a sentence fits what was heard",
        licence=source("whisper-tiny-en").licence,
        make=_words,
        sources=WHISPER,
        code=WHISPER_CODE,
        tools=WHISPER_TOOLS,
        needs_speech=True,
        after=("words-encoder",),
    ),
    Recipe(
        role="words-base-encoder",
        file="words-base-encoder.int8.onnx",
        network="whisper-base-encoder-int8",
        task="speech recognition, the larger model: what was heard",
        licence=source("whisper-base").licence,
        make=_words_base_encoder,
        sources=WHISPER_BASE,
        code=WHISPER_BASE_CODE,
        tools=WHISPER_TOOLS,
        needs_speech=True,
        optional=True,
    ),
    Recipe(
        role="words-base",
        file="words-base.int8.onnx",
        network="whisper-base-int8",
        task="speech recognition, the larger model: how well a sentence fits what was heard",
        licence=source("whisper-base").licence,
        make=_words_base,
        sources=WHISPER_BASE,
        code=WHISPER_BASE_CODE,
        tools=WHISPER_TOOLS,
        needs_speech=True,
        after=("words-base-encoder",),
        optional=True,
    ),
    _for_whisper_cpp("words-ggml", "words", "q8_0"),
    _for_whisper_cpp("words-ggml-q5-1", "words", "q5_1"),
    _for_whisper_cpp("words-ggml-base", "words-base", "q8_0"),
    _for_whisper_cpp("words-ggml-base-q5-1", "words-base", "q5_1"),
    Recipe(
        role="spoof",
        file="spoof.int8.onnx",
        network="spoof",
        task="presentation attack detection",
        licence="Apache-2.0",
        make=_spoof,
        data=(WEIGHTS / "spoof.int8.onnx", WEIGHTS / "spoof.json"),
    ),
    Recipe(
        role="spoof-card",
        file="spoof.json",
        network="spoof",
        task="calibration and card of the presentation attack detector",
        licence="Apache-2.0",
        make=_spoof_card,
        data=(WEIGHTS / "spoof.json",),
    ),
    Recipe(
        role="spoof-envelopes",
        file=ENVELOPES,
        network="spoof",
        task="the presentation attack detector's head on band envelopes",
        licence="Apache-2.0",
        make=_spoof_envelopes,
        data=(WEIGHTS / ENVELOPES, WEIGHTS / "spoof.json"),
    ),
    Recipe(
        role="spoof-tflite",
        file="spoof.int8.tflite",
        network="spoof-tflite",
        task="presentation attack detection, the same network for TFLite",
        licence="Apache-2.0",
        make=_spoof_twin,
        code=(*LOWERING, "device.models.spoof.features"),
        tools=TFLITE_TOOLS,
        after=("spoof", "spoof-card"),
    ),
    Recipe(
        role="speaker-tflite",
        file="speaker.int8.tflite",
        network="campplus-int8-tflite",
        task="speaker verification, the same network for TFLite",
        licence=source("campplus").licence,
        make=_speaker_twin,
        code=(*LOWERING, "quantize.speaker", "device.models.features"),
        tools=TFLITE_TOOLS,
        after=("speaker",),
    ),
    Recipe(
        role="resemblyzer",
        file="resemblyzer.int8.onnx",
        network="resemblyzer-int8",
        task="speaker verification, 256-dimensional embeddings, a second opinion",
        licence=source("resemblyzer").licence,
        make=_resemblyzer,
        sources=("resemblyzer",),
        code=(*RECURRENT, "quantize.graphs.resemblyzer", "device.models.resemblyzer"),
        tools=("onnx", "onnxruntime", "numpy"),
        optional=True,
    ),
    Recipe(
        role="segmentation",
        file="segmentation.int8.onnx",
        network="pyannote-segmentation-3.0-int8",
        task="who speaks when, at most two of three at once",
        licence=source("pyannote-segmentation").licence,
        make=_segmentation,
        sources=("pyannote-segmentation",),
        code=(*RECURRENT, "quantize.graphs.pyannote"),
        tools=("onnx", "onnxruntime", "numpy"),
        optional=True,
    ),
)  # fmt: skip
