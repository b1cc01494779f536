"""CAM++ from checkpoint to INT8, on ranges that were learned once, and the proof against its float graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from device.model_store.sessions import Array, OnnxSession, Session
from device.models.features import kaldi_fbank
from device.models.speaker import unit
from quantize.graphs import campplus
from quantize.int8.calibrate import listen
from quantize.int8.graph import quantise
from quantize.int8.learned import Learned, learned
from quantize.parity import MAX_FLIPS_LIMIT, embedding_parity, pieces
from quantize.recipe import Artefact, Recipe, ReportProgress, ports
from quantize.speech import Clip, SpeechSet, parity_speech
from quantize.upstream.checkpoint import read_tensors, tensors_hash
from quantize.upstream.sources import source

NAME = "speaker"
"""Stem of the file that keeps the learned ranges."""
MIN_COSINE = 0.99
DECISION_COSINE = 0.55
"""Near the default threshold: where a changed decision would be felt."""


def build_speaker(checkpoint: Path, out: Path, progress: ReportProgress) -> Artefact:
    """Write the INT8 network to `out`. Raises QuantizeError when nothing was learned about these weights."""
    progress("quantising CAM++", 0.3)
    tensors = read_tensors(checkpoint)
    known = learned(NAME, tensors_hash(tensors))
    small = quantise(campplus.build(tensors), known, keep_float=campplus.SENSITIVE)
    onnx.save(small, out)
    return Artefact(ports(small.graph.input), ports(small.graph.output), calibration_set=known.speech)


def learn_speaker(checkpoint: Path, speech: SpeechSet, progress: ReportProgress) -> Learned:
    """What the quantiser needs, from every second recording; the proof is made on the others."""
    tensors = read_tensors(checkpoint)
    feeds = [{"features": kaldi_fbank(clip.wave)[np.newaxis]} for clip in speech.clips()[::2]]
    return listen(
        campplus.build(tensors),
        feeds,
        weights=tensors_hash(tensors),
        speech=speech.sha256,
        keep_float=campplus.SENSITIVE,
        progress=lambda done: progress("choosing ranges for CAM++", done),
    )


def prove_speaker(checkpoint: Path, network: Path, progress: ReportProgress) -> dict[str, float]:
    """Metrics of the INT8 network beside its float graph; raises QuantizeError when it strays."""
    exact = OnnxSession(campplus.build(read_tensors(checkpoint)).SerializeToString())
    return compare(
        "CAM++ in INT8", exact, OnnxSession(network), parity_speech().clips(), MIN_COSINE, progress
    )


def compare(
    network: str,
    exact: Session,
    small: Session,
    speech: Sequence[Clip],
    least_cosine: float,
    progress: ReportProgress,
    most_flips: float = MAX_FLIPS_LIMIT,
) -> dict[str, float]:
    """How close two sessions of CAM++ are on real speech; raises QuantizeError when they are not."""
    waves = [piece for clip in speech for piece in pieces(clip)]
    embedded: list[Array] = []
    for number, session in enumerate((exact, small)):
        found = []
        for done, wave in enumerate(waves):
            progress("comparing two networks", 0.5 * (number + done / len(waves)))
            found.append(unit(session.run({"features": kaldi_fbank(wave)[np.newaxis]})[0].reshape(-1)))
        embedded.append(np.stack(found))
    return embedding_parity(network, embedded[0], embedded[1], DECISION_COSINE, least_cosine, most_flips)


SOURCE = "campplus"
RECIPES = (
    Recipe(
        role="speaker",
        file="speaker.int8.onnx",
        network="campplus-int8",
        task="speaker verification, 192-dimensional embeddings",
        licence=source(SOURCE).licence,
        make=lambda out, context: build_speaker(context.source(SOURCE), out, context.progress),
        prove=lambda network, context: prove_speaker(context.source(SOURCE), network, context.progress),
        sources=(SOURCE,),
    ),
)
