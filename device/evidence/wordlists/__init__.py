"""The words of a unit: those that challenges are made of, and those that can be agreed on as a silent alarm.

`research/vocabulary/select_words.py` writes the lists, and its table beside it says how they were chosen.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def challenge_words() -> tuple[str, ...]:
    """At least 256 different words."""
    words = _listed("challenge.txt")
    if len(words) < 256 or len(set(words)) != len(words):
        raise ValueError("device/evidence/wordlists/challenge.txt must list at least 256 different words")
    return words


@cache
def duress_words() -> tuple[str, ...]:
    """None of them is ever part of a challenge."""
    return _listed("duress.txt")


def _listed(name: str) -> tuple[str, ...]:
    text = (files("device.evidence.wordlists") / name).read_text("utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
