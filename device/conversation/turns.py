"""Turns: who spoke from when to when, their text form (RTTM), and turns made of frames. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.errors import DeviceError

MAX_RTTM_LINES = 100_000
_NAME = re.compile(r"[!-~]{1,64}")


class TurnsError(DeviceError):
    """A list of turns is not one."""


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """`speaker` spoke from `start_s` to `end_s`; other people's turns may lie across it."""

    start_s: float
    end_s: float
    speaker: str

    def __post_init__(self) -> None:
        if not 0.0 <= self.start_s < self.end_s < float("inf"):
            raise TurnsError("a turn ends after it begins, at times from 0 up")

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


def turns_of(active: npt.NDArray[np.bool_], frame_s: float, speakers: Sequence[str]) -> list[Turn]:
    """Turns in order from activity by frame, (frames, speakers)."""
    found = []
    for column, speaker in enumerate(speakers):
        found += [Turn(begin * frame_s, end * frame_s, speaker) for begin, end in edges(active[:, column])]
    return sorted(found)


def edges(active: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(begin, end) of every run of true values."""
    turns = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    return [(int(begin), int(end)) for begin, end in turns.reshape(-1, 2)]


def overlaps(turns: Iterable[Turn]) -> list[tuple[float, float]]:
    """Where two or more people speak at once: (start_s, end_s), in order."""
    steps = sorted(step for turn in turns for step in ((turn.start_s, 1), (turn.end_s, -1)))
    found: list[tuple[float, float]] = []
    speaking, since = 0, 0.0
    for at, change in steps:
        before, speaking = speaking, speaking + change
        if before < 2 <= speaking:
            since = at
        elif before >= 2 > speaking and at > since:
            found.append((since, at))
    return found


def to_rttm(turns: Iterable[Turn], recording: str) -> str:
    """NIST's Rich Transcription Time Marked lines; a blank in a name becomes an underscore."""
    name = "_".join(recording.split()) or "recording"
    return "".join(
        f"SPEAKER {name} 1 {turn.start_s:.3f} {turn.seconds:.3f} <NA> <NA> "
        f"{'_'.join(turn.speaker.split())} <NA> <NA>\n"
        for turn in sorted(turns)
    )


def from_rttm(text: str) -> list[Turn]:
    """The SPEAKER lines of an RTTM file, in order; raises TurnsError."""
    lines = text.splitlines()
    if len(lines) > MAX_RTTM_LINES:
        raise TurnsError(f"an RTTM file of more than {MAX_RTTM_LINES} lines is refused")
    found = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start_s, seconds, speaker = float(fields[3]), float(fields[4]), fields[7]
            if not _NAME.fullmatch(speaker):
                raise ValueError("a name")
            found.append(Turn(start_s, start_s + seconds, speaker))
        except (ValueError, IndexError, TurnsError):
            raise TurnsError(
                f"line {number} is no turn; it must be: SPEAKER file 1 start seconds <NA> <NA> name"
            ) from None
    return sorted(found)
