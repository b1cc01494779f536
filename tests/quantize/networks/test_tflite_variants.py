"""The TFLite variants answer like the ONNX networks on real speech, and one that does not is not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from device.model_store import slots
from device.model_store.pick import VARIANT_SOURCE
from device.model_store.sessions import OnnxSession, TfliteSession
from device.models.spoof.detector import SpoofCard
from device.settings import models_dir
from quantize.errors import QuantizeError
from quantize.networks.speaker import compare
from quantize.networks.spoof import WEIGHTS
from quantize.networks.tflite_variants import (
    MAX_LLR_DRIFT,
    MIN_COSINE,
    build_variant,
    prove_spoof_variant,
    spoof_llrs,
)
from quantize.parity import FLIPS, pieces
from quantize.speech import SpeechSet, parity_speech
from quantize.tflite.lower import lower
from quantize.upstream.fetch import sha256_of
from tests.runtimes import INSTALLED_TFLITE

SPOOF = WEIGHTS / "spoof.int8.onnx"


def quiet(text: str, done: float) -> None:
    pass


@pytest.fixture
def card() -> SpoofCard:
    return SpoofCard.from_bytes((WEIGHTS / "spoof.json").read_bytes())


MOST_FLIPS = 0.2


def few() -> SpeechSet:
    """Six recordings of three readers, which is no proof yet: enough to see that it would be one."""
    return SpeechSet(parity_speech().files[:12:2])


def test_the_spoof_variant_is_proven_and_says_what_it_was_made_from(tmp_path: Path, card: SpoofCard) -> None:
    made = build_variant(SPOOF, tmp_path / "spoof.tflite", quiet)
    metrics = prove_spoof_variant(SPOOF, tmp_path / "spoof.tflite", card, quiet, few(), MOST_FLIPS)
    assert metrics["parity_llr_drift_max"] <= MAX_LLR_DRIFT
    assert metrics[FLIPS] == 0.0
    assert made.source == {VARIANT_SOURCE: sha256_of(SPOOF)}


@pytest.mark.parametrize("package", INSTALLED_TFLITE)
@pytest.mark.parametrize("xnnpack", [False, True])
def test_the_spoof_variant_scores_alike_in_every_interpreter(
    card: SpoofCard, package: str, xnnpack: bool
) -> None:
    waves = [piece for clip in few().clips() for piece in pieces(clip)]
    session = TfliteSession(lower(onnx.load(SPOOF)), 1, xnnpack, (package,))
    drift = spoof_llrs(session, waves, card) - spoof_llrs(OnnxSession(SPOOF), waves, card)
    assert np.abs(drift).max() <= MAX_LLR_DRIFT


@pytest.mark.slow
@pytest.mark.parametrize("package", INSTALLED_TFLITE)
def test_the_speaker_variant_scores_alike_in_every_interpreter(package: str) -> None:
    network = slots.active(models_dir()).path("speaker")
    data = lower(onnx.load(network))
    clips = few().clips()
    for xnnpack in (False, True):
        session = TfliteSession(data, 1, xnnpack, (package,))
        metrics = compare(
            "CAM++ in TFLite", OnnxSession(network), session, clips, MIN_COSINE, quiet, MOST_FLIPS
        )
        assert metrics[FLIPS] == 0.0


def test_a_variant_that_strays_fails_its_proof(tmp_path: Path, card: SpoofCard) -> None:
    model = onnx.load(SPOOF)
    for tensor in model.graph.initializer:
        if tensor.name == "out.b":  # as a wrong lowering would be: a bias forgotten
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1.0, tensor.name))
    (tmp_path / "spoof.tflite").write_bytes(lower(model))
    with pytest.raises(QuantizeError, match="spoof detector in TFLite strays"):
        prove_spoof_variant(SPOOF, tmp_path / "spoof.tflite", card, quiet, few(), MOST_FLIPS)


def test_the_same_network_gives_the_same_variant(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_variant(SPOOF, tmp_path / name, quiet)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
