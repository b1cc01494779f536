"""Allows words before and after a phrase, such as "uh, hello" and "thank you", if the whole phrase is there.

A few words may stand there: none that could be part of a phrase (so no recording of many phrases), none that
takes back what was said. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from device.evidence import german
from device.evidence.phrase import Tokens, agreement, normalise
from device.evidence.vocabulary import Language
from device.evidence.wordlists import challenge_words

MOST_WORDS = 6
"""Beside the phrase, before and after together."""
LEAST_AGREEMENT = 0.5
"""Of what was heard in the phrase's place: below this, nobody knows where its place is."""
SLACK_WORDS = 2
"""A phrase may be heard as so many words more or fewer than it has."""
ORDINARY_LETTERS = frozenset("aio")
"""One letter, and words of their own: "a", "I", "oh"."""
TAKEN_BACK = frozenset(
    {"no", "not", "nope", "never", "dont", "cancel", "stop", "wrong", "false", "correction"}
)
"""Beside a phrase, before or after it."""
TAKEN_BACK_AFTER = frozenset({"sorry", "wait", "mistake", "mean", "actually", "rather", "instead", "but"})


@dataclass(frozen=True, slots=True)
class WordsAround:
    """What was heard around a phrase, and in its place; words in their canonical spelling."""

    before: Tokens
    after: Tokens
    agreement: float
    """Of what was heard in between with the phrase, in [0, 1]."""


def words_around(transcript: str, phrase: str, language: Language = Language.ENGLISH) -> WordsAround | None:
    """Where in `transcript` the phrase is and what stands around it; None where nothing does, or may."""
    heard, meant = normalise(transcript, language), normalise(phrase, language)
    if not meant or len(heard) <= len(meant) or len(heard) > len(meant) + MOST_WORDS + SLACK_WORDS:
        return None
    windows = [
        (first, first + length)
        for length in range(max(1, len(meant) - SLACK_WORDS), min(len(heard), len(meant) + SLACK_WORDS) + 1)
        for first in range(len(heard) - length + 1)
    ]
    said = " ".join(meant)
    best, (first, last) = max(
        ((agreement(" ".join(heard[first:last]), said), (first, last)) for first, last in windows),
        key=lambda one: (one[0], one[1][0] - one[1][1], one[1][0]),
    )
    before, after = heard[:first], heard[last:]
    if not (before or after) or best < LEAST_AGREEMENT:
        return None
    begun = _false_start(before, meant)
    rest = before[: len(before) - begun]
    if not may_stand(rest, after, meant, language):
        return None
    return WordsAround(before, after, best)


def may_stand(before: Tokens, after: Tokens, meant: Tokens, language: Language = Language.ENGLISH) -> bool:
    """Whether words beside the phrase `meant` are such as people say: of no phrase, and not against it.
    What takes a phrase back does so in every language."""
    every = (*before, *after)
    return (
        len(every) <= MOST_WORDS
        and not any(_of_a_phrase(word, meant, language) for word in every)
        and TAKEN_BACK.isdisjoint(every)
        and TAKEN_BACK_AFTER.isdisjoint(after)
        and not (
            language is Language.GERMAN
            and (german.TAKEN_BACK & {*every} or german.TAKEN_BACK_AFTER & {*after})
        )
    )


def _of_a_phrase(word: str, meant: Tokens, language: Language) -> bool:
    if len(word) == 1:
        ordinary = language is Language.ENGLISH and word in ORDINARY_LETTERS
        return word.isdigit() or not ordinary or word in meant
    return word in meant or word in _listed(language)


@cache
def _listed(language: Language) -> frozenset[str]:
    """The challenge words of a language in their canonical spelling."""
    return frozenset(one for word in challenge_words(language) for one in normalise(word, language))


def _false_start(before: Tokens, meant: Tokens) -> int:
    """How many words at the end of `before` are the phrase's own beginning, said twice."""
    return max(
        n for n in range(min(len(before), len(meant) - 1) + 1) if before[len(before) - n :] == meant[:n]
    )
