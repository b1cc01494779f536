"""Blocks of sound that were lost on a radio, a bus or in a driver, and what was put in their place. Pure.

Zeros between sounds that break off; the block before once more, to the sample; one sample held. No room and
no throat gives any of them. They are looked for at the rate at which they were made: resampling hides them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.int16]
"""Of shape (n,)."""
Run = tuple[int, int]
"""First sample, and the one behind the last."""

GAP_S = 0.005
EDGE = 300
"""A gate closes on less than this; a lost block breaks off anywhere."""
HELD_LEVEL, CLIPPED_LEVEL = 50, 32_700
REPEATED_MS = (
    *(2.667, 2.902, 3.75, 5.0, 5.333, 5.805, 7.5, 8.0, 10.0, 10.667, 11.61),
    *(15.0, 16.0, 20.0, 21.333, 23.22, 30.0, 32.0, 40.0, 60.0),
)
"""Radio frames, powers of two at 44.1 and 48 kHz, and what drivers use."""
LOOK_S = 0.14
"""Two of the longest blocks, and a little: what must be seen at once."""
_PROBE = 8
"""Samples in a row that are compared first."""


def replaced(sound: Block, rate_hz: int) -> list[Run]:
    """Every stretch that stands where sound was lost; what reaches to an end of `sound` cannot be told."""
    least = int(GAP_S * rate_hz)
    found = [run for run in _constant(sound, least) if _is_replacement(sound, run)]
    for block_ms in REPEATED_MS:
        found += _repeated(sound, round(block_ms * rate_hz / 1_000), rate_hz)
    return sorted(found)


def _constant(sound: Block, least: int) -> Iterator[Run]:
    """Where one number stands for `least` samples and longer, neither at the beginning nor at the end."""
    same = np.concatenate(([False], sound[1:] == sound[:-1], [False]))
    turns = np.diff(same.astype(np.int8))
    begins, ends = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1) + 1
    for begin, end in zip(begins, ends, strict=True):
        if end - begin >= least and begin > 1 and end < len(sound) - 1:
            yield int(begin), int(end)


def _is_replacement(sound: Block, run: Run) -> bool:
    begin, end = run
    value = abs(int(sound[begin]))
    after = int(np.abs(sound[end : end + 2].astype(np.int32)).max())
    if value == 0:
        return after > EDGE and int(np.abs(sound[begin - 2 : begin].astype(np.int32)).max()) > EDGE
    return HELD_LEVEL <= value < CLIPPED_LEVEL


def _repeated(sound: Block, block: int, rate_hz: int) -> list[Run]:
    """Where one block is the block before it once more. What goes on repeating is a machine's tone."""
    if len(sound) < 2 * block + _PROBE:
        return []
    places = np.arange(block, len(sound) - _PROBE, max(1, int(0.4 * block)))
    reach = places[:, None] + np.arange(_PROBE)
    hits = (sound[reach] == sound[reach - block]).all(axis=1) & (np.ptp(sound[reach], axis=1) > 0)
    found = []
    done = 0
    for place in places[hits]:
        if place < done:
            continue
        first = max(block, place - 2 * block)
        last = min(len(sound), place + 2 * block)
        same = sound[first:last] == sound[first - block : last - block]
        differs = np.flatnonzero(~same) + first
        before, behind = differs[differs < place], differs[differs > place]
        if not len(before) or not len(behind):
            continue  # it goes on beyond what can be seen
        begin, done = int(before[-1]) + 1, int(behind[0])
        loud = int(np.abs(sound[begin:done].astype(np.int32)).max()) > EDGE
        if loud and 0.8 * block <= done - begin <= 1.5 * block:
            found.append((begin, done))
    return found
