"""The door vector: made of the recordings as they are and of copies in fixed rooms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from device.audio.utterance import SAMPLE_RATE_HZ
from device.evidence.voice.copies import MOST_SAMPLES, ROOMS, door_vector, makes, of_recording
from device.evidence.voice.in_noise import FITTED_ON

Wave = npt.NDArray[np.float32]


class Listening:
    """Keeps what it was given; its embedding tells recordings apart."""

    version = FITTED_ON

    def __init__(self) -> None:
        self.given: list[Wave] = []
        self.heard: list[Wave] = []

    def embed(self, wave: Wave) -> Wave:
        self.given.append(wave)
        self.heard.append(wave.copy())
        return np.resize(wave, 192).astype(np.float32)


def said(seconds: float, seed: int = 1) -> Wave:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE_HZ))).astype(
        np.float32
    )


def test_every_recording_is_heard_once_in_each_room_and_the_rooms_differ() -> None:
    speaker = Listening()
    of_recording(speaker, said(1.0))
    assert len(speaker.heard) == len(ROOMS)
    firsts = [one[:4_000] for one in speaker.heard]
    assert all(not np.allclose(firsts[a], firsts[b]) for a in range(len(firsts)) for b in range(a))


def test_the_same_recording_gives_the_same_vector_on_every_unit() -> None:
    one, other = (of_recording(Listening(), said(1.5)) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.allclose(one, of_recording(Listening(), said(1.5, seed=2)))


def test_what_a_long_recording_costs_is_bounded() -> None:
    speaker = Listening()
    of_recording(speaker, said(30.0))
    assert max(len(one) for one in speaker.heard) <= MOST_SAMPLES + SAMPLE_RATE_HZ


def test_of_a_long_recording_with_a_long_pause_in_its_middle_the_words_are_copied() -> None:
    speaker, pause = Listening(), np.zeros(round(8.5 * SAMPLE_RATE_HZ), np.float32)
    of_recording(speaker, np.concatenate([said(2.6), pause, said(2.6)]))
    assert all(one.std() > 0.01 for one in speaker.heard)


def test_nothing_is_left_of_the_copies_and_the_recording_stays_as_it_is() -> None:
    speaker, wave = Listening(), said(1.0)
    of_recording(speaker, wave)
    assert not any(one.any() for one in speaker.given)
    assert np.array_equal(wave, said(1.0))


def test_a_door_vector_is_of_unit_length_and_lies_between_recordings_and_copies() -> None:
    axes = np.eye(192, dtype=np.float32)
    made = door_vector([axes[0]] * 3, [axes[1]] * 3)
    assert made.dtype == np.float32
    assert float(np.linalg.norm(made)) == pytest.approx(1.0, abs=1e-6)
    assert made[:2] == pytest.approx([np.sqrt(0.5)] * 2)


def test_only_the_model_that_was_measured_makes_one() -> None:
    assert makes(FITTED_ON)
    assert not makes("resemblyzer-0.1.4")
