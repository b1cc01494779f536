"""The real speaker model, on real voices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.model_store import slots
from device.model_store.calibration import Calibration
from device.models.features import WaveError
from device.models.speaker import EMBEDDING_SIZE, InconsistentEnrolmentError, SpeakerError, SpeakerModel
from tests.speech import Reading

Embedding = np.ndarray


@pytest.fixture(scope="module")
def speaker(models: Path) -> SpeakerModel:
    return SpeakerModel.open(slots.active(models), threads=2)


@pytest.fixture(scope="module")
def embed(speaker: SpeakerModel) -> Callable[[Path], Embedding]:
    def embed_file(path: Path) -> Embedding:
        wave, rate_hz = soundfile.read(path, dtype="float32")
        assert rate_hz == 16_000
        return speaker.embed(wave[: 6 * rate_hz])

    return embed_file


@pytest.fixture(scope="module")
def austen(embed: Callable[[Path], Embedding], reader: list[Reading]) -> list[Embedding]:
    return [embed(reading.path) for reading in reader]


@pytest.fixture(scope="module")
def cards(embed: Callable[[Path], Embedding], other_reader: list[Reading]) -> list[Embedding]:
    return [embed(reading.path) for reading in other_reader]


def test_an_embedding_is_a_unit_vector(austen: list[Embedding]) -> None:
    for embedding in austen:
        assert embedding.shape == (EMBEDDING_SIZE,)
        assert embedding.dtype == np.float32
        assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-5)


def test_the_same_wave_always_gives_the_same_embedding(speaker: SpeakerModel, reader: list[Reading]) -> None:
    wave = soundfile.read(reader[0].path, dtype="float32")[0][:48_000]
    np.testing.assert_array_equal(speaker.embed(wave), speaker.embed(wave))


def test_a_person_is_told_from_another(
    speaker: SpeakerModel, austen: list[Embedding], cards: list[Embedding]
) -> None:
    template = speaker.template(austen[:3])
    assert all(speaker.llr(probe, template) > 3.0 for probe in austen[3:])
    assert all(speaker.llr(probe, template) < -3.0 for probe in cards)


def test_a_template_is_a_unit_vector(speaker: SpeakerModel, austen: list[Embedding]) -> None:
    assert np.linalg.norm(speaker.template(austen)) == pytest.approx(1.0, abs=1e-5)


def test_two_recordings_are_too_few(speaker: SpeakerModel, austen: list[Embedding]) -> None:
    with pytest.raises(SpeakerError, match="needs 3 recordings, not 2"):
        speaker.template(austen[:2])


def test_a_stranger_among_the_recordings_is_found(
    speaker: SpeakerModel, austen: list[Embedding], cards: list[Embedding]
) -> None:
    with pytest.raises(InconsistentEnrolmentError, match="recording 3 does not sound like the others"):
        speaker.template([austen[0], austen[1], cards[0], austen[2]])


def test_silence_and_snippets_have_no_voice(speaker: SpeakerModel) -> None:
    for wave in (np.zeros(32_000, np.float32), np.ones(100, np.float32), np.full(32_000, np.nan, np.float32)):
        with pytest.raises(WaveError):
            speaker.embed(wave)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(EMBEDDING_SIZE, np.float32),
        np.full(EMBEDDING_SIZE, np.nan, np.float32),
        np.ones(EMBEDDING_SIZE, np.float32),
        np.ones(3, np.float32),
    ],
)
def test_what_is_no_embedding_is_never_scored(
    speaker: SpeakerModel, austen: list[Embedding], bad: Embedding
) -> None:
    for pair in ((bad, austen[0]), (austen[0], bad)):
        with pytest.raises(SpeakerError):
            speaker.llr(*pair)


class Broken:
    def __init__(self, answer: np.ndarray) -> None:
        self.answer = answer

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [self.answer]


@pytest.mark.parametrize("answer", [np.full((1, 192), np.nan), np.zeros((1, 192)), np.ones((1, 7))])
def test_a_network_that_answers_nonsense_is_not_believed(answer: np.ndarray) -> None:
    model = SpeakerModel(Broken(answer.astype(np.float32)), Calibration(1.0, 0.0), "broken")
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    with pytest.raises(SpeakerError):
        model.embed(wave)
