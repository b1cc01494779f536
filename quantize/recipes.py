"""How each file of the bundle is made. A recipe is data and one function; `quantize.build` does the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantize.errors import QuantizeError
from quantize.recipe import Artefact, BuildContext, Prove, Recipe, ports
from quantize.sources import source

if TYPE_CHECKING:
    from quantize.words import Upstream

HERE = Path(__file__).parent
WEIGHTS = HERE / "train" / "weights"
SELF_TEST = HERE / "self-test.json"
SEGMENTATION_ANSWERS = HERE / "segmentation-answers.json"
ENVELOPES = "spoof-envelopes.npz"
WHISPER = ("whisper-tiny-en", "whisper-tiny-en-tokenizer")
WHISPER_BASE = ("whisper-base", "whisper-base-tokenizer")


def _speaker(out: Path, context: BuildContext) -> Artefact:
    from quantize.speaker import build_speaker

    return build_speaker(context.source("campplus"), out, context.progress)


def _speaker_proof(network: Path, context: BuildContext) -> dict[str, float]:
    from quantize.speaker import prove_speaker

    return prove_speaker(context.source("campplus"), network, context.progress)


def _tiny(context: BuildContext) -> Upstream:
    from quantize.words import Upstream

    model, tokenizer = (context.source(name) for name in WHISPER)
    return Upstream.read(model, tokenizer)


def _base(context: BuildContext) -> Upstream:
    from quantize.words_base import Base

    return Base.of(*(context.source(name) for name in WHISPER_BASE))


def _encoder(
    read: Callable[[BuildContext], Upstream],
) -> tuple[Callable[[Path, BuildContext], Artefact], Prove]:
    def make(out: Path, context: BuildContext) -> Artefact:
        from quantize.words import build_encoder

        return build_encoder(read(context), out, context.progress)

    def prove(network: Path, context: BuildContext) -> dict[str, float]:
        from quantize.words import prove_encoder

        return prove_encoder(read(context), network, context.progress)

    return make, prove


def _decoder(
    read: Callable[[BuildContext], Upstream], encoder: str
) -> tuple[Callable[[Path, BuildContext], Artefact], Prove]:
    def make(out: Path, context: BuildContext) -> Artefact:
        from quantize.words import build_decoder

        return build_decoder(read(context), out, context.progress)

    def prove(network: Path, context: BuildContext) -> dict[str, float]:
        from quantize.words import prove_decoder

        return prove_decoder(read(context), context.made[encoder], network, context.progress)

    return make, prove


def _ggml(
    sources: Sequence[str], read: Callable[[BuildContext], Upstream], weights: str
) -> tuple[Callable[[Path, BuildContext], Artefact], Prove]:
    def make(out: Path, context: BuildContext) -> Artefact:
        from quantize.words_ggml import build_ggml

        model, tokenizer = (context.source(name) for name in sources)
        return build_ggml(model, tokenizer, out, weights, context.progress)

    def prove(network: Path, context: BuildContext) -> dict[str, float]:
        from quantize.words import parity_clips
        from quantize.words_ggml import prove_ggml

        return prove_ggml(read(context), network, weights, parity_clips(), context.progress)

    return make, prove


def _spoof(out: Path, context: BuildContext) -> Artefact:
    import onnx

    context.progress("copying the spoof detector", 0.5)
    _copy(WEIGHTS / "spoof.int8.onnx", out)
    graph = onnx.load(out).graph
    return Artefact(ports(graph.input), ports(graph.output), str(_card()["version"]))


def _spoof_card(out: Path, context: BuildContext) -> Artefact:
    _copy(WEIGHTS / "spoof.json", out)
    return Artefact(version=str(_card()["version"]))


def _spoof_envelopes(out: Path, context: BuildContext) -> Artefact:
    _copy(WEIGHTS / ENVELOPES, out)
    return Artefact(version=str(_card()["version"]))


def _twin(role: str) -> Callable[[Path, BuildContext], Artefact]:
    def make(out: Path, context: BuildContext) -> Artefact:
        from quantize.twins import build_twin

        return build_twin(context.made[role], out, context.progress)

    return make


def _speaker_twin_proof(twin: Path, context: BuildContext) -> dict[str, float]:
    from quantize.twins import prove_speaker_twin

    return prove_speaker_twin(context.made["speaker"], twin, context.progress)


def _spoof_twin_proof(twin: Path, context: BuildContext) -> dict[str, float]:
    from device.models.spoof.detector import SpoofCard
    from quantize.twins import prove_spoof_twin

    card = SpoofCard.from_bytes(context.made["spoof-card"].read_bytes())
    return prove_spoof_twin(context.made["spoof"], twin, card, context.progress)


def _resemblyzer(out: Path, context: BuildContext) -> Artefact:
    from quantize.recurrent import build_resemblyzer

    return build_resemblyzer(context.source("resemblyzer"), out, context.progress)


def _resemblyzer_proof(network: Path, context: BuildContext) -> dict[str, float]:
    from quantize.recurrent import prove_resemblyzer

    return prove_resemblyzer(context.source("resemblyzer"), network, context.progress)


def _segmentation(out: Path, context: BuildContext) -> Artefact:
    from quantize.recurrent import build_segmentation

    return build_segmentation(context.source("pyannote-segmentation"), out, context.progress)


def _segmentation_proof(network: Path, context: BuildContext) -> dict[str, float]:
    from quantize.recurrent import prove_segmentation

    return prove_segmentation(context.source("pyannote-segmentation"), network, context.progress)


def _copy(given: Path, out: Path) -> None:
    if not given.is_file():
        raise QuantizeError(f"{given.name} is not in {given.parent.name}; restore it from version control")
    shutil.copyfile(given, out)


def _card() -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((WEIGHTS / "spoof.json").read_bytes())
        return {"version": card["version"], **card}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise QuantizeError(f"the spoof detector's card cannot be read ({err}); restore it") from err


def _segmentation_answers(out: Path, context: BuildContext) -> Artefact:
    _copy(SEGMENTATION_ANSWERS, out)
    return Artefact(version="segmentation-answers")


def _self_test(out: Path, context: BuildContext) -> Artefact:
    _copy(SELF_TEST, out)
    return Artefact()


def _spoof_figures(network: Path, context: BuildContext) -> dict[str, float]:
    """As its trainer measured them."""
    return {
        f"parity_{name}": round(float(value), 6)
        for name, value in _card()["parity"].items()
        if isinstance(value, int | float)
    }


def _for_whisper_cpp(role: str, stem: str, weights: str) -> Recipe:
    base = stem == "words-base"
    sources = WHISPER_BASE if base else WHISPER
    make, prove = _ggml(sources, _base if base else _tiny, weights)
    return Recipe(
        role=role,
        file=f"{stem}.{weights}.bin",
        network=f"whisper-{'base' if base else 'tiny.en'}-{weights}",
        task=f"speech recognition, {'the larger model' if base else 'English'}, for whisper.cpp",
        licence=source(sources[0]).licence,
        make=make,
        prove=prove,
        sources=sources,
        optional=True,
    )


ENCODER, DECODER = _encoder(_tiny), _decoder(_tiny, "words-encoder")
BASE_ENCODER, BASE_DECODER = _encoder(_base), _decoder(_base, "words-base-encoder")

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        role="speaker",
        file="speaker.int8.onnx",
        network="campplus-int8",
        task="speaker verification, 192-dimensional embeddings",
        licence=source("campplus").licence,
        make=_speaker,
        prove=_speaker_proof,
        sources=("campplus",),
    ),
    Recipe(
        role="words-encoder",
        file="words-encoder.int8.onnx",
        network="whisper-tiny.en-encoder-int8",
        task="speech recognition, English: what was heard",
        licence=source("whisper-tiny-en").licence,
        make=ENCODER[0],
        prove=ENCODER[1],
        sources=WHISPER,
    ),
    Recipe(
        role="words",
        file="words.int8.onnx",
        network="whisper-tiny.en-int8",
        task="speech recognition, English: how well a sentence fits what was heard",
        licence=source("whisper-tiny-en").licence,
        make=DECODER[0],
        prove=DECODER[1],
        sources=WHISPER,
        after=("words-encoder",),
    ),
    Recipe(
        role="words-base-encoder",
        file="words-base-encoder.int8.onnx",
        network="whisper-base-encoder-int8",
        task="speech recognition, the larger model: what was heard",
        licence=source("whisper-base").licence,
        make=BASE_ENCODER[0],
        prove=BASE_ENCODER[1],
        sources=WHISPER_BASE,
        optional=True,
    ),
    Recipe(
        role="words-base",
        file="words-base.int8.onnx",
        network="whisper-base-int8",
        task="speech recognition, the larger model: how well a sentence fits what was heard",
        licence=source("whisper-base").licence,
        make=BASE_DECODER[0],
        prove=BASE_DECODER[1],
        sources=WHISPER_BASE,
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
        prove=_spoof_figures,
    ),
    Recipe(
        role="spoof-card",
        file="spoof.json",
        network="spoof",
        task="calibration and card of the presentation attack detector",
        licence="Apache-2.0",
        make=_spoof_card,
    ),
    Recipe(
        role="spoof-envelopes",
        file=ENVELOPES,
        network="spoof",
        task="the presentation attack detector's head on band envelopes",
        licence="Apache-2.0",
        make=_spoof_envelopes,
    ),
    Recipe(
        role="spoof-tflite",
        file="spoof.int8.tflite",
        network="spoof-tflite",
        task="presentation attack detection, the same network for TFLite",
        licence="Apache-2.0",
        make=_twin("spoof"),
        prove=_spoof_twin_proof,
        after=("spoof", "spoof-card"),
    ),
    Recipe(
        role="speaker-tflite",
        file="speaker.int8.tflite",
        network="campplus-int8-tflite",
        task="speaker verification, the same network for TFLite",
        licence=source("campplus").licence,
        make=_twin("speaker"),
        prove=_speaker_twin_proof,
        after=("speaker",),
    ),
    Recipe(
        role="self-test",
        file="self-test.json",
        network="self-test",
        task="what the models above must answer to known recordings, on any processor",
        licence="Apache-2.0",
        make=_self_test,
    ),
    Recipe(
        role="resemblyzer",
        file="resemblyzer.int8.onnx",
        network="resemblyzer-int8",
        task="speaker verification, 256-dimensional embeddings, a second opinion",
        licence=source("resemblyzer").licence,
        make=_resemblyzer,
        prove=_resemblyzer_proof,
        sources=("resemblyzer",),
        optional=True,
    ),
    Recipe(
        role="speaker-next",
        file="speaker-next.int8.onnx",
        network="resemblyzer-int8",
        task="speaker verification, 256-dimensional embeddings: the model that people come over to",
        licence=source("resemblyzer").licence,
        make=_resemblyzer,
        prove=_resemblyzer_proof,
        sources=("resemblyzer",),
        optional=True,
    ),
    Recipe(
        role="segmentation-answers",
        file="segmentation-answers.json",
        network="segmentation-answers",
        task="what the segmentation must answer to a known recording, on any processor",
        licence="Apache-2.0",
        make=_segmentation_answers,
        optional=True,
    ),
    Recipe(
        role="segmentation",
        file="segmentation.int8.onnx",
        network="pyannote-segmentation-3.0-int8",
        task="who speaks when, at most two of three at once",
        licence=source("pyannote-segmentation").licence,
        make=_segmentation,
        prove=_segmentation_proof,
        sources=("pyannote-segmentation",),
        after=("segmentation-answers",),
        optional=True,
    ),
)  # fmt: skip
