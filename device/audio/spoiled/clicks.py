"""Finds clicks of a plug, a relay or a supply in the pauses of speech, and takes them out. Pure.

Where clicks come as evenly as a clock ticks, the live check mistakes them for a synthesiser's frame rate,
however faint they are: in a pause nothing covers them. Loud speech is left out, for a throat makes pulses.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import Floats
from device.audio.utterance import SAMPLE_RATE_HZ, Wave

Places = npt.NDArray[np.intp]

HOP = 8
"""Half a millisecond."""
AROUND_HOPS = 40
"""20 ms on each side, whose median is what a click stands out of."""
STANDS_OUT = 8.0
ALONE_HOPS = 10
BEFORE_HOPS, BEFORE_SHARE = 6, 0.15
AFTER_HOPS, AFTER_SHARE = 10, 0.3
"""Of a click's power there is so little 3 ms before it and 5 ms after: the burst of a consonant goes on."""
PAUSE_SHARE = 0.1
"""Of the power of the loudest tenth, at most, where clicks are looked for."""
MOST_CLICKS = 150
"""Taken out of one answer: no more work than that."""
FROM, TO = 12, 56
"""Samples before a click's place and behind it that are made anew."""
BESIDE, ORDER = 400, 24
"""Samples on each side that tell what the sound is like, and of how many before it one follows."""

HARMONICS = 8
SLOWEST_HZ, FASTEST_HZ = 4.0, 125.0
EVEN = 8.0
"""Of 60 people at most 4.9 and of 60 attacks 5.5; beside 50 weak clicks a second 20 and more for 22 of 24."""
LEAST_EVEN = 5


def clicks(wave: Wave) -> Places:
    """The first sample of each click in the pauses of speech (n,) at 16 kHz."""
    if len(wave) < 8 * AROUND_HOPS * HOP:
        return np.zeros(0, np.intp)
    sharp = _sharpened(wave)
    hops = len(sharp) // HOP
    power = np.square(sharp[: hops * HOP]).reshape(hops, HOP).sum(axis=1) + 1e-12
    power = power[:-1] + power[1:]
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(power, AROUND_HOPS, mode="reflect"), 2 * AROUND_HOPS + 1
    )[:, ::2]
    middle = around.shape[1] // 2
    usual = np.partition(around, middle, axis=1)[:, middle]
    ratio = power / usual
    peaks = np.lib.stride_tricks.sliding_window_view(
        np.pad(ratio, ALONE_HOPS, mode="edge"), 2 * ALONE_HOPS + 1
    ).max(axis=1)
    found = (ratio > STANDS_OUT) & (ratio >= peaks) & (usual < PAUSE_SHARE * np.percentile(usual, 90))
    found &= (np.roll(ratio, BEFORE_HOPS) < BEFORE_SHARE * ratio) & (
        np.roll(ratio, -AFTER_HOPS) < AFTER_SHARE * ratio
    )
    return np.flatnonzero(found).astype(np.intp) * HOP


def evenly(wave: Wave, places: Places) -> bool:
    """Whether `places` in `wave` (n,) come as evenly as a clock ticks (the H test; de Jager 1989)."""
    if len(places) < LEAST_EVEN:
        return False
    sharp = np.abs(_sharpened(wave))
    first = [max(0, place - HOP) for place in places]
    at = np.array([one + int(np.argmax(sharp[one : one + 4 * HOP])) for one in first]) / SAMPLE_RATE_HZ
    hz = np.arange(SLOWEST_HZ, FASTEST_HZ, 0.12 * SAMPLE_RATE_HZ / len(wave))
    turns = np.exp(2j * np.pi * np.outer(hz, at))
    turned, total = np.ones_like(turns), np.zeros(len(hz))
    for _ in range(HARMONICS):
        turned *= turns
        total += np.square(np.abs(turned.sum(axis=1))) / len(at)
    return float(total.max()) / HARMONICS >= EVEN


def without(wave: Wave, places: Places) -> Wave:
    """A copy of `wave` (n,) in which linear prediction from both sides replaces what is around each click
    (Janssen, Veldhuis and Vries 1986)."""
    sound = wave.astype(np.float64)
    for place in places[:MOST_CLICKS]:
        begin, end = max(0, int(place) - FROM), min(len(sound), int(place) + TO)
        if begin - ORDER >= 0 and end + ORDER <= len(sound):
            sound[begin:end] = _between(
                sound[max(0, begin - BESIDE) : begin], sound[end : end + BESIDE], end - begin
            )
    left: Wave = sound.astype(np.float32)
    sound[:] = 0.0
    return left


def _between(before: Floats, behind: Floats, length: int) -> Floats:
    """`length` samples that follow from those before and lead to those behind."""
    known = np.concatenate((before, behind))
    own = np.correlate(known, known, "full")[len(known) - 1 : len(known) + ORDER]
    own[0] = own[0] * 1.001 + 1e-12
    steps = np.arange(ORDER)
    predictor = np.linalg.solve(own[np.abs(steps[:, None] - steps)], own[1:])
    taps = np.concatenate(([1.0], -predictor))[::-1]
    rows = length + ORDER
    errors = np.zeros((rows, rows + ORDER))
    for row in range(rows):
        errors[row, row : row + ORDER + 1] = taps
    inside = errors[:, ORDER : ORDER + length]
    beside = errors[:, :ORDER] @ before[-ORDER:] + errors[:, ORDER + length :] @ behind[:ORDER]
    made: Floats = np.linalg.lstsq(inside, -beside, rcond=None)[0]
    return made


def _sharpened(wave: Wave) -> Floats:
    """Its second difference: what is above some 2 kHz."""
    sharp: Floats = np.diff(wave.astype(np.float64), 2, prepend=(0.0, 0.0))
    return sharp
