"""German as people say phrases: one canonical spelling, numbers, words of a closed class. Pure.

In the canonical spelling "ä" is "ae" and "ß" is "ss": "Straße", "STRASSE" and "Strasse" agree, whichever way
an accent is encoded.
"""

from __future__ import annotations

import re
import unicodedata

from device.evidence.vocabulary import NATO

DIGITS = {
    "null": 0, "eins": 1, "zwei": 2, "zwo": 2, "drei": 3, "vier": 4, "fuenf": 5, "sechs": 6, "sieben": 7,
    "acht": 8, "neun": 9,
}  # fmt: skip
SAID = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
"""Digits as a display shows their words and a transcriber may write them."""
TEENS = {
    "zehn": 10, "elf": 11, "zwoelf": 12, "dreizehn": 13, "vierzehn": 14, "fuenfzehn": 15, "sechzehn": 16,
    "siebzehn": 17, "achtzehn": 18, "neunzehn": 19,
}  # fmt: skip
TENS = {
    "zwanzig": 20, "dreissig": 30, "vierzig": 40, "fuenfzig": 50, "sechzig": 60, "siebzig": 70, "achtzig": 80,
    "neunzig": 90,
}  # fmt: skip
NUMBERS = frozenset({*DIGITS, *TEENS, *TENS, "hundert", "tausend"})
ABBREVIATIONS = {"dr": "doktor", "hr": "herr", "fr": "frau", "ok": "okay"}
HESITATIONS = frozenset(
    {"aeh", "aehm", "oeh", "oehm", "eh", "ehm", "ah", "uh", "uhm", "hm", "hmm", "mm", "mhm", "hae"}
)
INVENTED = frozenset(
    {
        "", "vielen dank", "danke", "danke schoen", "tschuess", "bis zum naechsten mal", "das wars", "ja",
        "vielen dank fuers zuschauen", "danke fuers zuschauen", "vielen dank fuer ihre aufmerksamkeit",
        "musik", "applaus", "stille", "amen", "thank you", "you", "untertitelung", "untertitel",
        "untertitel der amara org community", "untertitelung des z d f", "untertitel im auftrag des z d f",
        "untertitel im auftrag des z d f fuer funk", "untertitelung aufgrund der amara org community",
        "das ist ein", "und", "so", "die", "der", "das",
    }
)  # fmt: skip
"""What Whisper writes in German when nobody speaks, without the year that may follow."""
TAKEN_BACK = frozenset(
    {
        "nein", "ne", "nee", "noe", "nicht", "nichts", "nie", "niemals", "kein", "keine", "stopp", "stop",
        "halt", "abbrechen", "abbruch", "falsch", "korrektur", "quatsch", "zurueck",
    }
)  # fmt: skip
"""Beside a phrase, before or after it."""
TAKEN_BACK_AFTER = frozenset(
    {
        "entschuldigung", "verzeihung", "sorry", "moment", "warte", "warten", "irrtum", "fehler", "meine",
        "meinte", "eigentlich", "sondern", "doch", "aber", "vielmehr", "versprochen", "stattdessen",
    }
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z]+|\d")
_UMLAUTS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ẞ": "SS"}
)
_BELOW_HUNDRED = {
    **DIGITS,
    **TEENS,
    **TENS,
    **{
        f"{'ein' if unit == 'eins' else unit}und{ten}": value + of_ten
        for unit, value in DIGITS.items()
        if value
        for ten, of_ten in TENS.items()
    },
}


def folded(text: str) -> str:
    """`text` in letters without marks, digits of any script as 0 to 9."""
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFC", text).translate(_UMLAUTS))
    return "".join(
        str(unicodedata.decimal(one)) if one.isdecimal() else one
        for one in apart
        if unicodedata.category(one) != "Mn"
    )


def normal_words(text: str) -> list[str]:
    """Lower-case words, single digits and letters. "Einundfünfzig", "51" and "fünf eins" agree, as do "zwo"
    and "zwei". Hesitations go."""
    words: list[str] = []
    shouted = not any(letter.islower() or letter.isdigit() for letter in text)
    for raw in _WORD.findall(folded(text)):
        word = raw.lower()
        value = number(word)
        if value is not None:
            words.extend(str(value))
        elif word in NATO:
            words.append(NATO[word])
        elif len(word) > 1 and raw.isupper() and not shouted and word not in ABBREVIATIONS:
            words.extend(word)  # a run of capitals is spelled out
        elif word not in HESITATIONS:
            words.append(ABBREVIATIONS.get(word, word))
    return words


def number(word: str) -> int | None:
    """The number that one canonical word is, up to 999,999: "siebenhundertdreissig"; None for other words."""
    thousands, found, rest = word.partition("tausend")
    if not found:
        return _below_thousand(word)
    many = 1 if thousands in ("", "ein") else _below_thousand(thousands)
    more = 0 if not rest else _below_thousand(rest.removeprefix("und"))
    return None if not many or more is None else many * 1000 + more


def _below_thousand(word: str) -> int | None:
    hundreds, found, rest = word.partition("hundert")
    if not found:
        return _BELOW_HUNDRED.get(word)
    many = 1 if hundreds in ("", "ein") else DIGITS.get(hundreds)
    more = 0 if not rest else _BELOW_HUNDRED.get(rest.removeprefix("und"))
    return None if not many or more is None else many * 100 + more
