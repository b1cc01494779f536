"""How the spoof detector is made: its patch layer and its second network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("scipy", reason="the training extra is not installed")

import torch

from device.models.spoof.features import pictures, spoof_features
from quantize.errors import QuantizeError
from quantize.train.networks.moments import loudspeaker_scores
from quantize.train.speech.scoring import eer
from research.detector.fit_moments import MomentsSettings, fit_moments
from research.detector.patches import learn_patches
from research.detector.pictures import STEP, Pictures
from tests.quantize.train.test_training_parts import RATE_HZ, features_of, voice


def test_every_atom_of_the_patch_layer_answers_to_some_patches_and_not_to_all() -> None:
    features = [features_of(frames)[0] for frames in (200, 201, 202)]
    layer = learn_patches(features, np.random.default_rng(0), samples=1500, rounds=2)
    with torch.inference_mode():
        active = (layer.conv(torch.from_numpy(features[0])[None, None]) > 0).float().mean(dim=(0, 2, 3))
    assert float(active.min()) > 0.2
    assert float(active.max()) < 0.6


def bank_of(waves: list[np.ndarray], replayed: list[bool]) -> Pictures:
    found = [pictures(wave) for wave in waves]
    return Pictures(
        np.array([f"f/{n}" for n in range(len(waves))]),
        np.array([len(p) for p, _ in found]),
        np.concatenate([np.round(p / STEP).astype(np.int8) for p, _ in found]),
        np.array([line for _, line in found]),
        np.array(replayed),
    )


def test_eight_bits_keep_the_pictures_that_the_unit_hears() -> None:
    wave = voice(1.5)
    bank = bank_of([wave], [False])
    kept = bank.features(0, int(bank.lengths[0]), 0)
    np.testing.assert_allclose(kept, spoof_features(wave), atol=STEP)


def test_the_second_network_learns_what_goes_through_a_low_pass() -> None:
    rng = np.random.default_rng(0)
    clear = [0.1 * rng.standard_normal(RATE_HZ).astype(np.float32) for _ in range(16)]
    dull = [np.convolve(w, np.full(6, 1 / 6), "same").astype(np.float32) for w in clear]
    dull = [w + 1e-4 * rng.standard_normal(len(w)).astype(np.float32) for w in dull]
    bank = bank_of([*clear, *dull], [False] * 16 + [True] * 16)
    items = [
        SimpleNamespace(path=f"f/{n}", spoof=bool(n % 2), family="x", system="x", page="libri")
        for n in range(32)
    ]
    net = fit_moments(items, bank, MomentsSettings(steps=30, batch=16, rate=4e-3))
    scores = loudspeaker_scores(net, [spoof_features(w) for w in [*clear, *dull]])
    assert eer(scores[:16], scores[16:]) <= 0.125


def test_pictures_that_are_missing_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"research\.detector bank"):
        Pictures.training(tmp_path)
