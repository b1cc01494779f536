"""Whisper for whisper.cpp, proven as the door runs it: its own library judges real speech beside float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from device.model_store.sessions import OnnxSession
from device.models.words.whisper_cpp import WhisperCpp
from device.models.words.whisper_onnx import OnnxWhisper
from quantize.graphs import whisper_ggml
from quantize.graphs.products import Exact
from quantize.networks import words, words_base
from quantize.networks.words import DRIFT, Upstream, bounded, compare, likeness, parity_clips
from quantize.parity import FLIPS_LIMIT, MAX_FLIPS_LIMIT
from quantize.recipe import Artefact, BuildContext, Recipe, ReportProgress
from quantize.speech import Clip
from quantize.upstream.sources import source


def build_ggml(model: Path, tokenizer: Path, out: Path, weights: str, progress: ReportProgress) -> Artefact:
    """Write `model` to `out` in blocks of `weights`."""
    progress(f"quantising Whisper to {weights}", 0.3)
    whisper_ggml.build(model, tokenizer, out, weights=weights)
    return Artefact()


def prove_ggml(
    upstream: Upstream,
    network: Path,
    weights: str,
    clips: Sequence[Clip],
    progress: ReportProgress,
    most_flips: float = MAX_FLIPS_LIMIT,
) -> dict[str, float]:
    """Metrics of the file in whisper.cpp beside float; raises QuantizeError when it strays.

    whisper.cpp shows no keys and values, so the tensors compared are those that the float graph makes of the
    file's own weights. The decisions are whisper.cpp's, on `clips`.
    """
    kept = replace(upstream, weights=whisper_ggml.rounded(upstream.weights, weights))
    exact, decoder = (graph.SerializeToString() for graph in upstream.graphs(Exact()))
    small = kept.graphs(Exact())[0].SerializeToString()
    model = WhisperCpp(network)
    try:
        metrics = likeness(OnnxSession(exact), OnnxSession(small), clips)
        # Minutes before decisions would say so.
        bounded(f"Whisper in {weights}", metrics | {FLIPS_LIMIT: 0.0, DRIFT: 0.0})
        metrics |= compare(OnnxWhisper(exact, decoder), model, clips, progress)
        return bounded(f"Whisper in {weights}", metrics, most_flips)
    finally:
        model.close()


def _recipe(role: str, weights: str, *, base: bool = False) -> Recipe:
    sources = words_base.SOURCES if base else words.SOURCES
    read = words_base.Base.of if base else Upstream.read

    def files(context: BuildContext) -> tuple[Path, Path]:
        model, tokenizer = (context.source(one) for one in sources)
        return model, tokenizer

    return Recipe(
        role=role,
        file=f"{'words-base' if base else 'words'}.{weights}.bin",
        network=f"whisper-{'base' if base else 'tiny.en'}-{weights}",
        task=f"speech recognition, {'the larger model' if base else 'English'}, for whisper.cpp",
        licence=source(sources[0]).licence,
        make=lambda out, context: build_ggml(*files(context), out, weights, context.progress),
        prove=lambda network, context: prove_ggml(
            read(*files(context)), network, weights, parity_clips(), context.progress
        ),
        sources=sources,
        optional=True,
    )


RECIPES = (
    _recipe("words-ggml", "q8_0"),
    _recipe("words-ggml-q5-1", "q5_1"),
    _recipe("words-ggml-base", "q8_0", base=True),
    _recipe("words-ggml-base-q5-1", "q5_1", base=True),
)
