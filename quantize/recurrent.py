"""Resemblyzer and pyannote segmentation in INT8, proven against their float graphs before anything is kept.

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
from quantize.parity import FLIPS, demand, embedding_parity, pieces
from quantize.recipe import Made, Tick, ports
from quantize.speech import Clip, parity_speech

RESEMBLYZER_MIN_COSINE = 0.999
RESEMBLYZER_DECISION_COSINE = 0.75
"""About where the same voice and another part on three seconds of speech."""
RESEMBLYZER_FLOAT = ("lstm.0/LSTM",)
"""Its input is power, not its logarithm: one scale for all of it leaves nothing of what is quiet."""

MAX_PROBABILITY_DRIFT = 0.15
"""Of one class in one frame of 17 ms."""


def build_resemblyzer(checkpoint: Path, out: Path, tick: Tick) -> Made:
    """Write the INT8 network to `out`; raises ParityError, and writes nothing, when it strays from float."""
    tick("quantising Resemblyzer", 0.1)
    exact = resemblyzer.build(read_tensors(checkpoint))
    small = quantise_lstms(exact, RESEMBLYZER_FLOAT)
    waves = [piece for clip in parity_speech().clips() for piece in pieces(clip)]
    embedded = []
    for model in (exact, small):
        tick("comparing with float", 0.4)
        voice = Resemblyzer.of(_opened(model), "under test")
        embedded.append(np.stack([voice.embed(wave) for wave in waves]))
    metrics = embedding_parity(
        "Resemblyzer in INT8", embedded[0], embedded[1], RESEMBLYZER_DECISION_COSINE, RESEMBLYZER_MIN_COSINE
    )
    return _kept(small, out, metrics)


def build_segmentation(checkpoint: Path, out: Path, tick: Tick) -> Made:
    """Write the INT8 network to `out`; raises ParityError, and writes nothing, when it strays from float.

    A decision is which of the seven sets of speakers is the likeliest in one frame.
    """
    tick("quantising pyannote segmentation", 0.1)
    exact = pyannote.build(read_tensors(checkpoint))
    small = quantise_lstms(exact)
    clips = parity_speech().clips()
    tick("comparing with float", 0.4)
    before, after = (_frame_probabilities(_opened(model), clips) for model in (exact, small))
    drift = np.abs(before - after)
    metrics = {
        "parity_frames": float(len(before)),
        "parity_probability_drift_max": float(drift.max()),
        "parity_probability_drift_mean": float(drift.mean()),
        FLIPS: float((before.argmax(axis=1) != after.argmax(axis=1)).mean()),
    }
    bounds = {"parity_probability_drift_max": MAX_PROBABILITY_DRIFT}
    return _kept(small, out, demand("pyannote segmentation in INT8", metrics, at_most=bounds))


def _frame_probabilities(session: Session, clips: list[Clip]) -> Array:
    """(frames of all clips, 7)."""
    return np.concatenate([np.exp(session.run({"wave": clip.wave[None, None]})[0][0]) for clip in clips])


def _opened(model: onnx.ModelProto) -> Session:
    return OnnxSession(model.SerializeToString())


def _kept(model: onnx.ModelProto, out: Path, metrics: dict[str, float]) -> Made:
    onnx.save(model, out)
    return Made(ports(model.graph.input), ports(model.graph.output), metrics)
