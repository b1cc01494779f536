"""Does this person take their usual time to start, and speak at their usual pace?

Whoever fits words together, waits for a converter or searches a recording takes longer and speaks at
another's pace. Two numbers, both as logarithms: seconds from the phrase on the display to the voice, and
letters of the phrase per second of speech. Kept are a person's latest values from attempts that opened a
door.

The pace has a weight fitted on people who read sentences (`weights.toml`). The pause has none: no development
recording begins with a prompt. The whole is neutral until a person has `MIN_SEEN` values, small afterwards,
and no rule asks for it unless a site says so (`timing_llr`). A phrase of single digits or letters has no
timing: people spell at another pace each time (AN4: its logarithm spreads by 0.56 within a speaker
and by 0.28 between speakers; read sentences, speechocean762: 0.16 and 0.25).
"""

from __future__ import annotations

import math
import statistics
import struct
from dataclasses import dataclass
from typing import Self

from device.model_store.calibration import Calibration

MIN_SEEN = 8
MAX_SEEN = 32
LEAST_LETTERS_A_WORD = 2.5
LIMIT_LLR = 3.0
"""However unusual: people are late, tired and hurried."""
_FORMAT = 1
_VALUE = struct.Struct(">ff")
# What anybody does: medians and spreads of the logarithms. Pace: 819 phrases of three words and more by
# 110 people (AN4 spells, 6.5 letters a second; speechocean762 reads, 9.1). Time to speech: an assumption,
# wide on purpose.
ANYBODY_START = (math.log(1.2), 0.7)
ANYBODY_PACE = (math.log(8.1), 0.48)
_LEAST_SPREAD = 0.12
_TAIL = 4.0
"""Degrees of freedom: Student's t forgives a cough."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One attempt's two times."""

    to_speech_s: float
    letters_per_s: float

    def __post_init__(self) -> None:
        if not (0.0 < self.to_speech_s < 300.0 and 0.0 < self.letters_per_s < 200.0):
            raise ValueError("timings are positive and human")

    @property
    def logs(self) -> tuple[float, float]:
        return math.log(self.to_speech_s), math.log(self.letters_per_s)


def timing(to_speech_s: float, phrase: str, speech_s: float) -> Timing | None:
    """The timing of one attempt, or None when it is no human's, or the phrase is spelled."""
    letters = sum(character.isalnum() for character in phrase)
    if letters < LEAST_LETTERS_A_WORD * len(phrase.split()):
        return None
    try:
        return Timing(max(to_speech_s, 0.02), letters / speech_s)
    except (ValueError, ZeroDivisionError):
        return None


@dataclass(frozen=True, slots=True)
class TimingWeights:
    """What a likeness weighs: the pace by an affine map, the pause by a factor."""

    pace: Calibration
    start: float


@dataclass(frozen=True, slots=True)
class Habit:
    """A person's latest timings, oldest first."""

    seen: tuple[Timing, ...] = ()

    def with_(self, timing: Timing) -> Habit:
        return Habit((*self.seen, timing)[-MAX_SEEN:])

    def llr(self, timing: Timing, weights: TimingWeights) -> float:
        """LLR that `timing` is this person's and not anybody's; 0 until enough was seen."""
        if len(self.seen) < MIN_SEEN:
            return 0.0
        start = weights.start * self.likeness(timing, 0, ANYBODY_START)
        llr = start + weights.pace.llr(self.likeness(timing, 1, ANYBODY_PACE))
        return max(-LIMIT_LLR, min(LIMIT_LLR, llr))

    def likeness(self, timing: Timing, which: int, anybody: tuple[float, float]) -> float:
        """How much better one of the two times fits what was seen of this person than what anybody does."""
        values = [one.logs[which] for one in self.seen]
        centre = statistics.median(values)
        deviation = 1.4826 * statistics.median(abs(value - centre) for value in values)
        spread = max(_LEAST_SPREAD, deviation)
        return _density(timing.logs[which], centre, spread) - _density(timing.logs[which], *anybody)

    def to_bytes(self) -> bytes:
        return bytes([_FORMAT]) + b"".join(_VALUE.pack(t.to_speech_s, t.letters_per_s) for t in self.seen)

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Raises ValueError for any other form."""
        if body[:1] != bytes([_FORMAT]) or (len(body) - 1) % _VALUE.size or len(body) > 1 + 32 * _VALUE.size:
            raise ValueError("a habit has another form")
        return cls(tuple(Timing(*pair) for pair in _VALUE.iter_unpack(body[1:])))


NO_HABIT = Habit()


def _density(value: float, centre: float, spread: float) -> float:
    """Log density of Student's t, up to a constant that is the same for everybody."""
    away = (value - centre) / spread
    return -math.log(spread) - 0.5 * (_TAIL + 1.0) * math.log1p(away * away / _TAIL)
