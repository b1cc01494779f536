"""Finds blocks of sound that were lost on a radio, a bus or in a driver, by what was put in their place.
Pure.

Zeros between sounds that break off; the block before once more, to the sample; one sample held. No room and
no throat gives any of them. They are looked for at the rate at which they were made: resampling hides them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ

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
EDGE_SAMPLES = 24
"""On each side of a place: 1.5 ms."""
MOST_STEP = 6.0
"""Natural log of power; a larger step is a burst, and no better a sign."""
STEPS = 5.5
"""Deviations. Of 350 recordings of people at most 5.0, and of 350 of others 5.0; 1 of 300 attacks has more.
With a tenth of the blocks of 20 ms filled with noise 37 of 40 have more, of 10 ms 30 or 31."""
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


def filled_on_a_grid(wave: npt.NDArray[np.float32]) -> bool:
    """Whether the level of speech (n,) at 16 kHz leaps on the grid of one block size. It does where a
    driver fills lost blocks with noise. No syllable and no pulse keeps such a grid."""
    if len(wave) < SAMPLE_RATE_HZ // 2:
        return False
    sharp = np.diff(wave.astype(np.float64), prepend=0.0)
    total = np.concatenate(([0.0], np.cumsum(np.square(sharp) + 1e-9)))
    sharp[:] = 0.0
    power = total[EDGE_SAMPLES:] - total[:-EDGE_SAMPLES]
    leaps = _leaps(power)
    mean, spread = leaps.mean(), leaps.std() + 1e-12
    for block_ms in REPEATED_MS:
        block = block_ms * SAMPLE_RATE_HZ / 1_000
        blocks = int((len(leaps) - 1) // block)
        grid = np.arange(int(block)) + np.round(np.arange(blocks) * block).astype(np.intp)[:, None]
        if float(leaps[grid].mean(axis=0).max() - mean) * np.sqrt(blocks) / spread >= STEPS:
            return True
    return False


def _leaps(power: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By how much the level of what follows a place differs from that of what is before it."""
    before, behind = power[:-EDGE_SAMPLES], power[EDGE_SAMPLES:]
    leaps: npt.NDArray[np.float64] = np.minimum(np.abs(np.log(behind / before)), MOST_STEP)
    return leaps
