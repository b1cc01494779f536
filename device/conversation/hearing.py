"""From sound to pieces: each voice that the segmentation tells apart in a window, and its embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Samples
from device.models.features import MIN_WAVE_S, Wave
from device.models.segmentation import (
    FRAME_S,
    FRAME_SAMPLES,
    VOICES,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    Activity,
    decided,
    frames_of,
    speaking,
)
from device.models.speaker import Embedding, SpeakerError

STEP_FRAMES = 296
"""From one window of a file to the next: five seconds, so that everything is heard twice."""
LONGEST_PIECE_S = 6.0
"""More of one voice in one window makes its embedding no better."""
SHORTEST_S = 1.0
"""Of a recording."""

Flags = npt.NDArray[np.bool_]
Progress = Callable[[float], None]
"""Told how much is done, 0 to 1."""


class Segmenter(Protocol):
    def sets(self, wave: Wave) -> npt.NDArray[np.float32]: ...


class Embedder(Protocol):
    def embed(self, wave: Wave) -> Embedding: ...


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One voice in one window. `embedding` is None where it spoke too little to have a direction."""

    voice: int
    active_s: float
    alone_s: float
    """Of which nobody else spoke."""
    embedding: Embedding | None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What was heard in one window that begins with frame `start`."""

    start: int
    likely: Activity
    """Probability that each voice speaks, (frames, VOICES)."""
    active: Flags
    """The decided part of it, same shape."""
    pieces: tuple[Piece, ...]

    @property
    def stop(self) -> int:
        return self.start + len(self.active)


def starts(frames: int, step: int = STEP_FRAMES) -> list[int]:
    """The first frame of every window over so many frames; the last window ends where the sound does."""
    if frames <= WINDOW_FRAMES:
        return [0]
    return [*range(0, frames - WINDOW_FRAMES, step), frames - WINDOW_FRAMES]


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


def to_wave(samples: Samples) -> Wave:
    """float32 in [-1, 1)."""
    return samples.astype(np.float32) / np.float32(32768.0)


def hear(wave: Wave, start: int, segmenter: Segmenter, embedder: Embedder) -> Window:
    """One window: who speaks when in it, and how each voice sounds."""
    sets = segmenter.sets(wave)
    active = decided(sets)
    alone = active & (active.sum(axis=1) == 1)[:, None]
    pieces = []
    for voice in range(VOICES):
        if active[:, voice].any():
            seconds, alone_s = (float(flags[:, voice].sum() * FRAME_S) for flags in (active, alone))
            # Speech of one person alone where there is enough of it; else what there is.
            heard = alone[:, voice] if alone_s >= MIN_WAVE_S else active[:, voice]
            pieces.append(Piece(voice, seconds, alone_s, _embedding(wave, heard, embedder)))
    return Window(start, speaking(sets), active, tuple(pieces))


def _embedding(wave: Wave, heard: Flags, embedder: Embedder) -> Embedding | None:
    """Of the flagged frames, one after the other; None when they are too short or have no direction."""
    spans = np.flatnonzero(np.diff(np.concatenate(([0], heard.astype(np.int8), [0])))).reshape(-1, 2)
    spans = spans * FRAME_SAMPLES
    parts = [wave[begin:end] for begin, end in spans]
    speech = np.concatenate(parts)[: int(LONGEST_PIECE_S * SAMPLE_RATE_HZ)]
    try:
        if len(speech) < MIN_WAVE_S * SAMPLE_RATE_HZ or not np.any(speech):
            return None
        return embedder.embed(speech)
    except SpeakerError:
        return None
    finally:
        speech[:] = 0.0
