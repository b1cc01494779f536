"""Splices: the same for the same seed, in every way, with joins where they are said to be."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from device.audio import AudioSettings
from device.audio.recording import read_recording
from device.audio.utterance import Wave
from quantize.evaluate.recordings.borders import Aligner
from quantize.evaluate.recordings.splicing import (
    BORDERS,
    ENERGY,
    FADED,
    STYLES,
    WAYS,
    Source,
    cut_by_energy,
    draw,
    looped,
    quietest,
    with_pauses,
)
from quantize.playback import rms
from tests.speech import Reading

RATE_HZ = 16_000
SAID = {
    "digits": ("one", "two", "three", "four"),
    "codes": ("a", "b", "seven", "c", "nine"),
    "words": ("ward", "of", "clubs", "ten"),
}


def voice(pitch_hz: float, seconds: float = 3.0) -> Wave:
    """Syllables of a buzz with pauses between them, over a little noise."""
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * pitch_hz * n * at) / n for n in range(1, 20))
    opens = np.clip(np.sin(2 * np.pi * 1.5 * at), 0.0, None)
    noise = np.random.default_rng(round(pitch_hz)).standard_normal(len(at))
    return (0.1 * buzz * opens + 0.001 * noise).astype(np.float32)


def person(style: str) -> list[Source]:
    """Two recordings of one person, each word in one syllable."""
    words = SAID[style]
    return [
        Source(
            f"{name}.flac", voice(hz), tuple((w, n * 2 / 3, n * 2 / 3 + 0.35) for n, w in enumerate(words))
        )
        for name, hz in (("one", 110.0), ("other", 140.0))
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("style", STYLES)
def test_a_seed_names_a_splice(way: str, style: str) -> None:
    first, second, other = (draw(person(style), way, style, np.random.default_rng(n)) for n in (5, 5, 6))
    assert first is not None
    assert second is not None
    assert other is not None
    assert np.array_equal(first.wave, second.wave)
    assert first.joins_s == second.joins_s
    assert not (len(first.wave) == len(other.wave) and np.array_equal(first.wave, other.wave))
    seconds = len(first.wave) / RATE_HZ
    assert len(first.joins_s) == {"digits": 5, "codes": 4, "words": 4}[style]
    assert all(0.0 < at < seconds for at in first.joins_s)
    assert np.abs(first.wave).max() < 1.0


def test_careful_pieces_have_one_level_and_no_digital_silence() -> None:
    sources = person("words")
    loud = [Source(s.path, s.wave * (8.0 if n else 1.0), s.words) for n, s in enumerate(sources)]
    splice = draw(loud, FADED, "words", np.random.default_rng(2))
    assert splice is not None
    frames = splice.wave[: len(splice.wave) // 320 * 320].reshape(-1, 320)
    assert (frames.std(axis=1) > 0).all(), "room tone lies below everything"
    bounds = [0.0, *splice.joins_s, len(splice.wave) / RATE_HZ]
    levels = [np.abs(splice.wave[round(a * RATE_HZ) : round(b * RATE_HZ)]).max() for a, b in pairwise(bounds)]
    assert max(levels) < 3.0 * min(levels)


def test_nothing_is_pasted_from_a_person_of_whom_too_little_is_known() -> None:
    bare = [Source(source.path, source.wave) for source in person("words")]
    assert draw(bare, BORDERS, "words", np.random.default_rng(1)) is None
    assert draw(bare, ENERGY, "words", np.random.default_rng(1)) is not None
    assert draw([], ENERGY, "digits", np.random.default_rng(1)) is None


def test_energy_cuts_lie_in_the_pauses() -> None:
    found = cut_by_energy(voice(120.0))
    assert len(found) == 5
    for number, (start_s, end_s) in enumerate(sorted(found)[:4]):
        assert start_s == pytest.approx(number * 2 / 3, abs=0.06)
        assert end_s == pytest.approx(number * 2 / 3 + 1 / 3, abs=0.06)


def test_a_drawn_out_pause_touches_no_word() -> None:
    wave = voice(120.0)
    longer = with_pauses(wave, np.random.default_rng(4))
    assert len(longer) > len(wave) + 0.5 * RATE_HZ
    loud = [float(np.abs(one[: RATE_HZ // 3]).max()) for one in (wave, longer)]
    assert loud[0] == loud[1]
    assert rms(longer) < rms(wave)


def test_room_tone_has_the_level_of_what_it_was_made_from() -> None:
    tone = quietest(voice(120.0))
    assert rms(tone) < 0.004
    assert rms(looped(tone, RATE_HZ, np.random.default_rng(1))) == pytest.approx(rms(tone), rel=0.01)


def test_words_are_found_where_they_were_said(reader: list[Reading]) -> None:
    aligner = Aligner.open()
    if aligner is None:
        pytest.skip("no aligner; pip install '.[train]'")
    samples = read_recording(Path(reader[4].path), AudioSettings().file)
    wave = samples.astype(np.float32) / np.float32(32768.0)
    found = aligner.borders(wave, reader[4].text)
    assert [word for word, _, _ in found] == reader[4].text.split()
    assert all(start < end for _, start, end in found)
    assert aligner.borders(wave, "xyzzyx plugh") == ()
