from __future__ import annotations

import numpy as np
import pytest

from device.liveness import Fingerprint, Fingerprinter, LivenessError
from device.liveness.fingerprint import BITS, MAX_STORED, SECRET_BYTES
from device.liveness.search import best_line
from tests.device.liveness.sounds import noise, speech
from tests.speech import Reading

MARK = Fingerprinter(b"s" * SECRET_BYTES)


def score(stored: Fingerprint, heard: Fingerprint) -> float:
    return best_line(stored.stored, heard.asked).score


def test_the_same_sound_has_the_same_marks(reader: list[Reading]) -> None:
    wave = speech(reader[4].path)
    assert (MARK(wave).stored == MARK(wave).stored).all()


def test_level_does_not_matter(reader: list[Reading]) -> None:
    wave = speech(reader[4].path)
    assert (MARK(wave).stored == MARK(0.1 * wave).stored).mean() > 0.98


def test_another_secret_gives_unrelated_marks(reader: list[Reading]) -> None:
    wave = speech(reader[4].path)
    other = Fingerprinter(b"t" * SECRET_BYTES)
    assert score(MARK(wave), MARK(wave)) > 3.0
    assert score(other(wave), MARK(wave)) < 0.3


def test_a_steady_hum_in_two_utterances_does_not_make_them_alike(reader: list[Reading]) -> None:
    """Every attempt at a door may have the same fan or alarm behind it."""
    time_s = np.arange(16_000 * 12) / 16_000
    hum = sum(0.02 * np.sin(2 * np.pi * hz * time_s) for hz in (300, 450, 600, 1_000, 1_500)).astype(
        np.float32
    )
    first, second = speech(reader[0].path), speech(reader[4].path)
    assert score(MARK(first + hum[: len(first)]), MARK(second + hum[-len(second) :])) < 0.5


def test_an_utterance_leaves_about_a_kilobit_a_second() -> None:
    marks = MARK(noise(8.0))
    assert marks.stored.nbytes * 8 / 8.0 < 1_100
    assert marks.stored.shape[1] == BITS // 8


def test_the_longest_utterance_is_bounded() -> None:
    assert len(MARK(noise(30.0)).stored) <= MAX_STORED


def test_a_short_word_has_a_mark_too() -> None:
    assert len(MARK(noise(0.5)).stored) == 1


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(0, np.float32),
        np.zeros(500, np.float32),
        np.full(16_000, np.nan, np.float32),
        np.full(16_000, np.inf, np.float32),
        np.zeros((16_000, 2), np.float32),
    ],
    ids=["empty", "too short", "nan", "infinite", "stereo"],
)
def test_what_is_no_sound_is_refused(wave: np.ndarray) -> None:
    with pytest.raises(LivenessError):
        MARK(wave)


def test_digital_silence_resembles_nothing(reader: list[Reading]) -> None:
    silence = MARK(np.zeros(48_000, np.float32))
    assert score(MARK(speech(reader[4].path)), silence) < 0.3
    assert score(silence, MARK(speech(reader[4].path))) < 0.3


def test_enormous_samples_do_no_harm(reader: list[Reading]) -> None:
    wave = speech(reader[4].path)
    assert score(MARK(wave), MARK(wave * np.float32(1e12))) > 3.0


def test_a_wrong_secret_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="secret"):
        Fingerprinter(b"short")


def test_marks_of_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        Fingerprint(np.zeros((3, 7), np.uint8), np.zeros((3, BITS), np.float32))
    with pytest.raises(ValueError, match="finite"):
        Fingerprint(np.zeros((3, BITS // 8), np.uint8), np.full((3, BITS), np.nan, np.float32))
