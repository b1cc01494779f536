"""pyannote segmentation in INT8, and the proof against its float graph: who speaks when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from device.model_store.sessions import Array, OnnxSession, Session
from quantize.graphs import pyannote
from quantize.int8.lstm import quantise_lstms
from quantize.parity import MAX_FLIPS_LIMIT, decisions, demand
from quantize.recipe import Artefact, Recipe, ReportProgress, ports, shipped
from quantize.speech import Clip, SpeechSet, parity_speech
from quantize.upstream.checkpoint import read_tensors
from quantize.upstream.sources import source

ANSWERS = Path(__file__).parent / "segmentation-answers.json"
"""What the network must answer to a known recording."""
MAX_PROBABILITY_DRIFT = 0.15
"""Of one class in one frame of 17 ms."""


def build_segmentation(checkpoint: Path, out: Path, progress: ReportProgress) -> Artefact:
    """Write the INT8 network to `out`."""
    progress("quantising pyannote segmentation", 0.3)
    small = quantise_lstms(pyannote.build(read_tensors(checkpoint)))
    onnx.save(small, out)
    return Artefact(ports(small.graph.input), ports(small.graph.output))


def prove_segmentation(
    checkpoint: Path,
    network: Path,
    progress: ReportProgress,
    speech: SpeechSet | None = None,
    most_flips: float = MAX_FLIPS_LIMIT,
) -> dict[str, float]:
    """Metrics of the INT8 network beside float on `speech`, else on all that parity is judged on; raises
    QuantizeError when it strays.

    A decision is which of the seven sets of speakers is the likeliest in one frame.
    """
    exact = OnnxSession(pyannote.build(read_tensors(checkpoint)).SerializeToString())
    clips = (speech or parity_speech()).clips()
    progress("comparing with float", 0.4)
    before, after = (_frame_probabilities(one, clips) for one in (exact, OnnxSession(network)))
    drift = np.abs(before - after)
    metrics = {
        "parity_probability_drift_max": float(drift.max()),
        "parity_probability_drift_mean": float(drift.mean()),
        **decisions(before.argmax(axis=1), after.argmax(axis=1)),
    }
    bounds = {"parity_probability_drift_max": MAX_PROBABILITY_DRIFT}
    return demand("pyannote segmentation in INT8", metrics, at_most=bounds, most_flips=most_flips)


def _frame_probabilities(session: Session, clips: list[Clip]) -> Array:
    """(frames of all clips, 7)."""
    return np.concatenate([np.exp(session.run({"wave": clip.wave[None, None]})[0][0]) for clip in clips])


SOURCE = "pyannote-segmentation"
RECIPES = (
    Recipe(
        role="segmentation-answers",
        file=ANSWERS.name,
        network="segmentation-answers",
        task="what the segmentation must answer to a known recording, on any processor",
        licence="Apache-2.0",
        make=shipped(ANSWERS, "segmentation-answers"),
        optional=True,
    ),
    Recipe(
        role="segmentation",
        file="segmentation.int8.onnx",
        network="pyannote-segmentation-3.0-int8",
        task="who speaks when, at most two of three at once",
        licence=source(SOURCE).licence,
        make=lambda out, context: build_segmentation(context.source(SOURCE), out, context.progress),
        prove=lambda network, context: prove_segmentation(context.source(SOURCE), network, context.progress),
        sources=(SOURCE,),
        after=("segmentation-answers",),
        optional=True,
    ),
)
