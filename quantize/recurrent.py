"""Resemblyzer and pyannote segmentation in INT8, and the proof of both against their float graphs.

Neither decides at the door: one is a second opinion on a voice, the other says who speaks when.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from device.model_store.sessions import Array, OnnxSession, Session
from device.models.resemblyzer import Resemblyzer
from quantize.checkpoint import read_tensors
from quantize.graphs import pyannote, resemblyzer
from quantize.int8_lstm import quantise_lstms
from quantize.parity import decisions, demand, embedding_parity, pieces
from quantize.recipe import Artefact, ReportProgress, ports
from quantize.speech import Clip, parity_speech

RESEMBLYZER_MIN_COSINE = 0.999
RESEMBLYZER_DECISION_COSINE = 0.75
"""About where the same voice and another part on three seconds of speech."""
RESEMBLYZER_FLOAT = ("lstm.0/LSTM",)
"""Its input is power, not its logarithm: one scale for all of it leaves nothing of what is quiet."""

MAX_PROBABILITY_DRIFT = 0.15
"""Of one class in one frame of 17 ms."""


def build_resemblyzer(checkpoint: Path, out: Path, tick: ReportProgress) -> Artefact:
    """Write the INT8 network to `out`."""
    tick("quantising Resemblyzer", 0.3)
    return _kept(quantise_lstms(resemblyzer.build(read_tensors(checkpoint)), RESEMBLYZER_FLOAT), out)


def prove_resemblyzer(checkpoint: Path, network: Path, tick: ReportProgress) -> dict[str, float]:
    """Metrics of the INT8 network beside float; raises ParityError when it strays."""
    exact = OnnxSession(resemblyzer.build(read_tensors(checkpoint)).SerializeToString())
    waves = [piece for clip in parity_speech().clips() for piece in pieces(clip)]
    embedded = []
    for number, session in enumerate((exact, OnnxSession(network))):
        tick("comparing with float", 0.5 * number)
        voice = Resemblyzer.of(session, "under test")
        embedded.append(np.stack([voice.embed(wave) for wave in waves]))
    return embedding_parity(
        "Resemblyzer in INT8", embedded[0], embedded[1], RESEMBLYZER_DECISION_COSINE, RESEMBLYZER_MIN_COSINE
    )


def build_segmentation(checkpoint: Path, out: Path, tick: ReportProgress) -> Artefact:
    """Write the INT8 network to `out`."""
    tick("quantising pyannote segmentation", 0.3)
    return _kept(quantise_lstms(pyannote.build(read_tensors(checkpoint))), out)


def prove_segmentation(checkpoint: Path, network: Path, tick: ReportProgress) -> dict[str, float]:
    """Metrics of the INT8 network beside float; raises ParityError when it strays.

    A decision is which of the seven sets of speakers is the likeliest in one frame.
    """
    exact = OnnxSession(pyannote.build(read_tensors(checkpoint)).SerializeToString())
    clips = parity_speech().clips()
    tick("comparing with float", 0.4)
    before, after = (_frame_probabilities(one, clips) for one in (exact, OnnxSession(network)))
    drift = np.abs(before - after)
    metrics = {
        "parity_probability_drift_max": float(drift.max()),
        "parity_probability_drift_mean": float(drift.mean()),
        **decisions(before.argmax(axis=1), after.argmax(axis=1)),
    }
    bounds = {"parity_probability_drift_max": MAX_PROBABILITY_DRIFT}
    return demand("pyannote segmentation in INT8", metrics, at_most=bounds)


def _frame_probabilities(session: Session, clips: list[Clip]) -> Array:
    """(frames of all clips, 7)."""
    return np.concatenate([np.exp(session.run({"wave": clip.wave[None, None]})[0][0]) for clip in clips])


def _kept(model: onnx.ModelProto, out: Path) -> Artefact:
    onnx.save(model, out)
    return Artefact(ports(model.graph.input), ports(model.graph.output))
