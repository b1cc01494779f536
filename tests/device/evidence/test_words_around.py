"""What may stand beside a phrase, and what may not."""

from __future__ import annotations

import pytest

from device.evidence.wordlists import challenge_words
from device.evidence.words_around import MOST_WORDS, words_around

PHRASE = "candle bronze apron building"


@pytest.mark.parametrize(
    ("heard", "before", "after"),
    [
        ("uh hello candle bronze apron building", ("hello",), ()),
        ("candle bronze apron building thank you", (), ("thank", "you")),
        ("okay so candle bronze apron building please", ("okay", "so"), ("please",)),
        ("candle candle bronze apron building and bye", (), ("and", "bye")),
        ("sorry wait candle bronze apron building", ("sorry", "wait"), ()),
        ("candle bronze candle bronze apron building", ("candle", "bronze"), ()),
        ("hello candle bronze apron buildings", ("hello",), ()),
    ],
)
def test_words_that_people_say_may_stand_beside_the_phrase(heard, before, after):
    found = words_around(heard, PHRASE)
    assert found is not None
    assert (found.before, found.after) == (before, after)
    assert found.agreement > 0.9


@pytest.mark.parametrize(
    "heard",
    [
        "candle bronze apron building",
        "actor candle bronze apron building",
        "candle bronze apron building album",
        "candle bronze apron building no",
        "candle bronze apron building sorry I mean window",
        "not candle bronze apron building",
        "cancel candle bronze apron building",
        "three candle bronze apron building",
        "candle bronze apron building X",
        "bronze candle candle bronze apron building",
        "hello there",
        "hello candle stone door window",
        "",
    ],
)
def test_another_phrase_and_what_takes_it_back_may_not(heard):
    assert words_around(heard, PHRASE) is None


def test_a_recording_of_many_phrases_gains_nothing():
    words = challenge_words()
    for first in range(0, 40, 7):
        many = " ".join((*words[first : first + 3], *PHRASE.split(), *words[first + 50 : first + 52]))
        assert words_around(many, PHRASE) is None
    digits = "3 1 4 1 5 9 2 6"
    assert words_around(digits, "1 4 1 5") is None


def test_only_a_few_words_may_stand_there():
    chatter = ["well", "good", "morning", "to", "you", "all", "dear"]
    assert words_around(" ".join([*chatter[:MOST_WORDS], PHRASE]), PHRASE) is not None
    assert words_around(" ".join([*chatter, PHRASE]), PHRASE) is None
