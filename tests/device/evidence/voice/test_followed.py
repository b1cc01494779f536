"""What a voiceprint follows raises a score by so much at most, and only near rows count."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from device.audio.utterance import Quality
from device.evidence.enrolled import HeardVoice
from device.evidence.judge import Judge
from device.evidence.voice.at_the_door import DOOR_LLR
from device.evidence.voice.followed import (
    FOLLOWED_LLR,
    LEAST,
    NEAR_LLR,
    RAISES_LLR,
    Embedding,
    near,
    raised,
)
from device.evidence.voice.held import Voice
from device.evidence.voice.in_noise import FITTED_ON, GIVEN_BACK_LLR
from tests.device.evidence.test_judge import Steady, utterance

SIZE, SCALE, OFFSET = 192, 32.3069, -14.5706
QUIET = Quality(3.0, 30.0, 0.0, -20.0, 7000.0)
NOISY = replace(QUIET, snr_db=15.0)


class Speaker:
    """The calibration in use, without its network."""

    version = FITTED_ON

    def embed(self, wave: np.ndarray) -> Embedding:
        raise AssertionError("nothing is heard here")

    def llr(self, probe: Embedding, template: Embedding) -> float:
        return float(np.clip(SCALE * float(probe @ template) + OFFSET, -12.0, 12.0))


class Other(Speaker):
    version = "another-1"


def axis(number: int) -> Embedding:
    return np.eye(SIZE, dtype=np.float32)[number]


def beside(cosine: float, number: int = 1) -> Embedding:
    """A unit vector of that cosine to the enrolled one, which lies on the first axis."""
    return (cosine * axis(0) + math.sqrt(1 - cosine**2) * axis(number)).astype(np.float32)


def voice(*rows: Embedding, door: Embedding | None = None) -> Voice:
    followed = np.stack(rows) if rows else None
    return Voice(axis(0), FITTED_ON, follows=True, followed=followed, door=door)


ROWS = (beside(0.7), beside(0.72), beside(0.75))
SPEAKER = Speaker()


def test_a_probe_like_what_is_followed_is_raised_by_no_more_than_the_bound() -> None:
    assert len(ROWS) == LEAST
    assert raised(SPEAKER, QUIET, beside(0.7), voice(*ROWS), -1.0) == -1.0 + RAISES_LLR
    assert raised(SPEAKER, QUIET, beside(0.7), voice(*ROWS), -12.0) == -12.0 + RAISES_LLR


def test_no_score_falls() -> None:
    assert raised(SPEAKER, QUIET, axis(9), voice(*ROWS), 4.5) == 4.5
    assert raised(SPEAKER, QUIET, axis(9), voice(*ROWS), -7.0) == -7.0


def test_the_score_against_what_is_followed_is_that_of_their_mean_moved() -> None:
    probe = beside(0.4, 2)
    mean = np.mean(ROWS, axis=0)
    expected = SPEAKER.llr(probe, (mean / np.linalg.norm(mean)).astype(np.float32)) + FOLLOWED_LLR
    low = expected - 1.0
    assert raised(SPEAKER, QUIET, probe, voice(*ROWS), low) == pytest.approx(expected)
    assert raised(SPEAKER, NOISY, probe, voice(*ROWS), low) == pytest.approx(expected + GIVEN_BACK_LLR)


def test_too_few_rows_and_rows_that_the_enrolled_voiceprint_does_not_find_near_do_not_count() -> None:
    far = beside((NEAR_LLR - 0.1 - OFFSET) / SCALE)
    assert not near(SPEAKER, far, voice())
    for rows in ((), ROWS[:2], (*ROWS[:2], far)):
        assert raised(SPEAKER, QUIET, beside(0.7), voice(*rows), 1.0) == 1.0
    hostile = np.repeat(beside(0.7, 5)[np.newaxis] * np.float32(np.nan), 3, axis=0)
    assert raised(SPEAKER, QUIET, beside(0.7), voice(*hostile), 1.0) == 1.0


def test_a_row_may_be_near_to_the_door_vector_instead() -> None:
    heard = beside(0.2, 3)
    assert not near(SPEAKER, heard, voice())
    assert near(SPEAKER, heard, voice(door=heard))
    short = (NEAR_LLR - DOOR_LLR - 0.1 - OFFSET) / SCALE
    assert not near(SPEAKER, axis(0), voice(door=beside(short))) or SPEAKER.llr(axis(0), axis(0)) >= NEAR_LLR


def test_of_more_phrases_what_is_near_is_asked_more() -> None:
    just = beside((NEAR_LLR + 0.1 - OFFSET) / SCALE)
    assert near(SPEAKER, just, voice())
    assert not near(SPEAKER, just, replace(voice(), phrases=5))


def test_what_is_no_number_and_another_speaker_model_change_nothing() -> None:
    assert math.isnan(raised(SPEAKER, QUIET, axis(0), voice(*ROWS), math.nan))
    assert raised(Other(), QUIET, beside(0.7), voice(*ROWS), 1.0) == 1.0
    assert raised(SPEAKER, QUIET, axis(0) * np.float32(np.nan), voice(*ROWS), 1.0) == 1.0


class Hears(Speaker):
    """Hears one and the same voice in everything, and keeps what it gave out."""

    def __init__(self, heard: Embedding) -> None:
        self.heard = heard
        self.given: list[Embedding] = []

    def embed(self, wave: np.ndarray) -> Embedding:
        self.given.append(self.heard.copy())
        return self.given[-1]

    def template(self, embeddings: object) -> Embedding:
        raise AssertionError("nobody enrols here")


@pytest.mark.parametrize("wanted", [False, True])
def test_the_judge_raises_by_it_and_hands_the_voice_out_where_it_is_wanted(wanted: bool) -> None:
    probe = beside((1.5 - OFFSET) / SCALE)
    alike = [beside(0.7), beside(0.7, 1), beside(0.71)]
    model = Hears(probe)
    judge = Judge(Steady(), model, Steady())
    try:
        plain = judge(utterance(), "one two", replace(voice(), follows=wanted))
        found = judge(utterance(), "one two", replace(voice(*alike), follows=wanted))
    finally:
        judge.close()
    assert plain.speaker_llr is not None
    assert found.speaker_llr is not None
    assert plain.speaker_llr == pytest.approx(1.5, abs=0.01)
    assert found.speaker_llr == pytest.approx(1.5 + RAISES_LLR, abs=0.01)
    assert not any(given.any() for given in model.given), "probes are overwritten"
    assert (found.voice is not None) is wanted
    if found.voice is not None:
        assert found.voice.model == FITTED_ON
        taken = found.voice.take()
        assert taken is not None
        assert np.array_equal(taken, probe)
        assert found.voice.take() is None, "once"
        held = HeardVoice(taken, FITTED_ON)
        held.drop()
        assert not taken.any(), "overwritten"
        assert held.take() is None
