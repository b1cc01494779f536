"""One-time phrases: bound to unit, door, person, transaction and time, good for one answer.

No clock decides that. A challenge carries the epoch of the process that issued it, a counter that rises with
every start, and a number within it: a restart ends every open challenge, and setting the clock back revives
none.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import cbor2

from device.access.decision import Decision, Notice, Outcome, Reason, RefusalError
from device.clock import Now
from device.errors import DeviceError
from device.evidence.vocabulary import Language
from device.evidence.wordlists import challenge_words, seldom_words
from device.evidence.wordlists.sentences import CARRIERS, DIGITS, SENTENCE_WORDS
from device.secure_store.signing import Mac

NONCE_BYTES = 16
_PURPOSE = "challenge"
_DRAWS = 64
_OPEN_LIMIT = 256
MAX_SAID = 8
"""Characters of a transaction id that anybody wants to read aloud."""


class ChallengeError(DeviceError):
    """A challenge could not be issued."""


class Style(StrEnum):
    """How a challenge is worded."""

    WORDS = "words"
    SENTENCE = "sentence"
    DIGITS = "digits"
    CODE = "code"


OFFERED = (Style.WORDS, Style.DIGITS)
"""What every language has. The carriers of `sentence` and `code` are English."""


@dataclass(frozen=True, slots=True)
class ChallengeSettings:
    """What a phrase is made of, and for how long it is good. Bits that a guess must get right: `words`
    36.4 (3 different ones of the 64 that people say least often, 2 of the other 192), `sentence` 31.5 (one of
    16 carriers; 3 and 1 of them), `digits` 18.7 (6, one of them twice but never in a row), `code` 16 (4
    hexadecimal characters)."""

    style: Style = Style.WORDS
    words: int = 5
    digits: int = 6
    lifetime_s: float = 20.0
    """From display to the start of speech."""

    def __post_init__(self) -> None:
        if not 3 <= self.words <= 10 or not 4 <= self.digits <= 12:
            raise ValueError("a challenge has 3 to 10 words or 4 to 12 digits")
        if not 2.0 <= self.lifetime_s <= 120.0:
            raise ValueError("a challenge lives for 2 to 120 seconds")


@dataclass(frozen=True, slots=True)
class Binding:
    """What a challenge is good for, and nothing else. `person` is empty when nobody is claimed."""

    unit: str
    door: str
    person: str = ""
    transaction: str = ""
    transaction_text: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A phrase to say once. `phrase` is what is judged; `display` is how it is shown."""

    binding: Binding
    style: Style
    phrase: str
    display: str
    epoch: int
    sequence: int
    nonce: bytes
    issued_at: str
    """Wall clock, ISO 8601: part of the hash and of the record, never of the expiry."""
    issued_s: float
    """Monotonic, in the issuing process."""
    lifetime_s: float
    tag: bytes
    language: Language = Language.ENGLISH
    """In which `phrase` is said."""

    @property
    def code(self) -> str:
        """The four characters of a `code` challenge; empty for the other styles."""
        return self.display[-4:] if self.style is Style.CODE else ""

    @property
    def challenge_id(self) -> str:
        return f"{self.epoch}-{self.sequence}"


class PhraseMemory(Protocol):
    """Remembers what was shown, across restarts, for the configured horizon."""

    def shown_before(self, digest: bytes) -> bool: ...

    def remember(self, digest: bytes) -> None: ...


def pieces_to_paste(settings: ChallengeSettings) -> int:
    """How many words, digits or characters of a person an attacker who may choose them must have recorded to
    paste together every second challenge; the carriers of `sentence` and `code` come on top."""
    if settings.style in (Style.DIGITS, Style.CODE):
        vocabulary, drawn = (10, settings.digits) if settings.style is Style.DIGITS else (16, 4)
        return math.ceil(float(vocabulary * 0.5 ** (1.0 / drawn)))
    words = settings.words if settings.style is Style.WORDS else SENTENCE_WORDS
    seldom, rare = seldom_in(words), len(seldom_words())
    others = len(challenge_words()) - rare
    shares = [0.5 / (have / rare) ** seldom for have in range(1, rare + 1)]
    beside = [float(others * share ** (1.0 / (words - seldom))) for share in shares]
    return min(have + math.ceil(more) for have, more in enumerate(beside, 1) if more <= others)


@dataclass(slots=True)
class _Open:
    """A challenge that can be redeemed, and since when its phrase can be read."""

    challenge: Challenge
    shown_s: float | None = None

    @property
    def since_s(self) -> float:
        return self.challenge.issued_s if self.shown_s is None else self.shown_s


