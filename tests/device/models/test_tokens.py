"""Byte-pair tokens: the ones that training saw, and back to the same text."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.errors import DeviceError
from device.model_store.bundle import Bundle
from device.model_store.sessions import OnnxSession
from device.models.words.tokens import Vocabulary, vocabulary_text
from device.models.words.whisper_onnx import VOCABULARY

BYTES = [bytes([value]) for value in range(256)]


@pytest.fixture(scope="module")
def vocabulary(models: Path) -> Vocabulary:
    return Vocabulary.from_text(OnnxSession(Bundle.open(models).path("words")).metadata[VOCABULARY])


def test_the_lowest_pair_is_joined_first() -> None:
    vocabulary = Vocabulary([*BYTES, b"ab", b"bc", b"abc"])
    assert vocabulary.tokens("abc") == (258,)
    assert vocabulary.tokens("bcab") == (257, 256)


def test_an_empty_word_keeps_its_number_so_that_the_end_of_text_keeps_its_own() -> None:
    words = [*BYTES, b"ab", b""]
    again = Vocabulary.from_text(vocabulary_text(words))
    assert len(again) == len(words)
    assert again.tokens("abc") == (256, ord("c"))


def test_known_texts_have_the_tokens_that_whisper_was_trained_with(vocabulary: Vocabulary) -> None:
    # From openai/whisper's own tokenizer for English (GPT-2's).
    assert vocabulary.tokens(" hello world") == (23748, 995)
    assert vocabulary.tokens(" 1D3A") == (352, 35, 18, 32)


@pytest.mark.parametrize("text", ["", "a", "Enter 51.", "it's I'll", "naïve café", "x_y  z", "日本", "4,3!"])
def test_every_text_comes_back_as_it_was(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.text(vocabulary.tokens(text)) == text.strip()


def test_tokens_beyond_the_ordinary_ones_say_nothing(vocabulary: Vocabulary) -> None:
    assert vocabulary.text([len(vocabulary), len(vocabulary) + 5]) == ""


def test_a_list_survives_the_file() -> None:
    listed = [*BYTES, b"ab"]
    assert Vocabulary.from_text(vocabulary_text(listed)).tokens("ab") == (256,)


@pytest.mark.parametrize("text", ["", "YQ==", "!!!", "YQ== YQ=="])
def test_a_damaged_list_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="ostiary models build"):
        Vocabulary.from_text(text)
