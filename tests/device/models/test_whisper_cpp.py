"""The other runtime of the words model: it hears what the usual one hears, and refuses damaged files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device.errors import DeviceError
from device.models.words.hearing import Sentence
from device.models.words.tokens import Vocabulary
from device.models.words.transcriber import Transcriber
from device.models.words.whisper_cpp import MAX_SENTENCES, WhisperCpp
from quantize.graphs import whisper_ggml
from quantize.networks.words import Upstream
from quantize.upstream.fetch import fetch
from tests.device.models.test_transcriber import RATE_HZ, wave, words
from tests.speech import Reading

__all__ = ["words"]


@pytest.fixture(scope="module")
def ggml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ggml") / "words.bin"
    whisper_ggml.build(fetch("whisper-tiny-en"), fetch("whisper-tiny-en-tokenizer"), path, weights="q8_0")
    return path


@pytest.fixture(scope="module")
def other(ggml: Path) -> Iterator[Transcriber]:
    opened = Transcriber(WhisperCpp(ggml))
    yield opened
    opened.close()


def test_it_judges_as_the_usual_runtime_does(
    words: Transcriber, other: Transcriber, other_reader: list[Reading]
) -> None:
    for said in other_reader[:3]:
        for phrase in (other_reader[0].text, other_reader[1].text):
            usual, theirs = (model.clues(wave(said), phrase)[0] for model in (words, other))
            assert theirs.credible == usual.credible
            assert (other.llr(theirs) >= 2.0) == (words.llr(usual) >= 2.0)
            assert theirs.agreement == pytest.approx(usual.agreement, abs=0.1)


def test_decoders_that_ask_at_the_same_time_each_say_their_own_sentence(ggml: Path) -> None:
    whisper = WhisperCpp(ggml)
    counting = ("one", "two", "three", "four", "five", "six", "seven")
    sentences = [Sentence(whisper.tokens(f" {word}")) for word in counting]
    sound = np.random.default_rng(1).normal(0, 0.05, RATE_HZ).astype(np.float32)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(12):
            said = whisper.listen(sound, sentences).sentences
            assert [one.tokens[:-1] for one in said] == [one.tokens for one in sentences]
    finally:
        sys.setswitchinterval(usual)
    whisper.close()


def test_it_spells_with_the_same_tokens(ggml: Path) -> None:
    whisper = WhisperCpp(ggml)
    upstream = Upstream.read(fetch("whisper-tiny-en"), fetch("whisper-tiny-en-tokenizer"))
    usual = Vocabulary(upstream.ordinary)
    # whisper.cpp's own speller would take " spa" and "des" for the last.
    for text in (" hello world", " 1D3A", " it's", "Enter 51.", " 8 of spades"):
        assert whisper.tokens(text) == usual.tokens(text)
    whisper.close()


def test_the_same_sound_scores_the_same_each_time(other: Transcriber, other_reader: list[Reading]) -> None:
    said = other_reader[0]
    first, second = (other.score(wave(said), said.text) for _ in range(2))
    assert first == second


def test_the_library_prints_nothing(
    other: Transcriber, other_reader: list[Reading], capfd: pytest.CaptureFixture[str]
) -> None:
    other.score(wave(other_reader[0]), "anything")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_missing_model_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="ostiary models build"):
        WhisperCpp(tmp_path / "none.bin")


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"lmgg" + b"\xff" * 100])
def test_a_damaged_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.bin"
    path.write_bytes(content)
    with pytest.raises(DeviceError, match="ostiary models build"):
        WhisperCpp(path)


def test_a_truncated_model_is_refused(ggml: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.bin"
    path.write_bytes(ggml.read_bytes()[:5_000_000])
    with pytest.raises(DeviceError, match="ostiary models build"):
        WhisperCpp(path)


def test_more_sentences_than_decoders_weigh_what_they_weigh_in_one_pass(
    ggml: Path, other_reader: list[Reading]
) -> None:
    whisper = WhisperCpp(ggml)
    sentences = [
        Sentence(whisper.tokens(f" {word}")) for word in ["one", "two", "three", "four", "five", "six"]
    ]
    sound = wave(other_reader[0])[: 2 * RATE_HZ]
    alone = whisper.listen(sound, sentences)
    many = whisper.listen(sound, [*sentences, *sentences])
    assert len(sentences) <= MAX_SENTENCES < len(many.sentences)
    assert many.free == alone.free
    for found, expected in zip(many.sentences, (*alone.sentences, *alone.sentences), strict=True):
        assert found.tokens == expected.tokens
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-3)
    whisper.close()


def test_a_closed_model_says_so(ggml: Path) -> None:
    whisper = WhisperCpp(ggml)
    whisper.close()
    with pytest.raises(DeviceError, match="closed"):
        whisper.listen(np.zeros(RATE_HZ, dtype=np.float32), [])
