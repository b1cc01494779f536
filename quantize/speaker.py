"""CAM++ from checkpoint to INT8, proven against its own float graph before anything is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from device.models.features import kaldi_fbank
from device.models.sessions import OnnxSession
from device.models.speaker import unit
from quantize.checkpoint import read_tensors
from quantize.errors import QuantizeError
from quantize.graphs import campplus
from quantize.int8 import quantise
from quantize.recipes import Made, Tick, ports
from quantize.speech import RATE_HZ, Clip, SpeechSet

MIN_COSINE = 0.99
DECISION_COSINE = 0.55
"""Near the default threshold: where a changed decision would be felt."""
PROBE_S = 3
"""Parity is judged on pieces of the length that is spoken at a door."""


class ParityError(QuantizeError):
    """The small model does not do what the float model does; it was not kept."""


def build_speaker(checkpoint: Path, out: Path, speech: SpeechSet, tick: Tick) -> Made:
    """Write the INT8 network to `out`; raises ParityError, and writes nothing, when it strays from float."""
    tick("reading CAM++", 0.05)
    exact = campplus.build(read_tensors(checkpoint))
    clips = speech.clips()
    # Ranges come from one half of the recordings, parity is judged on the other.
    feeds = [{"features": kaldi_fbank(clip.wave)[np.newaxis]} for clip in clips[::2]]
    small = quantise(
        exact,
        feeds,
        keep_float=campplus.SENSITIVE,
        tick=lambda done: tick("choosing ranges for CAM++", 0.1 + 0.7 * done),
    )
    given, made = out.with_suffix(".float.part"), out.with_suffix(".int8.part")
    try:
        onnx.save(exact, given)
        onnx.save(small, made)
        metrics = compare(given, made, clips[1::2], tick)
        made.replace(out)
    finally:
        given.unlink(missing_ok=True)
        made.unlink(missing_ok=True)
    return Made(ports(small.graph.input), ports(small.graph.output), metrics)


def compare(exact: Path, small: Path, clips: Sequence[Clip], tick: Tick) -> dict[str, float]:
    """How close two speaker networks are on real speech; raises ParityError below MIN_COSINE."""
    pieces = [piece for clip in clips for piece in _pieces(clip)]
    embedded: list[list[npt.NDArray[np.float32]]] = []
    for number, path in enumerate((exact, small)):
        session = OnnxSession(path)
        embedded.append([])
        for done, piece in enumerate(pieces):
            tick("comparing with float", 0.8 + 0.1 * (number + done / len(pieces)))
            raw = session.run({"features": kaldi_fbank(piece)[np.newaxis]})[0]
            embedded[-1].append(unit(raw.reshape(-1)))
    cosines = np.asarray([float(a @ b) for a, b in zip(*embedded, strict=True)])
    lowest, mean = float(cosines.min()), float(cosines.mean())
    if not lowest >= MIN_COSINE:
        raise ParityError(
            f"CAM++ in INT8 strays from float (cosine {lowest:.4f}, {MIN_COSINE} asked); it was not kept"
        )
    scores = [np.stack(e) @ np.stack(e).T for e in embedded]
    pairs = np.triu_indices(len(pieces), 1)
    before, after = (score[pairs] for score in scores)
    flips = float(((before > DECISION_COSINE) != (after > DECISION_COSINE)).mean())
    return {
        "parity_pieces": float(len(pieces)),
        "parity_cosine_min": round(lowest, 4),
        "parity_cosine_mean": round(mean, 4),
        "parity_pairs": float(len(before)),
        "parity_score_drift_max": round(float(np.abs(before - after).max()), 4),
        "parity_decision_flips": round(flips, 6),
    }


def _pieces(clip: Clip) -> list[npt.NDArray[np.float32]]:
    size = PROBE_S * RATE_HZ
    whole = max(1, len(clip.wave) // size)
    return [clip.wave[i * size : (i + 1) * size] for i in range(whole)]
