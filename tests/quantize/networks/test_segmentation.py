"""The segmentation in INT8 passes its own proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize.networks import segmentation
from quantize.speech import SpeechSet, parity_speech
from quantize.upstream.fetch import fetch


def quiet(text: str, done: float) -> None:
    pass


@pytest.mark.slow
def test_the_segmentation_in_int8_is_small_and_proven(tmp_path: Path) -> None:
    out = tmp_path / "segmentation.onnx"
    made = segmentation.build_segmentation(fetch("pyannote-segmentation"), out, quiet)
    few = SpeechSet(parity_speech().files[:10:2])  # no proof yet: enough to see that it would be one
    metrics = segmentation.prove_segmentation(fetch("pyannote-segmentation"), out, quiet, few, most_flips=0.3)
    assert metrics["parity_probability_drift_max"] <= segmentation.MAX_PROBABILITY_DRIFT
    assert out.stat().st_size < 2.5e6
    assert made.outputs[0].shape[-1] == 7
