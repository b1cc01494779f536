"""CAM++ from checkpoint to INT8, proven against its own float graph before anything is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from device.model_store.sessions import Array, OnnxSession, Session
from device.models.features import kaldi_fbank
from device.models.speaker import unit
from quantize.checkpoint import read_tensors
from quantize.graphs import campplus
from quantize.int8 import quantise
from quantize.parity import embedding_parity, pieces
from quantize.recipe import Made, Tick, ports
from quantize.speech import Clip, SpeechSet, parity_speech

MIN_COSINE = 0.99
DECISION_COSINE = 0.55
"""Near the default threshold: where a changed decision would be felt."""


def build_speaker(checkpoint: Path, out: Path, speech: SpeechSet, tick: Tick) -> Made:
    """Write the INT8 network to `out`; raises ParityError, and writes nothing, when it strays from float."""
    tick("reading CAM++", 0.05)
    exact = campplus.build(read_tensors(checkpoint))
    # Ranges come from one half of the recordings, parity is judged on the other and on further ones.
    feeds = [{"features": kaldi_fbank(clip.wave)[np.newaxis]} for clip in speech.clips()[::2]]
    small = quantise(
        exact,
        feeds,
        keep_float=campplus.SENSITIVE,
        tick=lambda done: tick("choosing ranges for CAM++", 0.1 + 0.7 * done),
    )
    before, after = (OnnxSession(model.SerializeToString()) for model in (exact, small))
    metrics = compare("CAM++ in INT8", before, after, parity_speech().clips(), MIN_COSINE, tick)
    onnx.save(small, out)
    return Made(ports(small.graph.input), ports(small.graph.output), metrics)


def compare(
    network: str, exact: Session, small: Session, speech: Sequence[Clip], least_cosine: float, tick: Tick
) -> dict[str, float]:
    """How close two sessions of CAM++ are on real speech; raises ParityError when they are not."""
    waves = [piece for clip in speech for piece in pieces(clip)]
    embedded: list[Array] = []
    for number, session in enumerate((exact, small)):
        found = []
        for done, wave in enumerate(waves):
            tick("comparing two networks", 0.8 + 0.1 * (number + done / len(waves)))
            found.append(unit(session.run({"features": kaldi_fbank(wave)[np.newaxis]})[0].reshape(-1)))
        embedded.append(np.stack(found))
    return embedding_parity(network, embedded[0], embedded[1], DECISION_COSINE, least_cosine)