class ChallengeBook:
    """Issues and redeems challenges. Open ones live in memory only, so a restart closes them all."""

    def __init__(
        self,
        unit: str,
        epoch: int,
        mac: Mac,
        memory: PhraseMemory,
        *,
        nonces: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._unit = unit
        self._epoch = epoch
        self._mac = mac
        self._memory = memory
        self._nonces = nonces
        self._open: dict[int, _Open] = {}
        self._sequence = 0

    def issue(
        self,
        binding: Binding,
        settings: ChallengeSettings,
        now: Now,
        own_phrase: str = "",
        language: Language = Language.ENGLISH,
    ) -> Challenge:
        """A fresh challenge, or one of the caller's `own_phrase`. Raises ChallengeError when every phrase
        drawn, or the caller's, was shown within the horizon, and for a style that `language` lacks."""
        if binding.unit != self._unit:
            raise ChallengeError(f"this is unit {self._unit}, not {binding.unit}")
        if why := lacks(settings.style, language):
            raise ChallengeError(why)
        self._drop_expired(now)
        self._sequence += 1
        for _ in range(1 if own_phrase else _DRAWS):
            challenge = self._draw(binding, settings, now, language)
            if own_phrase:
                challenge = replace(challenge, phrase=own_phrase, display=own_phrase)
                challenge = replace(challenge, tag=self._tag(challenge))
            digest = self._mac("phrase-memory", challenge.phrase.encode())[:8]
            if not self._memory.shown_before(digest):
                self._memory.remember(digest)  # durable before it is displayed
                self._open[challenge.sequence] = _Open(challenge)
                return challenge
        if own_phrase:
            raise ChallengeError("this phrase was shown lately; a recording of it may exist, so take another")
        raise ChallengeError("every phrase drawn was shown lately; give the risk class longer challenges")

    def shown(self, challenge: Challenge, now: Now) -> None:
        """The phrase is on the display since `now`, which may be long after it was drawn: nobody could read
        it before. The first time counts."""
        held = self._open.get(challenge.sequence)
        if held is not None and held.shown_s is None:
            held.shown_s = now.monotonic_s

    def withdraw(self, door: str) -> None:
        """Close what is open at this door: another person stepped up, or the first walked away."""
        for sequence in [s for s, held in self._open.items() if held.challenge.binding.door == door]:
            del self._open[sequence]

    def redeem(self, challenge: Challenge, *, door: str, person: str, speech_began_s: float) -> Challenge:
        """The authentic challenge, used up from here on. Raises RefusalError with the denial otherwise."""
        # 1. Authentic: every field as this unit issued it.
        if not hmac.compare_digest(challenge.tag, self._tag(challenge)):
            raise _replay(Reason.CHALLENGE_FORGED, "this challenge was not issued by this unit")
        # 2. From this start of the unit.
        if challenge.epoch != self._epoch:
            raise _replay(
                Reason.CHALLENGE_BEFORE_RESTART, "this challenge was shown before the unit restarted"
            )
        # 3. Open, and from now on not.
        held = self._open.pop(challenge.sequence, None)
        if held is None:
            raise _replay(Reason.CHALLENGE_USED, "this challenge was already used or withdrawn")
        # 4. Here, and for this person.
        if challenge.binding.door != door:
            raise _replay(
                Reason.CHALLENGE_OTHER_DOOR, f"this challenge was shown at {challenge.binding.door}"
            )
        if challenge.binding.person != person:
            raise _replay(Reason.CHALLENGE_OTHER_PERSON, "this challenge was shown to somebody else")
        # 5. In time. A start before it was drawn is as wrong as one too late after it was shown.
        age_s = speech_began_s - held.since_s
        if not (challenge.issued_s <= speech_began_s and age_s <= challenge.lifetime_s):
            raise _expired(
                f"speech began {age_s:.0f} s after the phrase was shown; {challenge.lifetime_s:.0f} s allowed"
            )
        return challenge

    def _drop_expired(self, now: Now) -> None:
        """Forget what nobody can redeem any more, and the oldest when too many are open."""
        for sequence, held in list(self._open.items()):
            late = now.monotonic_s - held.since_s > held.challenge.lifetime_s + 60.0
            if late or len(self._open) >= _OPEN_LIMIT:
                del self._open[sequence]

    def _draw(self, binding: Binding, settings: ChallengeSettings, now: Now, language: Language) -> Challenge:
        blank = Challenge(
            binding=binding,
            style=settings.style,
            phrase="",
            display="",
            epoch=self._epoch,
            sequence=self._sequence,
            nonce=self._nonces(NONCE_BYTES),
            issued_at=now.wall.isoformat(),
            issued_s=now.monotonic_s,
            lifetime_s=settings.lifetime_s,
            tag=b"",
            language=language,
        )
        seed = self._mac(_PURPOSE, _encode(blank))
        phrase, display = _worded(settings, language, seed, binding, self._sequence, self._numbers(seed))
        worded = replace(blank, phrase=phrase, display=display)
        return replace(worded, tag=self._tag(worded))

    def _tag(self, challenge: Challenge) -> bytes:
        return self._mac("challenge-tag", _encode(challenge))

    def _numbers(self, seed: bytes) -> Iterator[int]:
        """Uniform 16-bit numbers drawn from the seed by the keyed hash in counter mode."""
        counter = 0
        while True:
            block = self._mac("challenge-numbers", seed + counter.to_bytes(4, "big"))
            yield from (int.from_bytes(block[at : at + 2], "big") for at in range(0, len(block) - 1, 2))
            counter += 1


def _encode(challenge: Challenge) -> bytes:
    """Every field but the tag, as deterministic CBOR: no two challenges share an encoding."""
    b = challenge.binding
    return cbor2.dumps(
        [
            *(b.unit, b.door, b.person, b.transaction, b.transaction_text),
            *(str(challenge.style), challenge.phrase, challenge.display, challenge.epoch, challenge.sequence),
            *(challenge.nonce, challenge.issued_at, challenge.issued_s, challenge.lifetime_s),
            *(() if challenge.language is Language.ENGLISH else (str(challenge.language),)),
        ],
        canonical=True,
    )


def lacks(style: Style, language: Language) -> str:
    """Why a phrase of `style` cannot be asked for in `language`; empty where it can."""
    if language is Language.ENGLISH or style in OFFERED:
        return ""
    return (
        f"phrases of the style `{style}` are in English only; {language.name.capitalize()} has "
        f"{' and '.join(f'`{one}`' for one in OFFERED)}"
    )


def _worded(
    settings: ChallengeSettings,
    language: Language,
    seed: bytes,
    binding: Binding,
    sequence: int,
    numbers: Iterator[int],
) -> tuple[str, str]:
    """(phrase to say, how it is shown)."""
    if settings.style is Style.CODE:
        # The original scheme: the last four characters of the hash over transaction data, identifiers and
        # time.
        code = seed.hex().upper()[-4:]
        return code_sentence(said_of(binding.transaction) or f"{sequence % 10_000:04d}", code)
    if settings.style is Style.DIGITS:
        digits = _digits(settings.digits, numbers)
        said = " ".join(DIGITS[language][digit] for digit in digits)
        return said, " ".join(str(digit) for digit in digits)
    if settings.style is Style.SENTENCE:
        carrier = CARRIERS[_below(len(CARRIERS), numbers)]
        phrase = carrier.format(*_distinct_words(SENTENCE_WORDS, numbers, language))
    else:
        phrase = " ".join(_distinct_words(settings.words, numbers, language))
    return phrase, phrase


def _digits(count: int, numbers: Iterator[int]) -> list[int]:
    """None twice in a row, which is misheard; one at least twice, for a recording that is pasted twice is
    detected (`device/liveness/joins.py`)."""
    while True:
        digits: list[int] = []
        while len(digits) < count:
            digit = _below(10, numbers)
            if not digits or digit != digits[-1]:
                digits.append(digit)
        if len(set(digits)) < count:
            return digits


def seldom_in(words: int) -> int:
    """How many of a challenge's words are of those that people seldom say: three of five, three of four."""
    return math.ceil(0.6 * words)


def _distinct_words(count: int, numbers: Iterator[int], language: Language) -> list[str]:
    """In any order. What nobody says by the way is in nobody's recordings, and cannot be pasted."""
    seldom = seldom_words(language)
    others = [word for word in challenge_words(language) if word not in seldom]
    rare = seldom_in(count)
    left = [*_few(rare, seldom, numbers), *_few(count - rare, others, numbers)]
    return _few(count, left, numbers)


def _few(count: int, words: Sequence[str], numbers: Iterator[int]) -> list[str]:
    """So many different ones, in the order in which they were drawn."""
    chosen: list[str] = []
    while len(chosen) < count:
        word = words[_below(len(words), numbers)]
        if word not in chosen:
            chosen.append(word)
    return chosen


def code_sentence(transaction: str, code: str) -> tuple[str, str]:
    """The sentence of the original system: (as it is judged, as it is shown). People read both codes out
    character by character, and the words check hears them better written so."""
    said = said_of(transaction)
    sentence = "I approve the transaction {} with the code {}"
    return sentence.format(" ".join(said), " ".join(code)), sentence.format(said, code)


def said_of(transaction: str) -> str:
    """What of a transaction id is said aloud: all of a short one, the last four characters of a long one."""
    letters = "".join(c for c in transaction if c.isascii() and c.isalnum())
    return transaction if transaction == letters and len(transaction) <= MAX_SAID else letters[-4:]


def _below(bound: int, numbers: Iterator[int]) -> int:
    """Uniform in [0, bound): numbers from the uneven tail are thrown away."""
    fair = 65_536 - 65_536 % bound
    return next(number for number in numbers if number < fair) % bound


def _replay(code: Reason, reason: str) -> RefusalError:
    return RefusalError(Decision(Outcome.DENIED_REPLAY, code, reason, Notice.REFUSED))


def _expired(reason: str) -> RefusalError:
    return RefusalError(Decision(Outcome.DENIED_EXPIRED, Reason.CHALLENGE_EXPIRED, reason, Notice.TOO_LATE))
