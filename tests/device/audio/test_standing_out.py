"""What stands out of noise: the person's words, and not what sounds between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spoiled.standing_out import standing_out
from device.audio.utterance import SAMPLE_RATE_HZ

Wave = npt.NDArray[np.float32]
WORD, GAP = 8_000, 12_800


def answer(words: int = 3, floor_db: float = -35.0) -> tuple[Wave, npt.NDArray[np.bool_]]:
    """Bursts for words over a floor, and where the words are."""
    dice = np.random.default_rng(3)
    spoken = np.concatenate([np.r_[np.zeros(GAP, bool), np.ones(WORD, bool)] for _ in range(words)])
    level = np.where(spoken, 0.1, 0.1 * 10 ** (floor_db / 20))
    return (dice.standard_normal(len(spoken)) * level).astype(np.float32), spoken


def test_every_word_is_heard_and_hardly_a_pause() -> None:
    wave, spoken = answer()
    before = wave.copy()
    heard = standing_out(wave)
    assert (wave == before).all()
    kept = set(heard.tolist())
    assert set(wave[spoken].tolist()) <= kept
    assert len(heard) <= spoken.sum() + 3 * 2 * SAMPLE_RATE_HZ * 3 // 100
    assert heard.tolist() == [sample for sample in wave.tolist() if sample in kept]


def test_surroundings_that_do_not_fall_behind_leave_nothing_out() -> None:
    wave, _ = answer(floor_db=-10.0)
    assert (standing_out(wave) == wave).all()


def test_of_a_click_in_noise_enough_is_left_to_be_judged() -> None:
    wave, _ = answer(1)
    wave[:] *= 0.01
    wave[3_200:3_360] = 0.9
    assert len(standing_out(wave)) >= 0.6 * SAMPLE_RATE_HZ


def test_what_is_short_is_heard_whole() -> None:
    wave, _ = answer()
    short = wave[GAP - 1_600 : GAP + WORD]
    assert standing_out(short) is short
