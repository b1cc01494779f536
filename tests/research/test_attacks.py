"""Attacks made here to learn from. Skipped, visibly, without the training extra."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("scipy", reason="the training extra is not installed")

from quantize.train.speech.corpus import COPIES
from research.attacks.copysynthesis import VOCODERS, pieces, splice
from tests.quantize.train.test_training_parts import RATE_HZ, voice


@pytest.mark.parametrize("name", ["world", "griffinlim", "lpc", "mlsa", "melcopy", "phasecopy", "upsampler"])
def test_copy_synthesis_keeps_the_length_and_changes_the_samples(name: str) -> None:
    if name in ("world", "lpc", "mlsa"):
        pytest.importorskip("pyworld", reason="the training extra is not installed")
    if name == "mlsa" and shutil.which("sptk") is None:
        pytest.skip("Debian package sptk is not installed")
    wave = voice()
    copy = np.asarray(VOCODERS[name](wave, np.random.default_rng(1)), np.float32)
    assert np.isfinite(copy).all()
    assert abs(len(copy) - len(wave)) < 0.05 * len(wave)
    shared = min(len(copy), len(wave))
    assert np.abs(copy[:shared] - wave[:shared]).max() > 1e-3


def test_a_splice_is_made_of_some_of_the_words_that_were_said() -> None:
    said = [np.concatenate([voice(0.6, n), np.zeros(3200, np.float32), voice(0.5, n + 9)]) for n in range(3)]
    assert all(len(pieces(wave)) >= 2 for wave in said)
    joined = splice(said, np.random.default_rng(0), words=4)
    assert RATE_HZ < len(joined) < sum(len(wave) for wave in said)
    assert np.isfinite(joined).all()


def test_training_knows_by_name_every_vocoder_that_copies_people() -> None:
    assert set(VOCODERS) == COPIES
