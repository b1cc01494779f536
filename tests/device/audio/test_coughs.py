"""A cough is louder than the words beside it and has no voice; what is put in its place is quiet."""

from __future__ import annotations

import numpy as np
import pytest

from device.audio import SAMPLE_RATE_HZ, load_utterance
from device.audio.spoiled.coughs import coughs, without
from tests.device.audio.sounds import coughing, hush, tone
from tests.speech import Reading


def spoken(reader: list[Reading], at: int) -> np.ndarray:
    return load_utterance(reader[at].path).wave()


def with_cough(wave: np.ndarray, at: int, seed: int, gain: float = 1.0) -> tuple[np.ndarray, int]:
    """A fit of coughing put in at a sample, in a quiet room; and how long it is."""
    cough = coughing(np.random.default_rng(seed)) * gain
    room = np.random.default_rng(seed).normal(size=len(cough)) * 0.003
    whole = np.concatenate([wave[:at], cough + room, wave[at:]])
    return np.clip(whole, -1.0, 32767 / 32768).astype(np.float32), len(cough)


@pytest.mark.parametrize("seed", range(5))
def test_a_fit_of_coughing_is_found_where_it_is_and_quiet_comes_in_its_place(
    reader: list[Reading], seed: int
) -> None:
    wave = spoken(reader, seed % 3)
    at = len(wave) // 2
    heard, length = with_cough(wave, at, seed)
    found = coughs(heard)
    inside = np.zeros(len(heard), bool)
    for first, last in found:
        inside[first:last] = True
    assert inside[at : at + length].mean() > 0.6
    assert inside[: at - 1_600].mean() < 0.25
    assert inside[at + length + 6_400 :].mean() < 0.25
    clean = without(heard, found)
    assert len(clean) == len(heard)
    assert np.array_equal(clean[~inside], heard[~inside])
    assert np.abs(clean[inside]).mean() < 0.2 * np.abs(heard[inside]).mean()
    assert np.array_equal(without(heard, found), clean), "always the same"


def test_plain_speech_holds_hardly_any(reader: list[Reading], other_reader: list[Reading]) -> None:
    waves = [load_utterance(one.path).wave() for one in (*reader, *other_reader)]
    assert sum(bool(coughs(wave)) for wave in waves) <= len(waves) // 3


def test_a_cough_softer_than_the_words_is_none(reader: list[Reading]) -> None:
    wave = spoken(reader, 0)
    heard, _ = with_cough(wave, len(wave) // 2, 3, gain=0.02 * float(np.abs(wave).max()))
    assert len(coughs(heard)) <= len(coughs(wave))


@pytest.mark.parametrize(
    "samples",
    [np.zeros(0, np.float32), np.zeros(16_000, np.float32), hush(2.0), tone(2.0), tone(0.05)],
    ids=["nothing", "digital silence", "a quiet room", "a hum", "50 ms"],
)
def test_what_is_no_speech_or_holds_no_noise_has_none(samples: np.ndarray) -> None:
    assert coughs(samples.astype(np.float32) / np.float32(32_768)) == []


def test_a_sound_that_is_nearly_all_noise_is_no_cough_in_speech() -> None:
    dice = np.random.default_rng(2)
    noise = dice.normal(size=3 * SAMPLE_RATE_HZ) * 0.3
    noise[:4_000] = tone(0.25).astype(np.float64) / 32_768
    assert coughs(noise.astype(np.float32)) == []
