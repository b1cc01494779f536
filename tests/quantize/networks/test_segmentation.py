"""The segmentation in INT8 passes its own proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize import parity
from quantize.networks import segmentation
from quantize.speech import SpeechSet, parity_speech
from quantize.upstream.fetch import fetch


@pytest.fixture(autouse=True)
def few_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    some = SpeechSet(parity_speech().files[:10:2])
    monkeypatch.setattr(segmentation, "parity_speech", lambda: some)
    monkeypatch.setattr(parity, "MAX_FLIPS_LIMIT", 0.3)


def quiet(text: str, done: float) -> None:
    pass


@pytest.mark.slow
def test_the_segmentation_in_int8_is_small_and_proven(tmp_path: Path) -> None:
    out = tmp_path / "segmentation.onnx"
    made = segmentation.build_segmentation(fetch("pyannote-segmentation"), out, quiet)
    metrics = segmentation.prove_segmentation(fetch("pyannote-segmentation"), out, quiet)
    assert metrics["parity_probability_drift_max"] <= segmentation.MAX_PROBABILITY_DRIFT
    assert out.stat().st_size < 2.5e6
    assert made.outputs[0].shape[-1] == 7
