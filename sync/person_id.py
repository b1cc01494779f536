"""The one normal form of a person's id, and of free text that callers send. Pure.

An id comes from badge readers, rules files and callers. Its normal form is upper case, without the dashes,
colons and spaces that one reader sends and the next does not: `alice` and `ALICE` are one person, and so are
`00-045` and `00045`. Letters are Latin with their accents: a look-alike of another alphabet would be a second
person whom nobody can tell from the first.
"""

from __future__ import annotations

import unicodedata

MAX_PERSON_ID = 64
MAX_TEXT = 500
SEPARATORS = ":- "
_ACCENTED = (
    *((0x00C0, 0x0131), (0x0134, 0x0137), (0x0139, 0x013E), (0x0141, 0x0148)),
    *((0x014A, 0x017E), (0x0218, 0x021B), (0x1E80, 0x1E85), (0x1EA0, 0x1EF9)),
)
_CONFUSED = ("LATIN", "GREEK", "CYRILLIC")
_GREEK_MU, _MICRO = "\u03bc", "\u00b5"


class PersonIdError(ValueError):
    """A text is no person's id, or no text that is taken; the message says why, in one line."""


def person_id(text: str) -> str:
    """The normal form of `text`. Raises PersonIdError."""
    if text.isascii() and text.isalnum() and len(text) <= MAX_PERSON_ID:  # nearly all are
        return text.upper()
    kept = "".join(letter for letter in unicodedata.normalize("NFC", text) if letter not in SEPARATORS)
    if not kept:
        raise PersonIdError("it holds no letter or digit")
    for letter in kept:
        if not ("!" <= letter <= "~" or _is_accented(letter)):
            raise PersonIdError(
                f"it holds {letter!a}; letters of the Latin alphabet, digits and common signs may be there"
            )
    kept = unicodedata.normalize("NFC", kept.upper())
    if len(kept) > MAX_PERSON_ID:
        raise PersonIdError(f"it has {len(kept)} characters; {MAX_PERSON_ID} are the most")
    return kept


def plain_text(text: str) -> str:
    """`text` as it is bound and compared: NFC, with ordinary spaces.

    Raises PersonIdError for control characters, and for words that mix look-alike alphabets.
    """
    found = unicodedata.normalize("NFC", text)
    found = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in found)
    if len(found) > MAX_TEXT:
        raise PersonIdError(f"it has {len(found)} characters; {MAX_TEXT} are the most")
    for letter in found:
        if unicodedata.category(letter)[0] in "CZ" and letter != " ":
            raise PersonIdError(f"it holds the control character {letter!a}")
    return " ".join(map(_one_alphabet, found.split(" ")))


def _one_alphabet(word: str) -> str:
    alphabets = {alphabet for letter in word if (alphabet := _alphabet(letter))}
    if alphabets == {"LATIN", "GREEK"} and word.startswith(_GREEK_MU):  # a unit such as \u03bcg
        word = _MICRO + word[1:]
        alphabets = {alphabet for letter in word if (alphabet := _alphabet(letter))}
    if len(alphabets) > 1:
        raise PersonIdError(f"it mixes letters of two alphabets in {word!a}; type it anew")
    return word


def _alphabet(letter: str) -> str:
    if not letter.isalpha() or letter == _MICRO:
        return ""
    first = unicodedata.name(letter, "").split(" ")[0]
    return first if first in _CONFUSED else ""


def _is_accented(letter: str) -> bool:
    inside = any(low <= ord(letter) <= high for low, high in _ACCENTED)
    return inside and unicodedata.category(letter) in ("Lu", "Ll")
