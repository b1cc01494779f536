"""How alike two words sound: weighted edit distance over phonemes, by articulatory features."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache

from quantize.errors import QuantizeError

# Place, manner and voicing of consonants (0 front .. 1 back, 0 stop .. 1 approximant, 0 voiceless, 1 voiced),
# after the IPA chart; vowels by height and backness. Distances are what matters, not the absolute numbers.
_CONSONANTS = {
    **{"p": (0.0, 0.0, 0), "b": (0.0, 0.0, 1), "m": (0.0, 0.5, 1), "f": (0.1, 0.3, 0), "v": (0.1, 0.3, 1)},
    **{
        "θ": (0.25, 0.3, 0),
        "ð": (0.25, 0.3, 1),
        "t": (0.35, 0.0, 0),
        "d": (0.35, 0.0, 1),
        "ɾ": (0.35, 0.1, 1),
    },
    **{
        "n": (0.35, 0.5, 1),
        "s": (0.35, 0.3, 0),
        "z": (0.35, 0.3, 1),
        "l": (0.35, 0.9, 1),
        "ɹ": (0.45, 1.0, 1),
    },
    **{
        "ʃ": (0.5, 0.3, 0),
        "ʒ": (0.5, 0.3, 1),
        "tʃ": (0.5, 0.15, 0),
        "dʒ": (0.5, 0.15, 1),
        "j": (0.6, 1.0, 1),
    },
    **{"r": (0.45, 0.95, 1), "ç": (0.6, 0.3, 0), "x": (0.85, 0.3, 0)},
    **{"ts": (0.35, 0.15, 0), "pf": (0.05, 0.15, 0)},
    **{"k": (0.8, 0.0, 0), "ɡ": (0.8, 0.0, 1), "ŋ": (0.8, 0.5, 1), "w": (0.7, 1.0, 1), "h": (1.0, 0.3, 0)},
}
_VOWELS = {
    **{
        "i": (0.0, 0.0),
        "iː": (0.0, 0.0),
        "ɪ": (0.15, 0.1),
        "ᵻ": (0.2, 0.4),
        "e": (0.35, 0.1),
        "eɪ": (0.3, 0.05),
    },
    **{
        "ɛ": (0.5, 0.15),
        "æ": (0.8, 0.2),
        "a": (1.0, 0.3),
        "aɪ": (0.7, 0.25),
        "aʊ": (0.75, 0.6),
        "ɑː": (1.0, 0.9),
    },
    **{
        "ɑ": (1.0, 0.9),
        "ɔ": (0.7, 0.95),
        "ɔː": (0.65, 0.95),
        "oː": (0.5, 1.0),
        "oʊ": (0.4, 0.9),
        "o": (0.4, 0.9),
    },
    **{
        "ɔɪ": (0.4, 0.6),
        "ʊ": (0.2, 0.85),
        "uː": (0.0, 1.0),
        "u": (0.0, 1.0),
        "ʌ": (0.6, 0.7),
        "ə": (0.5, 0.5),
    },
    **{
        "ɐ": (0.7, 0.5),
        "ɚ": (0.45, 0.6),
        "ɜː": (0.45, 0.55),
        "əl": (0.5, 0.7),
        "iə": (0.2, 0.2),
        "n̩": (0.5, 0.5),
    },
    **{"eː": (0.3, 0.1), "yː": (0.0, 0.3), "ɜ": (0.65, 0.5), "ɔø": (0.4, 0.5)},
    **{"ɪɹ": (0.2, 0.25), "ɛɹ": (0.5, 0.3), "ʊɹ": (0.3, 0.8), "oːɹ": (0.5, 0.95), "ɔːɹ": (0.55, 0.95)},
    **{"ɑːɹ": (0.95, 0.85), "aɪɚ": (0.6, 0.4), "aɪə": (0.65, 0.35), "aʊɚ": (0.65, 0.6)},
}
_GAP = 0.75
_CROSS_CLASS = 1.0


def phonemes(words: Sequence[str], voice: str = "en-us") -> dict[str, tuple[str, ...]]:
    """The phonemes of each word by espeak-ng, stress marks removed."""
    command = ["espeak-ng", "--ipa", "-q", "--sep=_", "-v", voice]
    try:
        done = subprocess.run(
            command, input="\n".join(words), capture_output=True, text=True, check=True, timeout=120
        )
    except (OSError, subprocess.SubprocessError) as err:
        raise QuantizeError(f"espeak-ng is needed for phonemes; apt-get install espeak-ng ({err})") from err
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if len(lines) != len(words):
        raise QuantizeError(f"espeak-ng answered {len(lines)} lines for {len(words)} words")
    return {word: _split(line) for word, line in zip(words, lines, strict=True)}


def _split(line: str) -> tuple[str, ...]:
    plain = line.translate(str.maketrans("", "", "ˈˌ"))
    return tuple(phone for phone in plain.replace(" ", "_").split("_") if phone)


def distance(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    """Edit distance divided by the longer length: 0 for the same sounds, about 1 for unrelated words."""
    row = [j * _GAP for j in range(len(b) + 1)]
    for i, left in enumerate(a, start=1):
        diagonal, row[0] = row[0], i * _GAP
        for j, right in enumerate(b, start=1):
            change = diagonal + _substitution(left, right)
            diagonal = row[j]
            row[j] = min(change, row[j] + _GAP, row[j - 1] + _GAP)
    return row[-1] / max(len(a), len(b))


@cache
def _substitution(left: str, right: str) -> float:
    if left == right:
        return 0.0
    if left in _CONSONANTS and right in _CONSONANTS:
        place, manner, voiced = (
            abs(x - y) for x, y in zip(_CONSONANTS[left], _CONSONANTS[right], strict=True)
        )
        return min(1.0, 0.2 + 0.5 * place + 0.6 * manner + 0.15 * voiced)
    if left in _VOWELS and right in _VOWELS:
        height, backness = (abs(x - y) for x, y in zip(_VOWELS[left], _VOWELS[right], strict=True))
        return min(1.0, 0.1 + 0.5 * (height + backness))
    return _CROSS_CLASS
