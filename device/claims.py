"""Who somebody says they are: a badge, a spoken name or number, or nothing and the voice alone must find
them.

A claim decides nothing. It says against whose voiceprint the evidence is held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from device.errors import DeviceError
from device.judge import SpeakerCheck
from device.rules import Rules

MAX_BADGE_CHARACTERS = 32
_STX, _ETX = 0x02, 0x03


class ClaimError(DeviceError):
    """What a reader sent is no badge, or the reader went away."""


class ClaimKind(StrEnum):
    """How a person was named."""

    BADGE = "badge"
    SPOKEN = "spoken"
    TYPED = "typed"


@dataclass(frozen=True, slots=True)
class Claim:
    """`uid` is empty when what was shown or said names nobody we know; the door does not tell."""

    kind: ClaimKind
    uid: str


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

        the longest name or number in it, if it is one person's.
        """
        found = {said: uid for said, uid in self.by_spoken.items() if said and _contains(tokens, said)}
        # "4 5" inside "4 5 1 2" is part of a longer number, not a second person.
        whole = {
            uid for said, uid in found.items() if not any(said != o and _contains(o, said) for o in found)
        }
        return Claim(ClaimKind.SPOKEN, whole.pop() if len(whole) == 1 else "")


def _plain(badge: str) -> str:
    return "".join(character for character in badge.upper() if character.isalnum())


def _contains(tokens: Tokens, said: Tokens) -> bool:
    return any(tokens[at : at + len(said)] == said for at in range(len(tokens) - len(said) + 1))


@dataclass(frozen=True, slots=True)
class Identification:
    """The person whose voiceprint fits best, out of `among`."""

    uid: str
    llr: float
    runner_up_llr: float
    among: int

    def threshold_llr(self, verification_llr: float) -> float:
        """One comparison's threshold raised by ln N: the chance that any of N strangers' templates fits by
        accident
        is at most N times that of one, so the false acceptance rate at the door stays what it was."""
        return verification_llr + math.log(self.among)


class Gallery:
    """Every voiceprint that may pass a door, as one matrix. Open set: the best fit can still be nobody."""

    def __init__(self, templates: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """`templates`:

        uid to unit-norm float32 of shape (d,). Raises ClaimError when they do not fit together.
        """
        self._uids = tuple(templates)
        rows = [np.asarray(template, dtype=np.float32) for template in templates.values()]
        if any(row.ndim != 1 or row.shape != rows[0].shape for row in rows):
            raise ClaimError("voiceprints of different models cannot be searched together; enrol again")
        self._matrix = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
        norms = np.linalg.norm(self._matrix, axis=1)
        if not np.all(np.abs(norms - 1.0) < 1e-3):
            raise ClaimError("a voiceprint is not of unit length; it was damaged or is of another model")

    def __len__(self) -> int:
        return len(self._uids)

    def identify(self, probe: npt.NDArray[np.float32], speaker: SpeakerCheck) -> Identification | None:
        """The best fit to `probe` (unit norm), or None when there is nobody to compare with or no usable
        probe.
        """
        if not self._uids or probe.shape != self._matrix.shape[1:] or not np.all(np.isfinite(probe)):
            return None
        scores = self._matrix @ probe
        best = int(scores.argmax())
        llr = speaker.llr(probe, self._matrix[best])
        runner_up_llr = -math.inf
        if len(scores) > 1:
            scores[best] = -np.inf
            runner_up_llr = speaker.llr(probe, self._matrix[int(scores.argmax())])
        return Identification(self._uids[best], llr, runner_up_llr, len(self._uids))

    def wipe(self) -> None:
        """Overwrite the voiceprints."""
        self._matrix[:] = 0.0
