"""Resemblyzer in INT8, and the proof against its float graph: a second opinion on a voice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from device.model_store.sessions import OnnxSession
from device.models.resemblyzer import Resemblyzer
from quantize.graphs import resemblyzer
from quantize.int8.lstm import quantise_lstms
from quantize.parity import MAX_FLIPS_LIMIT, embedding_parity, pieces
from quantize.recipe import Artefact, Recipe, ReportProgress, ports
from quantize.speech import SpeechSet, parity_speech
from quantize.upstream.checkpoint import read_tensors
from quantize.upstream.sources import source

MIN_COSINE = 0.999
DECISION_COSINE = 0.75
"""About where the same voice and another part on three seconds of speech."""
FLOAT = ("lstm.0/LSTM",)
"""Its input is power, not its logarithm: one scale for all of it leaves nothing of what is quiet."""


def build_resemblyzer(
    checkpoint: Path, out: Path, progress: ReportProgress, in_float: Sequence[str] = FLOAT
) -> Artefact:
    """Write the INT8 network to `out`; the nodes `in_float` stay as they are."""
    progress("quantising Resemblyzer", 0.3)
    small = quantise_lstms(resemblyzer.build(read_tensors(checkpoint)), in_float)
    onnx.save(small, out)
    return Artefact(ports(small.graph.input), ports(small.graph.output))


def prove_resemblyzer(
    checkpoint: Path,
    network: Path,
    progress: ReportProgress,
    speech: SpeechSet | None = None,
    most_flips: float = MAX_FLIPS_LIMIT,
) -> dict[str, float]:
    """Metrics of the INT8 network beside float on `speech`, else on all that parity is judged on.

    Raises QuantizeError when it strays.
    """
    exact = OnnxSession(resemblyzer.build(read_tensors(checkpoint)).SerializeToString())
    waves = [piece for clip in (speech or parity_speech()).clips() for piece in pieces(clip)]
    embedded = []
    for number, session in enumerate((exact, OnnxSession(network))):
        progress("comparing with float", 0.5 * number)
        voice = Resemblyzer(session, "under test")
        embedded.append(np.stack([voice.embed(wave) for wave in waves]))
    return embedding_parity(
        "Resemblyzer in INT8", embedded[0], embedded[1], DECISION_COSINE, MIN_COSINE, most_flips
    )


SOURCE = "resemblyzer"


def _recipe(role: str, task: str) -> Recipe:
    return Recipe(
        role=role,
        file=f"{role}.int8.onnx",
        network="resemblyzer-int8",
        task=f"speaker verification, 256-dimensional embeddings{task}",
        licence=source(SOURCE).licence,
        make=lambda out, context: build_resemblyzer(context.source(SOURCE), out, context.progress),
        prove=lambda network, context: prove_resemblyzer(context.source(SOURCE), network, context.progress),
        sources=(SOURCE,),
        optional=True,
    )


RECIPES = (
    _recipe("resemblyzer", ", a second opinion"),
    _recipe("speaker-next", ": the model that people come over to"),
)
