"""Phrases as people say them: one canonical spelling, rivals for the words check, loops, redaction. Pure."""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache

from device.evidence import german
from device.evidence.vocabulary import (
    ABBREVIATIONS,
    DIGITS,
    HESITATIONS,
    INVENTED,
    LETTERS,
    NATO,
    ORDINALS,
    REPEATS,
    SCALES,
    TEENS,
    TENS,
    WORDS,
    Language,
)
from device.evidence.wordlists import challenge_words, duress_words

Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhraseScore:
    """Whether the expected words were said. `transcript` explains; only `llr` counts."""

    llr: float
    transcript: str
    agreement: float = 1.0
    """Of the transcript, as it is here, with the phrase, in [0, 1]."""


REDACTED = "…"
MAX_PHRASE_WORDS = 40
_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]|\*[^*]*\*|♪[^♪]*♪?")
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?|\d")
_PIECE = re.compile(r" ?[A-Za-z0-9'äöüßÄÖÜẞ]+|[^A-Za-z0-9'äöüßÄÖÜẞ ]")
_YEAR = re.compile(r"[\s,]*\b(?:19|20)\d\d\b")
_ORDINAL_END = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b", re.IGNORECASE)
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[‘’ʼ‛′´`](?=[^\W\d_])")
_ZERO_WIDTH_SPACE = "\u200b"
_NUMBER_WORDS = {**DIGITS, **TEENS, **TENS}


def plain(phrase: str) -> str:
    """`phrase` in NFKC with single blanks: no-break spaces, tabs and line ends part words as blanks do.
    Soft hyphens, joiners and marks of direction, which word processors leave unseen, are no part of it, and
    whatever is typed for an apostrophe is one."""
    seen = unicodedata.normalize("NFKC", _APOSTROPHE.sub("'", phrase.replace(_ZERO_WIDTH_SPACE, " ")))
    return " ".join("".join(one for one in seen if unicodedata.category(one) != "Cf").split())


def unsayable(phrase: str, language: Language = Language.ENGLISH) -> str:
    """The first letter of another alphabet, some of which look like ours, or the first sign that is read
    aloud, each person in their own words (`%`, `&`, `£`, a picture); empty when there is none. Nobody could
    answer such a phrase."""
    folded = _folded(phrase) if language is Language.ENGLISH else german.folded(plain(phrase))
    return next((one for one in folded if _is_foreign(one) or _is_read_aloud(one)), "")


def _is_foreign(letter: str) -> bool:
    return letter.isalpha() and not letter.isascii()


def _is_read_aloud(sign: str) -> bool:
    return sign in "%&@#" or unicodedata.category(sign) in ("Sc", "Sm", "So")


def _folded(text: str) -> str:
    """As `plain`, without accents, with digits of any script as 0 to 9."""
    if text.isascii():
        return plain(text)
    apart = unicodedata.normalize("NFD", plain(text))
    return "".join(
        str(unicodedata.decimal(one)) if one.isdecimal() else one
        for one in apart
        if unicodedata.category(one) != "Mn"
    )


def normalise(text: str, language: Language = Language.ENGLISH) -> Tokens:
    """`text` as lower-case words, single digits and single letters, whichever way it was written or
    spelled. "Fifty-one", "51" and "five one" agree, as do "A.B.", "AB" and "alpha bravo", or "double two"
    and "22". Hesitations go, and a stammered word counts once; repeated digits and letters stay. Spoken
    text of another `language` has its own numbers and hesitations, and no "double two"."""
    if language is Language.GERMAN:
        return _without_stammer(_zero_among_digits(german.normal_words(plain(text))))
    words: list[str] = []
    for raw in _WORD.findall(_ORDINAL_END.sub("", _folded(text).replace("’", "'"))):
        word = raw.lower().replace("'", "")
        if raw.isdigit() or len(word) == 1:
            words.append(word)
        elif word in NATO:
            words.append(NATO[word])
        elif word in ORDINALS:
            words.append(ORDINALS[word])
        elif word in ABBREVIATIONS:
            words.append(ABBREVIATIONS[word])
        elif _spelled(raw, text):
            words.extend(word)
        elif word not in HESITATIONS:
            words.append(word)
    return _without_stammer(_zero_among_digits(_repeated(_numbers(words))))


def forms(phrase: str, language: Language = Language.ENGLISH) -> tuple[str, ...]:
    """The ways a transcriber may write `phrase`, plainest first, without doubles."""
    if language is Language.GERMAN:
        return _german_forms(phrase)
    words = [word if len(word) == 1 else word.lower() for word in phrase.split()]
    words = ["I" if word == "i" else word.upper() if len(word) == 1 else word for word in words]
    plain = " ".join(words)
    figures = " ".join(str(_NUMBER_WORDS.get(word, word)) for word in words)
    run = "-".join(words) if all(len(word) == 1 for word in words) else figures
    sentence = plain[:1].upper() + plain[1:] + "."
    if run == plain:  # words only: the transcriber writes sentences, and each form costs a decoder
        return (sentence,)
    return tuple(dict.fromkeys((plain, sentence, run)))


def _german_forms(phrase: str) -> tuple[str, ...]:
    """Nouns keep their capitals, and digits may be written as figures, apart or in a run."""
    words = [word.upper() if len(word) == 1 else word for word in phrase.split()]
    said = " ".join(words)
    sentence = f"{said[:1].upper()}{said[1:]}."
    figures = [str(value) if (value := _german_number(word)) is not None else word for word in words]
    if figures == words:
        return tuple(dict.fromkeys((sentence, ", ".join(words) + ".")))
    return tuple(dict.fromkeys((sentence, " ".join(figures), ", ".join(figures) + ".")))


def _german_number(word: str) -> int | None:
    return german.number(german.folded(word).lower())


def competitors(phrase: str, count: int) -> tuple[str, ...]:
    """`count` other phrases of the same shape, in turn one word away and wholly different; the same for
    the same phrase. A word's rival is of its own class: a digit, a letter, a word of about its length."""
    words = phrase.lower().split()
    if not words:
        return ()
    seed = hashlib.sha256(" ".join(words).encode()).digest()
    dice = random.Random(seed)  # noqa: S311 - a fixed choice, not a secret
    chosen: list[str] = []
    taken = {normalise(phrase)}
    for _ in range(20 * count):
        if len(chosen) == count:
            break
        rival = list(words)
        places = [dice.randrange(len(words))] if len(chosen) % 2 == 0 else range(len(words))
        for place in places:
            rival[place] = another(words[place], dice)
        text = " ".join(rival)
        if normalise(text) not in taken:
            taken.add(normalise(text))
            chosen.append(text)
    return tuple(chosen)


def pieces(form: str) -> tuple[str, ...]:
    """A written form cut where tokens begin, blanks kept in front: " enter", " 5", "-", "0"."""
    return tuple(_PIECE.findall(" " + form))


def alternatives(piece: str, language: Language = Language.ENGLISH) -> tuple[str, ...]:
    """What else of its class could stand in a piece's place, written the same way; often nothing."""
    if language is Language.GERMAN:
        return _german_alternatives(piece)
    blank, word = (" ", piece[1:]) if piece.startswith(" ") else ("", piece)
    if not word[:1].isalnum():
        return ()
    plain = word.lower()
    if word.isdigit():
        others = [str(value) for value in (range(11) if len(word) == 1 else range(10, 100))]
    else:
        others = [*_class_of(plain), *(("ten",) if plain in DIGITS else ())]
    if word.isupper() and len(word) == 1:
        others = [other.upper() if len(other) == 1 else other.capitalize() for other in others]
    elif word[:1].isupper():
        others = [other.capitalize() for other in others]
    return tuple(blank + other for other in others if other.lower() != plain)


def _german_alternatives(piece: str) -> tuple[str, ...]:
    """Of a figure other figures, of a digit's word other digits, of a word the other words of challenges."""
    blank, word = (" ", piece[1:]) if piece.startswith(" ") else ("", piece)
    if not word[:1].isalnum():
        return ()
    if word.isdigit():
        others = [str(value) for value in (range(11) if len(word) == 1 else range(10, 100))]
    elif _german_number(word) is not None:
        others = [one.capitalize() if word[:1].isupper() else one for one in (*german.SAID, "zwo", "zehn")]
    elif len(word) == 1:
        others = [one.upper() for one in LETTERS]
    else:
        others = list(challenge_words(Language.GERMAN))
    return tuple(blank + other for other in others if other != word)


def agreement(transcript: str, phrase: str, language: Language = Language.ENGLISH) -> float:
    """How much of `phrase` the transcript holds, in [0, 1]: one less the edit distance of their letters."""
    heard, meant = "".join(normalise(transcript, language)), "".join(normalise(phrase, language))
    longest = max(len(heard), len(meant))
    return 1.0 - _edit_distance(heard, meant) / longest if longest else 0.0


def said_in_full(transcript: str, phrase: str, language: Language = Language.ENGLISH) -> bool:
    """Whether the transcript, redacted or not, is the phrase, all of it and nothing else."""
    return REDACTED not in transcript and agreement(transcript, phrase, language) == 1.0


def is_invented(transcript: str, language: Language = Language.ENGLISH) -> bool:
    """True for nothing at all, for "(soft music)", and for what Whisper makes up when nobody speaks."""
    if language is Language.GERMAN:
        heard = normalise(_YEAR.sub(" ", _ASIDE.sub(" ", transcript)), language)
        return " ".join(heard) in german.INVENTED
    return " ".join(normalise(_ASIDE.sub(" ", transcript))) in INVENTED


def before_loop(tokens: Sequence[object]) -> int | None:
    """How many leading tokens to keep when `tokens` ends in a loop: up to its first round. None without
    one. A round must come three times, a single token six times: "four four four" is a code."""
    for period in range(1, len(tokens) // 3 + 1):
        repeats = 3 if period > 1 else 6
        start = len(tokens) - period * repeats
        if start >= 0 and all(tokens[at] == tokens[at - period] for at in range(start + period, len(tokens))):
            return start + period
    return None


def redact(transcript: str, phrase: str, language: Language = Language.ENGLISH) -> str:
    """The transcript with a mark for every run of words outside the challenge's vocabulary. Digits and
    letters stay only in their place; possible duress words stay, for the policy looks for them."""
    meant, heard = normalise(phrase, language), normalise(transcript, language)
    blocks = SequenceMatcher(None, meant, heard, autojunk=False).get_matching_blocks()
    in_place = {at for block in blocks for at in range(block.b, block.b + block.size)}
    known = {*meant, *alarm_words()}
    return _marked(
        heard, [at in in_place if len(word) == 1 else word in known for at, word in enumerate(heard)]
    )


def redact_claim(transcript: str, vocabulary: Iterable[str], language: Language = Language.ENGLISH) -> str:
    """As `redact` for what a person says of who they are: any digit and letter stays, for an id has them."""
    heard = normalise(transcript, language)
    known = {*normalise(" ".join(vocabulary), language), *alarm_words()}
    return _marked(heard, [len(word) == 1 or word in known for word in heard])


@cache
def alarm_words() -> frozenset[str]:
    """The duress words of every language in their canonical spelling: what is heard of them stays."""
    return frozenset(word for one in Language for said in duress_words(one) for word in normalise(said, one))


def _marked(words: Tokens, kept: Sequence[bool]) -> str:
    """`words` with one mark for each run that is not kept."""
    shown: list[str] = []
    for word, stays in zip(words, kept, strict=True):
        if stays:
            shown.append(word)
        elif shown[-1:] != [REDACTED]:
            shown.append(REDACTED)
    return " ".join(shown)


def _spelled(raw: str, text: str) -> bool:
    """A run of capitals such as "WFSOL" is spelled out, unless the whole text shouts."""
    return raw.isupper() and raw.isalpha() and any(letter.islower() or letter.isdigit() for letter in text)


def _numbers(words: list[str]) -> list[str]:
    """Number words as digits: "four thousand three hundred and eighty six" and "4386" agree."""
    digits: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "a" and words[at + 1 : at + 2] in (["hundred"], ["thousand"]):
            words = [*words[:at], "one", *words[at + 1 :]]
        if words[at] in _NUMBER_WORDS:
            value, used = _spoken_number(words[at:])
            digits.extend(value)
            at += used - 1
        else:
            digits.append(word)
        at += 1
    return digits


def _spoken_number(words: list[str]) -> tuple[str, int]:
    """The digits of the number that `words` begins with, and how many words it took."""
    total = current = used = 0
    scaled = False
    last = ""
    for word in words:
        if word in SCALES and used:
            scaled = True
            if SCALES[word] == 100:
                current *= 100
            else:
                total, current = total + current * 1000, 0
        elif word == "and" and scaled and used < len(words) - 1 and words[used + 1] in _NUMBER_WORDS:
            pass
        elif word in TENS and (not used or last in SCALES or last == "and"):
            current += TENS[word]
        elif word in TEENS and (not used or last in SCALES or last == "and"):
            current += TEENS[word]
        elif word in DIGITS and (
            not used or last in SCALES or last == "and" or (last in TENS and word not in ("zero", "oh"))
        ):
            current += DIGITS[word]
        else:
            break
        last = word
        used += 1
    return str(total + current), used


def _repeated(words: list[str]) -> list[str]:
    """ "Double two" as two digits, "triple x" as three letters; but "double u" is a letter of its own."""
    said: list[str] = []
    for word in reversed(words):
        following = said[-1] if said else ""
        if word == "double" and following in ("u", "you"):
            said[-1] = "w"
        elif word in REPEATS and len(following) == 1:
            said.extend(following * (REPEATS[word] - 1))
        else:
            said.append(word)
    return said[::-1]


def _zero_among_digits(words: list[str]) -> list[str]:
    """The letter O beside a digit is a zero, and so is each of several."""
    said = list(words)
    for places in (range(1, len(said)), range(len(said) - 2, -1, -1)):
        step = places.step
        for at in places:
            if said[at] == "o" and said[at - step].isdigit():
                said[at] = "0"
    return said


def _without_stammer(words: list[str]) -> Tokens:
    return tuple(
        word for before, word in zip(["", *words], words, strict=False) if word != before or len(word) == 1
    )


def _class_of(word: str) -> Sequence[str]:
    """The closed class a word belongs to, or else the common words of about its length."""
    kinds: tuple[Sequence[str], ...] = (tuple(DIGITS), (*TEENS, *TENS), LETTERS, tuple(NATO))
    found = next((kind for kind in kinds if word in kind), None)
    if found is not None:
        return found
    return [other for other in WORDS if abs(len(other) - len(word)) <= 2] or WORDS


def another(word: str, dice: random.Random) -> str:
    """Another word of the same class."""
    if word.isdigit():
        return "".join(dice.choice("0123456789") for _ in word)
    return dice.choice([other for other in _class_of(word) if other != word])


def _edit_distance(left: str, right: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(right) + 1))
    for at, letter in enumerate(left, 1):
        diagonal, row[0] = row[0], at
        for place, other in enumerate(right, 1):
            diagonal, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, diagonal + (letter != other)),
            )
    return row[-1]
