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
from quantize.parity import FLIPS_LIMIT
from quantize.recipe import Artefact, ReportProgress
from quantize.speech import Clip
from quantize.words import DRIFT, Upstream, bounded, compare, likeness


def build_ggml(model: Path, tokenizer: Path, out: Path, weights: str, tick: ReportProgress) -> Artefact:
    """Write `model` to `out` in blocks of `weights`."""
    tick(f"quantising Whisper to {weights}", 0.3)
    whisper_ggml.build(model, tokenizer, out, weights=weights)
    return Artefact()


def prove_ggml(
    upstream: Upstream, network: Path, weights: str, clips: Sequence[Clip], tick: ReportProgress
) -> dict[str, float]:
    """Metrics of the file in whisper.cpp beside float; raises ParityError when it strays.

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
        metrics |= compare(OnnxWhisper(exact, decoder), model, clips, tick)
        return bounded(f"Whisper in {weights}", metrics)
    finally:
        model.close()
