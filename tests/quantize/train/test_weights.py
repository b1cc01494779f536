"""The committed network: what it is, what it weighs, and that its card tells the truth about it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from device.models.spoof.features import BINS, PICTURES

WEIGHTS = Path(__file__).parents[3] / "quantize" / "train" / "weights"
NETWORK, HEAD = WEIGHTS / "spoof.int8.onnx", WEIGHTS / "spoof-envelopes.npz"
CARD = json.loads((WEIGHTS / "spoof.json").read_bytes())


def test_the_card_names_the_network_and_the_head_beside_it() -> None:
    assert hashlib.sha256(NETWORK.read_bytes()).hexdigest() == CARD["sha256"]
    assert hashlib.sha256(HEAD.read_bytes()).hexdigest() == CARD["envelopes_sha256"]


def test_the_version_names_all_that_decides() -> None:
    decides = json.dumps([CARD["calibration"], CARD["null"], CARD["form"]], sort_keys=True).encode()
    digest = hashlib.sha256(NETWORK.read_bytes() + HEAD.read_bytes() + decides).hexdigest()
    assert CARD["version"].endswith(digest[:8])


def test_the_network_is_small_and_its_convolutions_are_eight_bits_wide() -> None:
    assert NETWORK.stat().st_size <= 2_000_000
    model = onnx.load(str(NETWORK))
    onnx.checker.check_model(model)
    eight_bits = [
        w for w in model.graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4
    ]
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert len(convolutions) - len(eight_bits) <= 4  # a picture's choice, the patches, what each step answers


def test_the_network_takes_any_length_and_answers_two_logits() -> None:
    session = onnxruntime.InferenceSession(str(NETWORK), providers=["CPUExecutionProvider"])
    for frames in (62, 125, 375):
        features = (
            np.random.default_rng(frames).standard_normal((1, PICTURES, BINS, frames)).astype(np.float32)
        )
        (logits,) = session.run([CARD["output"]], {CARD["input"]: features})
        assert logits.shape == (1, 2)
        assert np.isfinite(logits).all()


def test_stricter_operating_points_refuse_more_people() -> None:
    points = CARD["operating_points"]
    assert points["bpcer_1"] <= points["bpcer_3"] <= points["bpcer_5"]


def test_eight_bits_changed_few_decisions() -> None:
    assert CARD["parity"]["files"] >= 200
    assert CARD["parity"]["decision_flips"] <= 0.001
