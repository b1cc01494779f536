"""The words of a unit: those that challenges are made of, and those that can be agreed on as a silent alarm.

`research/vocabulary/select_words.py` writes the lists, and its table beside it says how they were chosen;
`research/vocabulary/seldom_said.py` writes which of them people seldom say. Each language has its own; German
ones come from `research/vocabulary/german/select_words.py`, written as on the display, nouns with capitals.
"""

from __future__ import annotations

from functools import cache, partial

from device.evidence.vocabulary import Language
from device.own_files import own_file

LEAST_WORDS = 256
"""Of a list that challenges are made of: fewer would be easier to guess than what is stated."""

SELDOM_WORDS = 64
"""Of the challenge words, those that people say least often: an hour of anybody's speech holds hardly one."""


@cache
def challenge_words(language: Language = Language.ENGLISH) -> tuple[str, ...]:
    """At least LEAST_WORDS different words. Raises DeviceError for any other list."""
    return own_file("device.evidence.wordlists", file_name("challenge", language), _words)


@cache
def seldom_words(language: Language = Language.ENGLISH) -> tuple[str, ...]:
    """SELDOM_WORDS of the challenge words. Raises DeviceError for any other list."""
    return own_file("device.evidence.wordlists", file_name("seldom", language), partial(_seldom, language))


@cache
def duress_words(language: Language = Language.ENGLISH) -> tuple[str, ...]:
    """None of them is ever part of a challenge. Raises DeviceError where the list cannot be read."""
    return own_file("device.evidence.wordlists", file_name("duress", language), _listed)


def file_name(kind: str, language: Language) -> str:
    """Of the list of that kind, beside this module."""
    return f"{kind}.txt" if language is Language.ENGLISH else f"{kind}-{language}.txt"


def _words(data: bytes) -> tuple[str, ...]:
    words = _listed(data)
    if len(words) < LEAST_WORDS or len(set(words)) != len(words):
        raise ValueError(f"it must list at least {LEAST_WORDS} different words")
    return words


def _seldom(language: Language, data: bytes) -> tuple[str, ...]:
    words = _listed(data)
    if len(words) != SELDOM_WORDS or len(set(words) & set(challenge_words(language))) != SELDOM_WORDS:
        raise ValueError(f"it must list {SELDOM_WORDS} different challenge words")
    return words


def _listed(data: bytes) -> tuple[str, ...]:
    return tuple(line for line in data.decode().splitlines() if line and not line.startswith("#"))
