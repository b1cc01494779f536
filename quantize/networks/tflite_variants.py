"""The TFLite variants of the bundle's networks, and the proof that they answer like the ONNX files.

Both files hold the same integers. What may differ is the last bit of a rounding, so scores are compared on
real speech, in the runtime that will serve: at a door nobody should be able to tell which one decided.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from device.audio.utterance import Wave
from device.model_store.pick import VARIANT_SOURCE
from device.model_store.sessions import Array, OnnxSession, Session, TfliteSession
from device.models.spoof.detector import INPUT as SPOOF_INPUT
from device.models.spoof.detector import SpoofCard
from device.models.spoof.features import spoof_features
from quantize.networks import speaker
from quantize.parity import MAX_FLIPS_LIMIT, decisions, demand, pieces
from quantize.recipe import Artefact, BuildContext, Recipe, ReportProgress, ports
from quantize.speech import SpeechSet, parity_speech
from quantize.tflite.lower import lower
from quantize.upstream.fetch import sha256_of
from quantize.upstream.sources import source
from sync.plain_file import plain_bytes

MIN_COSINE = 0.995
"""Between the embeddings of one piece of speech in both runtimes."""
MAX_LLR_DRIFT = 0.25
"""Between the spoof detector's LLRs of one piece of speech in both runtimes."""


def build_variant(network: Path, out: Path, progress: ReportProgress) -> Artefact:
    """The ONNX file `network` as TFLite."""
    progress(f"writing {network.name} for TFLite", 0.3)
    model = onnx.load(network)
    out.write_bytes(lower(model))
    source = {VARIANT_SOURCE: sha256_of(network)}
    return Artefact(ports(model.graph.input), ports(model.graph.output), source=source)


def prove_speaker_variant(
    network: Path,
    variant: Path,
    progress: ReportProgress,
    speech: SpeechSet | None = None,
    most_flips: float = MAX_FLIPS_LIMIT,
) -> dict[str, float]:
    """As `prove_spoof_variant`, of CAM++."""
    given, made = OnnxSession(network), TfliteSession(variant)
    clips = (speech or parity_speech()).clips()
    return speaker.compare("CAM++ in TFLite", given, made, clips, MIN_COSINE, progress, most_flips)


def prove_spoof_variant(
    network: Path,
    variant: Path,
    card: SpoofCard,
    progress: ReportProgress = lambda text, done: None,
    speech: SpeechSet | None = None,
    most_flips: float = MAX_FLIPS_LIMIT,
) -> dict[str, float]:
    """Metrics of the spoof detector in TFLite beside ONNX on `speech`, else on all that parity is judged on.

    Raises QuantizeError when it strays.
    """
    clips = (speech or parity_speech(short=True)).clips()  # two decisions a piece, and a thousand are needed
    waves = [piece for clip in clips for piece in pieces(clip)]
    progress("comparing two runtimes", 0.5)
    before, after = (spoof_llrs(one, waves, card) for one in (OnnxSession(network), TfliteSession(variant)))
    drift = np.abs(before - after)
    metrics = {
        "parity_pieces": float(len(waves)),
        "parity_llr_drift_max": float(drift.max()),
        "parity_llr_drift_mean": float(drift.mean()),
        **decisions(before > 0.0, after > 0.0),
    }
    bounds = {"parity_llr_drift_max": MAX_LLR_DRIFT}
    return demand("the spoof detector in TFLite", metrics, at_most=bounds, most_flips=most_flips)


def spoof_llrs(session: Session, waves: list[Wave], card: SpoofCard) -> Array:
    """The LLRs of both heads for every wave, shape (waves, 2)."""
    heads = (card.synthetic, card.loudspeaker)
    found = []
    for wave in waves:
        logits = session.run({SPOOF_INPUT: spoof_features(wave)[None]})[0][0]
        found.append([head.llr(-float(logit)) for head, logit in zip(heads, logits, strict=True)])
    return np.asarray(found)


def _spoof_proof(variant: Path, context: BuildContext) -> dict[str, float]:
    card = SpoofCard.from_bytes(plain_bytes(context.made["spoof-card"]))
    return prove_spoof_variant(context.made["spoof"], variant, card, context.progress)


RECIPES = (
    Recipe(
        role="spoof-tflite",
        file="spoof.int8.tflite",
        network="spoof-tflite",
        task="presentation attack detection, the same network for TFLite",
        licence="Apache-2.0",
        make=lambda out, context: build_variant(context.made["spoof"], out, context.progress),
        prove=_spoof_proof,
        after=("spoof", "spoof-card"),
    ),
    Recipe(
        role="speaker-tflite",
        file="speaker.int8.tflite",
        network="campplus-int8-tflite",
        task="speaker verification, the same network for TFLite",
        licence=source(speaker.SOURCE).licence,
        make=lambda out, context: build_variant(context.made["speaker"], out, context.progress),
        prove=lambda variant, context: prove_speaker_variant(
            context.made["speaker"], variant, context.progress
        ),
        after=("speaker",),
    ),
)
