"""Tells who is speaking while it goes on: groups the last minute and a half again with every window.

There are no running means: they drift and depend on who came first. The new groups get the names of the old
ones with which they share the most time. Samples are kept for one window and then overwritten; pieces for
SPAN_S.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from device.audio.buffers import SampleHistory
from device.audio.utterance import Samples, to_wave
from device.conversation.band import is_narrow
from device.conversation.diarization import Diarization, diarize
from device.conversation.hearing import Embedder, Segmenter, Window, hear
from device.conversation.naming import Known
from device.conversation.turns import Turn
from device.models.segmentation import (
    FIELD_SAMPLES,
    FRAME_S,
    FRAME_SAMPLES,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    frames_of,
)

HOP_FRAMES = 148
"""From one window of a stream to the next: two and a half seconds."""
HOP_SAMPLES = HOP_FRAMES * FRAME_SAMPLES
BEHIND_FRAMES = 2 * HOP_FRAMES
"""What was said within the last five seconds is told later, when what follows has been heard too."""
QUIET_S = 15.0
"""Nobody is named before so much was heard: of a few seconds no grouping is worth telling. The first window
that ends later ends after 17.5 s. A telephone's band is not waited for, since nothing of it is told."""
SPAN_S = 90.0
"""How much is grouped again. Somebody who was silent for longer comes back under a new name."""
KNOWN_MARK = "speaker-"


@dataclass(frozen=True, slots=True)
class Update:
    """What one more window told: turns of the time since the last update, by names that stay. The first of
    a stream tell of no time yet: `from_s` is `to_s`."""

    from_s: float
    to_s: float
    turns: tuple[Turn, ...]
    people: int
    """Named within the last SPAN_S."""
    narrow: bool
    """Whether the last ten seconds came through a telephone."""


class LiveDiarizer:
    """Takes a stream's samples in any portions. Belongs to one stream and one thread at a time."""

    def __init__(self, segmenter: Segmenter, embedder: Embedder, known: Known | None = None) -> None:
        self._segmenter = segmenter
        self._embedder = embedder
        self._known = known
        self._sound = SampleHistory(WINDOW_SAMPLES + HOP_SAMPLES)
        self._windows: list[Window] = []
        self._heard_frame = self._told_frame = 0
        self._named: list[Turn] = []
        self._count = 0

    @property
    def samples(self) -> int:
        """How many were taken."""
        return self._sound.end

    def push(self, samples: Samples) -> list[Update]:
        """Take int16 samples (n,) at 16 kHz; an update for every window that they complete."""
        found = []
        for begin in range(0, len(samples), HOP_SAMPLES):
            piece = samples[begin : begin + HOP_SAMPLES]
            while len(piece):
                room = self._next_at - self._sound.end
                self._sound.append(piece[:room])
                piece = piece[room:]
                if self._sound.end == self._next_at:
                    found.append(self._hear(frames_of(self._sound.end), BEHIND_FRAMES))
        return found

    def finish(self) -> list[Update]:
        """The rest of the stream, then nothing is kept."""
        frames = frames_of(self._sound.end)
        found = [self._hear(frames, 0)] if frames > self._told_frame else []
        self.wipe()
        return found

    def wipe(self) -> None:
        """Overwrite the sound; forget the pieces."""
        self._sound.wipe()
        self._windows = []
        self._named = []

    @property
    def _next_at(self) -> int:
        """The sample at which the next window ends, so that whole frames are new."""
        heard = self._heard_frame + HOP_FRAMES
        return (heard - 1) * FRAME_SAMPLES + FIELD_SAMPLES

    def _hear(self, frames: int, behind: int) -> Update:
        """One window that ends with frame `frames`; all is grouped again, and told but the last `behind`."""
        start = max(0, frames - WINDOW_FRAMES)
        begin = start * FRAME_SAMPLES
        samples = self._sound.copy(begin)[:WINDOW_SAMPLES]
        wave, narrow = to_wave(samples), is_narrow(samples)
        samples[:] = 0
        self._windows.append(hear(wave, start, self._segmenter, self._embedder))
        wave[:] = 0.0
        oldest = frames - round(SPAN_S / FRAME_S)
        self._windows = [window for window in self._windows if window.stop > oldest]
        first = self._windows[0].start
        shifted = [replace(window, start=window.start - first) for window in self._windows]
        found = diarize(shifted, (frames - first) * FRAME_S, self._known)
        turns = self._with_names(found, first * FRAME_S)
        quiet = behind > 0 and not narrow and frames * FRAME_S < QUIET_S
        until = max(self._told_frame, 0 if quiet else frames - behind)
        from_s, to_s = self._told_frame * FRAME_S, until * FRAME_S
        self._heard_frame, self._told_frame = frames, until
        self._named = turns
        new = [cut for turn in turns if (cut := between(turn, from_s, to_s)) is not None]
        return Update(from_s, to_s, tuple(new), len({turn.speaker for turn in turns}), narrow)

    def _with_names(self, found: Diarization, offset_s: float) -> list[Turn]:
        """The turns in the stream's time, groups named as before where they share time with a name."""
        turns = [Turn(turn.start_s + offset_s, turn.end_s + offset_s, turn.speaker) for turn in found.turns]
        names = {one.name: one.name for one in found.speakers if one.llr is not None}
        groups = [one.name for one in found.speakers if one.llr is None]
        old = sorted({turn.speaker for turn in self._named} - set(names))
        shared = [
            (common_s(_of(turns, group), _of(self._named, name)), name.startswith(KNOWN_MARK), group, name)
            for group in groups
            for name in old
        ]
        for seconds, is_group, group, name in sorted(shared, key=lambda one: -one[0]):
            # A name of the vault is not handed on: who no longer fits it is somebody else.
            if seconds > 0.0 and is_group and group not in names and name not in names.values():
                names[group] = name
        for group in groups:
            if group not in names:
                self._count += 1
                names[group] = f"{KNOWN_MARK}{self._count}"
        return sorted(replace(turn, speaker=names[turn.speaker]) for turn in turns)


def between(turn: Turn, from_s: float, to_s: float) -> Turn | None:
    """The part of a turn that lies in [from_s, to_s]; None where there is none."""
    begin, end = max(turn.start_s, from_s), min(turn.end_s, to_s)
    return Turn(begin, end, turn.speaker) if end - begin > 1e-6 else None


def common_s(one: Sequence[Turn], other: Sequence[Turn]) -> float:
    """Seconds that lie in turns of both."""
    return sum(max(0.0, min(a.end_s, b.end_s) - max(a.start_s, b.start_s)) for a in one for b in other)


def _of(turns: Sequence[Turn], speaker: str) -> list[Turn]:
    return [turn for turn in turns if turn.speaker == speaker]
