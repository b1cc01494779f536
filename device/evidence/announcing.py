"""Watches one answer's sound: says when its first frame came, and takes the door's own tones out of it.

With the first frame it asks for the tone that invites to speak. It hears when the tone sounds instead of
assuming it: a radio loudspeaker is late, and one that another program held first plays what waited.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from device.audio import AudioSource, Frame
from device.audio.spoiled.own_tone import EDGE_PURE, PURE, OwnTones, heard_until, purity, without_tone
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ, wipe

LATE_S = 1.0
"""For so long sound is kept back until the tone that asks to speak has been heard: no answer ends sooner."""
LATEST_S = 4.0
"""For so long tones that come without speech are known for what they are."""
LEAST_FRAMES, LEAST_PURE, MOST_FRAMES = 4, 2, 30
"""Of a tone without speech: all its frames, and those that one note fills; a voice holds none so purely."""
TAIL_S, TAIL_FRAMES = 0.1, 3
"""What a tone leaves: in a room; and in its last frame, which a detector of speech may take for an onset."""


class Announcing:
    """An AudioSource of one answer: calls `ready` with the first frame, and takes the tones out."""

    def __init__(self, source: AudioSource, ready: Callable[[], None], tones: OwnTones | None) -> None:
        self._source = source
        self._ready = ready
        self._tones = tones
        self.tone_until_s = tones.deaf_s if tones is not None else 0.0
        """When the last of the door's own tones was over, in seconds of the source."""

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        frames = self._announced(stop)
        if self._tones is None:
            return frames
        return self._without_late(self._without_asking(frames, self._tones), self._tones)

    def _announced(self, stop: threading.Event) -> Iterator[Frame]:
        for number, frame in enumerate(self._source.frames(stop)):
            if number == 0:
                self._ready()
            yield frame

    def _without_asking(self, frames: Iterator[Frame], tones: OwnTones) -> Iterator[Frame]:
        """The frames without the tone that asks to speak, which comes first and under speech."""
        passed_s = 0.0
        kept: list[Frame] = []
        try:
            for frame in frames:
                kept.append(frame)
                passed_s += _seconds(frame)
                if passed_s >= tones.deaf_s and self._asked(kept, passed_s, tones):
                    break
            own = round(self.tone_until_s * SAMPLE_RATE_HZ / FRAME_SAMPLES)
            yield from _without(kept[:own], tones)
            yield from kept[own:]
            yield from frames
        finally:
            for frame in kept:
                wipe(frame.samples)

    def _asked(self, kept: Sequence[Frame], passed_s: float, tones: OwnTones) -> bool:
        """Whether the tone that asks to speak has been heard to its end, or is waited for no longer."""
        joined = np.concatenate([frame.samples for frame in kept])
        ended_s = heard_until(joined, tones.asks_hz, tones.asks_s)
        wipe(joined)
        if ended_s is not None:
            self.tone_until_s = max(tones.deaf_s, ended_s + TAIL_S)
        return passed_s >= LATE_S if ended_s is None else passed_s >= self.tone_until_s

    def _without_late(self, frames: Iterator[Frame], tones: OwnTones) -> Iterator[Frame]:
        """The frames without any tone that comes alone. They are kept back only while they sound like one."""
        passed_s = 0.0
        kept: list[Frame] = []
        pure = after = 0
        try:
            for frame in frames:
                passed_s += _seconds(frame)
                one, near = (0.0, 0.0)
                if passed_s < LATEST_S and not frame.own_tone and len(kept) < MOST_FRAMES:
                    one, near = purity(frame.samples, tones.every_hz)
                if near >= EDGE_PURE or one >= PURE:
                    kept.append(frame)
                    pure += one >= PURE
                    continue
                if (len(kept) >= LEAST_FRAMES and pure >= LEAST_PURE) or (kept and after):
                    self.tone_until_s = passed_s
                    yield from _without(kept, tones)
                    after = TAIL_FRAMES
                else:
                    yield from kept
                kept, pure = [], 0
                yield replace(frame, own_tone=frame.own_tone or after > 0)
                after = TAIL_FRAMES if frame.own_tone else max(0, after - 1)
            yield from kept
        finally:
            for frame in kept:
                wipe(frame.samples)


def _seconds(frame: Frame) -> float:
    return (len(frame.samples) + frame.lost_samples) / SAMPLE_RATE_HZ


def _without(kept: Sequence[Frame], tones: OwnTones) -> Iterator[Frame]:
    """The same frames marked as the door's own, without its tones."""
    if not kept:
        return
    heard = np.concatenate([frame.samples for frame in kept])
    left = without_tone(heard, tones.every_hz)
    wipe(heard)
    for frame, samples in zip(kept, left.reshape(-1, FRAME_SAMPLES), strict=True):
        wipe(frame.samples)
        yield Frame(samples.copy(), frame.lost_samples, own_tone=True)
    wipe(left)
