"""Looks one utterance up among thousands of remembered ones: was it heard before? Pure.

A playback meets its recording on a straight line: every stored mark fits the utterance at the same distance
in time, give or take the two clocks. A live repetition meets it here and there. So the score is the best sum,
over all such lines and all stretches of a line, of how far the similarities exceed `EXCESS_OVER`: a part of a
recording, or a recording inside something else, scores by the part that fits (Smith and Waterman 1981).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.liveness.fingerprint import ASKED_EVERY_FRAMES, BITS, STORED_EVERY_FRAMES, Fingerprint

Floats = npt.NDArray[np.float32]

EXCESS_OVER = 0.25
CLOCK_ERRORS = (-0.012, -0.006, 0.0, 0.006, 0.012)
"""Two sound cards, or a player that runs a little fast."""
COARSE_BITS = 128
"""Of a mark, for a first look at all of them. They become numbers for one block of rows at a time: kept as
numbers they would take 17 MB."""
CANDIDATES = 16
PART_SCORE = 0.45
"""A stretch of at least this score was heard before: about half a second and more."""
_BLOCK_ROWS = 1_024
_STEP = STORED_EVERY_FRAMES // ASKED_EVERY_FRAMES
_OUTSIDE = np.float32(-9.0)


@dataclass(frozen=True, slots=True)
class Match:
    """The remembered utterance that fits best."""

    score: float = 0.0
    """Summed excess similarity; nothing alike is 0."""
    reused_share: float = 0.0
    """Of the utterance's length, that fits any remembered one: near 1 for a playback or a full splice."""
    sources: int = 0
    """From how many remembered utterances; two or more and a high share is a splice."""


NO_MATCH = Match()


class Index:
    """Marks of remembered utterances, in memory, ready to be searched."""

    def __init__(self, max_marks: int) -> None:
        self._packed = np.zeros((max_marks, BITS // 8), dtype=np.uint8)
        self._owner = np.zeros(max_marks, dtype=np.int64)
        self._used = 0
        for table in (self._packed, self._owner):
            table.fill(0)  # touched now: a door that runs short of memory does so at its start

    def __len__(self) -> int:
        return self._used

    @property
    def nbytes(self) -> int:
        return self._packed.nbytes + self._owner.nbytes

    def add(self, owner: int, stored: npt.NDArray[np.uint8]) -> None:
        """Remember `stored` (n, BITS / 8) as utterance `owner`. There must be room."""
        end = self._used + len(stored)
        if end > len(self._owner):
            raise ValueError("the index is full; drop something first")
        self._packed[self._used : end] = stored
        self._owner[self._used : end] = owner
        self._used = end

    def marks(self, owner: int) -> bytes:
        """What was remembered as utterance `owner`, row after row."""
        return bytes(self._packed[: self._used][self._owner[: self._used] == owner].tobytes())

    def drop(self, owners: set[int]) -> None:
        """Forget utterances, and overwrite what they left."""
        keep = ~np.isin(self._owner[: self._used], list(owners))
        kept = int(keep.sum())
        for table in (self._packed, self._owner):
            table[:kept] = table[: self._used][keep]
            table[kept : self._used] = 0
        self._used = kept

    def search(self, heard: Fingerprint, *, without: int | None = None) -> Match:
        """How well `heard` fits what is remembered, leaving out the utterance `without`."""
        if not self._used:
            return NO_MATCH
        near = [rows for rows in self._candidates(heard.asked) if self._owner[rows.start] != without]
        lines = [best_line(self._packed[rows], heard.asked) for rows in near]
        covered = np.zeros(len(heard.asked), dtype=bool)
        sources = 0
        for line in sorted(lines, key=lambda found: -found.score):
            stretch = slice(line.begin, line.end)
            fresh = line.end > line.begin and not covered[stretch].mean() > 0.5
            if line.score >= PART_SCORE and fresh:
                covered[stretch] = True
                sources += 1
        best = max((line.score for line in lines), default=0.0)
        return Match(best, float(covered.mean()), sources)

    def _candidates(self, asked: Floats) -> list[slice]:
        """The rows of the utterances worth a closer look, by half of their bits."""
        question = asked[:, :COARSE_BITS].T.copy()
        question /= np.maximum(np.linalg.norm(question, axis=0), 1e-9) * np.sqrt(COARSE_BITS)
        packed = self._packed[: self._used, : COARSE_BITS // 8]
        best = np.concatenate(
            [
                (_signs(packed[at : at + _BLOCK_ROWS]) @ question).max(axis=1)
                for at in range(0, self._used, _BLOCK_ROWS)
            ]
        )
        owner = self._owner[: self._used]
        begins = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
        ends = np.r_[begins[1:], self._used]
        totals = np.add.reduceat(np.maximum(best - _COARSE_EXCESS, 0.0), begins)
        chosen = np.argsort(-totals, kind="stable")[:CANDIDATES]
        return [slice(int(begins[i]), int(ends[i])) for i in chosen if totals[i] > 0.0]


_COARSE_EXCESS = 0.3


@dataclass(frozen=True, slots=True)
class Line:
    """The best stretch of the best line: its score, and which of the asked marks it covers."""

    score: float
    begin: int = 0
    end: int = 0


def best_line(stored: npt.NDArray[np.uint8], asked: Floats) -> Line:
    """Compare one remembered utterance, (n, BITS / 8), with what was heard, (m, BITS)."""
    similar = (_signs(stored) @ asked.T) / np.float32(np.sqrt(BITS)) - np.float32(EXCESS_OVER)
    count, length = similar.shape
    steps = np.arange(count) * _STEP
    # One row per (clock error, offset): where each stored mark should be met.
    offsets = np.arange(-int(steps[-1]) - _STEP, length)
    starts = [
        np.round(steps * (1.0 + error)).astype(np.int64)[None, :] + offsets[:, None] for error in CLOCK_ERRORS
    ]
    at = np.concatenate(starts)
    inside = (at >= 0) & (at < length)
    gains = np.where(inside, similar[np.arange(count)[None, :], np.clip(at, 0, length - 1)], _OUTSIDE)
    # The best stretch of a row is the largest rise of its running sum (Kadane), for all rows at once.
    total = np.zeros((len(at), count + 1), dtype=np.float32)
    np.cumsum(gains, axis=1, out=total[:, 1:])
    rises = total[:, 1:] - np.minimum.accumulate(total[:, :-1], axis=1)
    row, last = np.unravel_index(int(rises.argmax()), rises.shape)
    if rises[row, last] <= 0.0:
        return Line(0.0)
    first = int(total[row, : last + 1].argmin())
    begin, end = int(at[row, first]), int(at[row, last]) + _STEP
    return Line(float(rises[row, last]), max(0, begin), min(length, end))


def _signs(packed: npt.NDArray[np.uint8]) -> Floats:
    """Packed bits, (n, bytes), as +1 and -1, (n, 8 * bytes) float32."""
    signs: Floats = np.unpackbits(packed, axis=1).astype(np.float32)
    signs *= 2.0
    signs -= 1.0
    return signs
