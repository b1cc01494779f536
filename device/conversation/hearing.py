"""Turns sound into pieces: each voice that the segmentation tells apart in a window, and its embedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Samples, Wave, to_wave
from device.conversation.turns import edges
from device.models.features import MIN_WAVE_S
from device.models.segmentation import (
    FRAME_S,
    FRAME_SAMPLES,
    VOICES,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    Sets,
    decided,
    frames_of,
)
from device.models.speaker import Embedding, SpeakerError

STEP_FRAMES = 148
"""From one window of a file to the next: two and a half seconds, so that everything is heard four times."""
PAUSE_S = 0.3
"""A shorter silence does not end a stretch."""
LONGEST_PIECE_S = 2.5
"""A longer stretch is cut in equal parts."""
SHORTEST_S = 1.0
"""Of a recording."""

Flags = npt.NDArray[np.bool_]
Progress = Callable[[float], None]
"""Told how much is done, 0 to 1."""


class Segmenter(Protocol):
    def sets(self, wave: Wave) -> Sets: ...


class Embedder(Protocol):
    def embed(self, wave: Wave) -> Embedding: ...


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A stretch of one voice in one window, frames `begin` to `end` of it. Stretches and not whole voices:
    the segmentation sometimes takes two people who speak in turn for one."""

    voice: int
    begin: int
    end: int
    alone_s: float
    """Of which nobody else spoke."""
    embedding: Embedding | None
    """None where it is too short to have a direction."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What was heard in one window that begins with frame `start`."""

    start: int
    sets: Sets
    """Probability of each set of voices, as the segmentation gives it."""
    pieces: tuple[Piece, ...]

    @property
    def stop(self) -> int:
        return self.start + len(self.sets)


def starts(frames: int) -> list[int]:
    """The first frame of every window over so many frames; the last window ends where the sound does."""
    if frames <= WINDOW_FRAMES:
        return [0]
    return [*range(0, frames - WINDOW_FRAMES, STEP_FRAMES), frames - WINDOW_FRAMES]


def windows(
    samples: Samples, segmenter: Segmenter, embedder: Embedder, progress: Progress = lambda done: None
) -> Iterator[Window]:
    """Every window of int16 samples (n,) at 16 kHz, in order. Raises what the two networks raise."""
    first = starts(frames_of(len(samples)))
    for number, start in enumerate(first):
        begin = start * FRAME_SAMPLES
        wave = to_wave(samples[begin : begin + WINDOW_SAMPLES])
        yield hear(wave, start, segmenter, embedder)
        wave[:] = 0.0
        progress((number + 1) / len(first))


def hear(wave: Wave, start: int, segmenter: Segmenter, embedder: Embedder) -> Window:
    """One window: who speaks when in it, and how each stretch of each voice sounds."""
    sets = segmenter.sets(wave)
    active = decided(sets)
    alone = active & (active.sum(axis=1) == 1)[:, None]
    pieces = []
    for voice in range(VOICES):
        for begin, end in stretches(active[:, voice]):
            heard = np.zeros(len(active), bool)
            heard[begin:end] = alone[begin:end, voice]
            alone_s = float(heard.sum() * FRAME_S)
            if alone_s < MIN_WAVE_S:  # speech of one person alone where there is enough; else what there is
                heard[begin:end] = active[begin:end, voice]
            pieces.append(Piece(voice, begin, end, alone_s, _embedding(wave, heard, embedder)))
    return Window(start, sets, tuple(pieces))


def stretches(active: Flags) -> list[tuple[int, int]]:
    """Where one voice speaks: (begin, end) in frames, short pauses inside, long stretches in equal parts."""
    runs: list[tuple[int, int]] = []
    for begin, end in edges(active):
        if runs and (begin - runs[-1][1]) * FRAME_S < PAUSE_S:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    found = []
    for begin, end in runs:
        parts = max(1, math.ceil((end - begin) * FRAME_S / LONGEST_PIECE_S))
        cuts = np.linspace(begin, end, parts + 1).round().astype(int).tolist()
        found += list(pairwise(cuts))
    return found


def _embedding(wave: Wave, heard: Flags, embedder: Embedder) -> Embedding | None:
    """Of the flagged frames, one after the other; None when they are too short or have no direction."""
    parts = [wave[begin * FRAME_SAMPLES : end * FRAME_SAMPLES] for begin, end in edges(heard)]
    speech = np.concatenate(parts)
    try:
        if len(speech) < MIN_WAVE_S * SAMPLE_RATE_HZ or not np.any(speech):
            return None
        return embedder.embed(speech)
    except SpeakerError:
        return None
    finally:
        speech[:] = 0.0
