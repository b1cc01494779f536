"""Resemblyzer in INT8 passes its own proof and knows a voice again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device.model_store.sessions import OnnxSession
from device.models.resemblyzer import Resemblyzer
from quantize.errors import QuantizeError
from quantize.networks import resemblyzer
from quantize.parity import FLIPS
from quantize.speech import SpeechSet, parity_speech
from quantize.upstream.fetch import fetch

MOST_FLIPS = 0.3
"""Few recordings are no proof yet: enough to see that it would be one."""


def few() -> SpeechSet:
    return SpeechSet(parity_speech().files[:10:2])


def quiet(text: str, done: float) -> None:
    pass


@pytest.mark.slow
def test_resemblyzer_in_int8_is_small_proven_and_knows_a_voice_again(tmp_path: Path) -> None:
    out = tmp_path / "resemblyzer.onnx"
    resemblyzer.build_resemblyzer(fetch("resemblyzer"), out, quiet)
    metrics = resemblyzer.prove_resemblyzer(fetch("resemblyzer"), out, quiet, few(), MOST_FLIPS)
    assert metrics["parity_cosine_min"] >= resemblyzer.MIN_COSINE
    assert metrics[FLIPS] == 0.0
    assert out.stat().st_size < 3e6
    voice = Resemblyzer(OnnxSession(out), "resemblyzer-int8")
    clips = few().clips()
    embedded = {clip.name: voice.embed(clip.wave) for clip in clips}
    assert {vector.shape for vector in embedded.values()} == {(256,)}
    same = [(a, b) for a in clips for b in clips if a.name < b.name and a.speaker == b.speaker]
    other = [(a, b) for a in clips for b in clips if a.name < b.name and a.speaker != b.speaker]
    likeness = [[float(embedded[a.name] @ embedded[b.name]) for a, b in pairs] for pairs in (same, other)]
    assert np.mean(likeness[0]) > np.mean(likeness[1])


@pytest.mark.slow
def test_an_lstm_whose_input_is_power_would_fail_its_proof(tmp_path: Path) -> None:
    source, out = fetch("resemblyzer"), tmp_path / "resemblyzer.onnx"
    resemblyzer.build_resemblyzer(source, out, quiet, in_float=())
    with pytest.raises(QuantizeError, match="Resemblyzer in INT8 strays"):
        resemblyzer.prove_resemblyzer(source, out, quiet, few(), MOST_FLIPS)
