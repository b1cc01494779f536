"""Whose voice it is where others talk: what is heard, what is given back, and what is left of it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from device.audio import Quality, Utterance
from device.evidence.gallery import Gallery
from device.evidence.judge import Judge
from device.evidence.voice import in_noise
from device.evidence.voice.held import Voice
from device.evidence.voice.in_noise import FITTED_ON, GIVEN_BACK_LLR, NOISY_SNR_DB
from device.model_store.calibration import LLR_LIMIT
from tests.device.evidence.test_judge import Steady

Wave = npt.NDArray[np.float32]
TEMPLATE = np.ones(192, np.float32)


class Listening(Steady):
    """A speaker model that keeps what it was given, and how loud that was."""

    def __init__(self, version: str = FITTED_ON, llr: float = 1.0) -> None:
        super().__init__()
        self.version = version
        self.found = llr
        self.given: list[Wave] = []
        self.level = 0.0

    def embed(self, wave: Wave) -> Wave:
        self.given.append(wave)
        self.level = float(np.sqrt(np.square(wave).mean()))
        return TEMPLATE.copy()

    def llr(self, wave: Wave, template: Wave | None = None) -> float:
        return self.found


def quality(snr_db: float) -> Quality:
    return Quality(1.5, snr_db, 0.0, -25.0, 8000.0)


def said(snr_db: float) -> Utterance:
    """Two bursts in noise 40 dB below: three seconds."""
    level = np.repeat([0.002, 0.2, 0.002, 0.2], 12_000)
    samples = (np.random.default_rng(5).standard_normal(48_000) * level * 8_000).astype(np.int16)
    return Utterance(samples, 0.75, 3.0, quality(snr_db))


def judged(speaker: Listening, snr_db: float) -> float | None:
    return Judge(Steady(), speaker, Steady())(said(snr_db), "one", TEMPLATE).speaker_llr


def test_in_noise_the_voice_is_heard_where_it_stands_out_and_gets_back_what_that_costs() -> None:
    speaker = Listening()
    assert judged(speaker, NOISY_SNR_DB - 0.1) == 1.0 + GIVEN_BACK_LLR
    assert len(speaker.given[0]) < 0.6 * 48_000
    assert speaker.level > 1.2 * float(np.sqrt(np.square(said(9.0).wave()).mean()))


def test_a_gallery_is_searched_by_the_same_voice() -> None:
    speaker, people = Listening(), Gallery({"ANNA": TEMPLATE / np.float32(np.sqrt(192.0))})
    found = Judge(Steady(), speaker, Steady())(said(9.0), "one", people).identified
    assert found is not None
    assert found.llr == 1.0 + GIVEN_BACK_LLR
    assert len(speaker.given[0]) < 0.6 * 48_000


@pytest.mark.parametrize("grown", [False, True])
def test_a_voiceprint_of_the_vault_is_held_against_the_same_voice(grown: bool) -> None:
    speaker = Listening()
    held = Voice(TEMPLATE, FITTED_ON, grown=Voice(TEMPLATE, FITTED_ON) if grown else None)
    found = Judge(Steady(), speaker, Steady())(said(9.0), "one", held).speaker_llr
    assert found == 1.0 + GIVEN_BACK_LLR
    assert all(len(given) < 0.6 * 48_000 for given in speaker.given)


@pytest.mark.parametrize("snr_db", [NOISY_SNR_DB, 60.0, math.nan])
def test_where_it_is_quiet_or_nobody_knows_all_of_it_is_heard_and_nothing_is_given(snr_db: float) -> None:
    speaker = Listening()
    assert judged(speaker, snr_db) == 1.0
    assert len(speaker.given[0]) == 48_000


def test_another_speaker_model_than_the_one_it_was_fitted_on_hears_everything() -> None:
    speaker = Listening("resemblyzer-0.1.4")
    assert judged(speaker, 9.0) == 1.0
    assert len(speaker.given[0]) == 48_000


def test_the_model_that_ships_is_the_one_it_was_fitted_on(judge: Judge) -> None:
    assert judge.speaker.version == FITTED_ON


def test_nothing_is_left_of_the_copy_that_was_heard() -> None:
    speaker = Listening()
    judged(speaker, 9.0)
    assert not speaker.given[0].any()


def test_no_llr_gets_beyond_its_limit_and_none_that_is_not_a_number_becomes_one() -> None:
    for found, expected in ((LLR_LIMIT, LLR_LIMIT), (-LLR_LIMIT, GIVEN_BACK_LLR - LLR_LIMIT)):
        assert in_noise.llr(Listening(llr=found), quality(9.0), TEMPLATE, TEMPLATE) == expected
    assert math.isnan(in_noise.llr(Listening(llr=math.nan), quality(9.0), TEMPLATE, TEMPLATE))
