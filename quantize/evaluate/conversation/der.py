"""Diarization error rate: missed, false alarm and confusion over reference speech (NIST md-eval).

Exact, by the times of turns and not by frames. Overlap is scored: each person who speaks counts. A collar of
0.25 s leaves out a quarter of a second on each side of every reference boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.conversation.turns import Turn

MAX_EXACT = 12
"""Up to so many people on the smaller side the best mapping is found exactly."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Seconds of one recording, or of several together."""

    speech_s: float = 0.0
    missed_s: float = 0.0
    false_alarm_s: float = 0.0
    confusion_s: float = 0.0

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.speech_s + other.speech_s,
            self.missed_s + other.missed_s,
            self.false_alarm_s + other.false_alarm_s,
            self.confusion_s + other.confusion_s,
        )

    @property
    def der(self) -> float:
        """All three over the reference speech; NaN where there is none."""
        wrong_s = self.missed_s + self.false_alarm_s + self.confusion_s
        return wrong_s / self.speech_s if self.speech_s > 0.0 else float("nan")

    def share(self, part_s: float) -> float:
        return part_s / self.speech_s if self.speech_s > 0.0 else float("nan")


def errors(
    reference: Sequence[Turn],
    found: Sequence[Turn],
    seconds: float,
    collar_s: float = 0.0,
    *,
    named: bool = False,
) -> Errors:
    """What `found` gets wrong in a recording of `seconds`. With `named` a name must be the right one;
    otherwise found names are mapped to reference names, one to one, so that most time agrees.
    """
    edges = {0.0, seconds}
    for turn in (*reference, *found):
        edges |= {min(turn.start_s, seconds), min(turn.end_s, seconds)}
    left_out = [(at - collar_s, at + collar_s) for turn in reference for at in (turn.start_s, turn.end_s)]
    if collar_s > 0.0:
        edges |= {min(max(at, 0.0), seconds) for span in left_out for at in span}
    times = np.array(sorted(edges))
    lengths = np.diff(times)
    middles = times[:-1] + lengths / 2
    if collar_s > 0.0:
        for begin, end in left_out:
            lengths = np.where((middles > begin) & (middles < end), 0.0, lengths)
    theirs, mine = (sorted({turn.speaker for turn in turns}) for turns in (reference, found))
    said, heard = (_active(turns, names, middles) for turns, names in ((reference, theirs), (found, mine)))
    together = (said * lengths[:, None]).T @ heard
    if named:
        pairs = [(theirs.index(name), at) for at, name in enumerate(mine) if name in theirs]
    else:
        pairs = mapping(together)
    count_said, count_heard = said.sum(axis=1), heard.sum(axis=1)
    right_s = sum(together[one, other] for one, other in pairs)
    both_s = float((np.minimum(count_said, count_heard) * lengths).sum())
    return Errors(
        float((count_said * lengths).sum()),
        float((np.maximum(0.0, count_said - count_heard) * lengths).sum()),
        float((np.maximum(0.0, count_heard - count_said) * lengths).sum()),
        float(both_s - right_s),
    )


def mapping(together: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column), one to one, with the largest sum; greedy beyond MAX_EXACT on both sides."""
    rows, columns = together.shape
    if rows == 0 or columns == 0:
        return []
    if columns > rows:
        return [(one, other) for other, one in mapping(together.T)]
    if columns > MAX_EXACT:
        pairs, left = [], together.copy()
        for _ in range(columns):
            at = divmod(int(left.argmax()), columns)
            pairs.append(at)
            left[at[0]], left[:, at[1]] = -1.0, -1.0
        return pairs
    # best[columns taken] after each row: (sum, pairs)
    best: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {0: (0.0, ())}
    for row in range(rows):
        after = dict(best)
        for taken, (total, pairs_so_far) in best.items():
            for column in range(columns):
                if not taken >> column & 1:
                    key, value = taken | 1 << column, total + float(together[row, column])
                    if key not in after or after[key][0] < value:
                        after[key] = (value, (*pairs_so_far, (row, column)))
        best = after
    return list(max(best.values(), key=lambda one: one[0])[1])


def _active(
    turns: Sequence[Turn], names: Sequence[str], at: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """1 where somebody speaks, (times, names)."""
    found = np.zeros((len(at), len(names)))
    for turn in turns:
        found[(at > turn.start_s) & (at < turn.end_s), names.index(turn.speaker)] = 1.0
    return found
