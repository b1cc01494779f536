"""The TFLite twins of the bundle's networks, proven to answer like the ONNX files they were made from.

Both files hold the same integers. What may differ is the last bit of a rounding, so scores are compared on
real speech, in the runtime that will serve: at a door nobody should be able to tell which one decided.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from device.model_store.pick import TWIN_SOURCE
from device.model_store.sessions import Array, OnnxSession, Session, TfliteSession
from device.models.spoof.detector import INPUT as SPOOF_INPUT
from device.models.spoof.detector import SpoofCard
from device.models.spoof.features import spoof_features
from quantize import speaker
from quantize.fetch import sha256_of
from quantize.parity import FLIPS, Wave, demand, pieces
from quantize.recipe import Made, Tick, ports
from quantize.speech import parity_speech
from quantize.tflite.lower import lower

MIN_COSINE = 0.995
"""Between the embeddings of one piece of speech in both runtimes."""
MAX_LLR_DRIFT = 0.25
"""Between the spoof detector's LLRs of one piece of speech in both runtimes."""


def build_speaker_twin(network: Path, out: Path, tick: Tick) -> Made:
    """CAM++ as TFLite; raises ParityError, and keeps nothing, when it strays from the ONNX network."""
    data, given, made = _lowered(network, tick)
    clips = parity_speech().clips()
    metrics = speaker.compare("CAM++ in TFLite", given, made, clips, MIN_COSINE, tick)
    return _kept(network, data, out, metrics)


def build_spoof_twin(network: Path, card: SpoofCard, out: Path, tick: Tick) -> Made:
    """The spoof detector as TFLite; raises ParityError, and keeps nothing, when it strays."""
    data, given, made = _lowered(network, tick)
    waves = [piece for clip in parity_speech().clips() for piece in pieces(clip)]
    tick("comparing two runtimes", 0.5)
    before, after = (spoof_llrs(session, waves, card) for session in (given, made))
    drift = np.abs(before - after)
    metrics = {
        "parity_pieces": float(len(waves)),
        "parity_llr_drift_max": float(drift.max()),
        "parity_llr_drift_mean": float(drift.mean()),
        FLIPS: float(((before > 0.0) != (after > 0.0)).mean()),
    }
    bounds = {"parity_llr_drift_max": MAX_LLR_DRIFT}
    return _kept(network, data, out, demand("the spoof detector in TFLite", metrics, at_most=bounds))


def spoof_llrs(session: Session, waves: list[Wave], card: SpoofCard) -> Array:
    """The LLRs of both heads for every wave, shape (waves, 2)."""
    heads = (card.synthetic, card.loudspeaker)
    found = []
    for wave in waves:
        logits = session.run({SPOOF_INPUT: spoof_features(wave)[None]})[0][0]
        found.append([head.llr(-float(logit)) for head, logit in zip(heads, logits, strict=True)])
    return np.asarray(found)


def _lowered(network: Path, tick: Tick) -> tuple[bytes, Session, Session]:
    tick(f"writing {network.name} for TFLite", 0.2)
    data = lower(onnx.load(network))
    return data, OnnxSession(network), TfliteSession(data)


def _kept(network: Path, data: bytes, out: Path, metrics: dict[str, float]) -> Made:
    out.write_bytes(data)
    graph = onnx.load(network).graph
    return Made(ports(graph.input), ports(graph.output), metrics, source={TWIN_SOURCE: sha256_of(network)})
