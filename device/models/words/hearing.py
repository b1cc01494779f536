"""The words models behind one interface: they hear freely, and weigh given sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Wave

FRAMES_PER_S = 50
MARGIN_FRAMES = 64
"""Of silence after the speech. 200 loop less often but take a quarter longer and judge no better."""
MAX_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Spoken:
    """One decoded sentence: token ids, their natural-log probabilities, and the model's favourites'."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    best_logprobs: tuple[float, ...]
    rival_logprobs: tuple[float | None, ...]
    """Where rivals were named: the natural log of their mean probability at that place."""

    @property
    def total(self) -> float:
        return math.fsum(self.logprobs)


@dataclass(frozen=True, slots=True)
class Heard:
    """`free`: what the model hears by itself; when it `looped`, only up to the end of the first round."""

    free: Spoken
    sentences: tuple[Spoken, ...]
    looped: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """Token ids to be weighed, and at some places the tokens that could stand there instead."""

    tokens: tuple[int, ...]
    rivals: Mapping[int, npt.NDArray[np.intp]] = field(default_factory=dict)


class SpeechModel(Protocol):
    """One loaded model. Safe to call from several threads; raises DeviceError."""

    def tokens(self, text: str) -> tuple[int, ...]:
        """`text` as token ids."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The words behind token ids; special tokens say nothing."""
        ...

    def listen(self, wave: Wave, sentences: Sequence[Sentence]) -> Heard:
        """What the model hears by itself in `wave`, and how each of at most seven `sentences` would fare.
        Every returned path ends with the end-of-text token, unless it ran into the token cap."""
        ...

    def close(self) -> None:
        """Give the model's memory back; the object is of no use afterwards."""
        ...


def audio_frames(samples: int) -> int:
    """How many frames of 20 ms the encoder is shown for that many samples: the speech and the margin."""
    return min(1500, math.ceil(samples / SAMPLE_RATE_HZ * FRAMES_PER_S) + MARGIN_FRAMES)


def token_cap(samples: int) -> int:
    """How many tokens that many samples can hold: beyond it, whatever comes is made up."""
    return min(MAX_TOKENS, 12 + int(10 * samples / SAMPLE_RATE_HZ))
