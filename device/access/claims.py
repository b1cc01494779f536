"""Who somebody says they are: a badge, a spoken name or number, or nothing at all.

A claim decides nothing. It says against whose voiceprint the evidence is held; without one,
`device/evidence/gallery.py` searches among everybody who may pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from device.access.rules import Rules
from device.errors import DeviceError

MAX_BADGE_CHARACTERS = 32
MIN_SPOKEN_DIGITS = 3
_STX, _ETX = 0x02, 0x03


class ClaimError(DeviceError):
    """What a reader sent is no badge, or the reader went away."""


class ClaimKind(StrEnum):
    """How a person was named."""

    BADGE = "badge"
    SPOKEN = "spoken"
    BUTTON = "button"
    """Somebody is there and showed no badge."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`uid` is empty when nobody was named, or what was said could not be understood."""

    kind: ClaimKind
    uid: str = ""


class BadgeDecoder:
    """Bytes of a keyboard-wedge or serial reader to badge numbers.

    Readers send digits and letters ended by CR or LF, often between STX and ETX and with a facility code
    before a colon, dash or space. A number must come in one burst: what lies `gap_s` apart is a new badge or
    somebody typing.
    """

    def __init__(self, gap_s: float = 0.5) -> None:
        self._gap_s = gap_s
        self._seen = bytearray()
        self._last_s = -math.inf
        self._spoilt = False

    def feed(self, data: bytes, now_s: float) -> Iterator[str]:
        """Each complete badge number in `data`, upper case, separators removed."""
        if now_s - self._last_s > self._gap_s:
            self._start_over()
        self._last_s = now_s
        for byte in data:
            if byte == _STX:
                self._start_over()
            elif byte in (0x0D, 0x0A, _ETX):
                badge = self._seen.decode("ascii").upper()
                spoilt = self._spoilt
                self._start_over()
                if badge and not spoilt:
                    yield badge
            elif chr(byte) in ":- ":
                continue
            elif byte < 0x80 and chr(byte).isalnum() and len(self._seen) < MAX_BADGE_CHARACTERS:
                self._seen.append(byte)
            else:
                self._spoilt = (
                    True  # a control sequence, noise on the line, or far too long: drop it to its end
                )

    def _start_over(self) -> None:
        self._seen.clear()
        self._spoilt = False


def badges(stream: BinaryIO, clock_s: Iterator[float], gap_s: float = 0.5) -> Iterator[str]:
    """Badge numbers from an unbuffered stream (a serial port, a wedge in raw mode) until it ends."""
    decoder = BadgeDecoder(gap_s)
    while True:
        try:
            data = stream.read(64)
        except OSError as err:
            raise ClaimError(f"the badge reader went away ({err.strerror}); check its cable") from err
        if not data:
            return
        yield from decoder.feed(data, next(clock_s))


Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Directory:
    """Badges and spoken names or numbers, each of one person."""

    by_badge: Mapping[str, str]
    by_spoken: Mapping[Tokens, str]

    @property
    def spoken_words(self) -> frozenset[str]:
        """Every word of a spoken name or number: what a transcript of a claim may hold besides digits."""
        return frozenset(word for said in self.by_spoken for word in said)

    @classmethod
    def of(cls, rules: Rules, normalise: Callable[[str], Tokens]) -> Directory:
        """From the rules' people. `normalise` makes "forty-five" and "4 5" the same tokens."""
        people = rules.people.values()
        return cls(
            {_plain(badge): person.uid for person in people for badge in person.badges},
            {normalise(person.spoken): person.uid for person in people if person.spoken},
        )

    def badge(self, number: str) -> Claim:
        """The claim that a badge makes; without an owner in the rules its number is the uid itself."""
        return Claim(ClaimKind.BADGE, self.by_badge.get(_plain(number), number))

    def spoken(self, tokens: Tokens) -> Claim:
        """The claim in a transcript's canonical tokens:

        the longest name or number in it, if it is one person's. A number that the rules do not name claims
        the uid of its digits, like a badge: the door does not tell which numbers there are.
        """
        found = {said: uid for said, uid in self.by_spoken.items() if said and _contains(tokens, said)}
        # "4 5" inside "4 5 1 2" is part of a longer number, not a second person.
        whole = {
            uid for said, uid in found.items() if not any(said != o and _contains(o, said) for o in found)
        }
        if not whole and len(tokens) >= MIN_SPOKEN_DIGITS and all(token.isdigit() for token in tokens):
            return Claim(ClaimKind.SPOKEN, "".join(tokens)[:MAX_BADGE_CHARACTERS])
        return Claim(ClaimKind.SPOKEN, whole.pop() if len(whole) == 1 else "")


def _plain(badge: str) -> str:
    return "".join(character for character in badge.upper() if character.isalnum())


def _contains(tokens: Tokens, said: Tokens) -> bool:
    return any(tokens[at : at + len(said)] == said for at in range(len(tokens) - len(said) + 1))
