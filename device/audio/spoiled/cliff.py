"""Finds the frequency at which sound breaks off at once, as converters and coders cut it. Pure.

A microphone, a mask and a room take the high away little by little, and leave noise there. Sound that was
at a lower rate, or in a coder that saves its upper bands, is as loud as speech on one side of a frequency
and nothing but rounding on the other. Where somebody laid steady noise over it, it is still found by how the
levels move: with the speech on one side, and not at all on the other (docs/adr/0083). In a person's noise the
movement dies away over octaves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import Floats, rfft
from device.audio.utterance import SAMPLE_RATE_HZ

WINDOW, HOP = 512, 256
BIN_HZ = SAMPLE_RATE_HZ / WINDOW
EDGES_HZ = (4_200.0, 6_000.0)
"""Half of rates from 8.4 to 12 kHz. MP3 of 64 kbit/s, which people may send, cuts near 7 kHz."""
BELOW_HZ, ABOVE_HZ = (-500.0, -60.0), (250.0, 850.0)
"""What is compared, from the edge."""
LOUD_PERCENTILE, PEAK_PERCENTILE = 30.0, 95.0
"""Frames that count, and what of them: the level of hisses, which fill the upper band."""
LEAST_DB = 30.0
"""Of 541 sounds of people, as recorded, in rooms and behind masks, the deepest fall is 28 dB."""
FILLED_BELOW_HZ, FILLED_ABOVE_HZ = (-800.0, -30.0), (400.0, 1_200.0)
"""What is compared where noise may have been laid over, from the edge; further from it, since a coder moves
its edge by some 100 Hz from frame to frame."""
RESTS_PERCENTILE, HISSES_PERCENTILE = 20.0, 97.0
STEADY_DB = 4.0
"""Between these percentiles of a band's level in frames; steady noise has 2 to 2.5 dB in 800 Hz."""
LEAST_MORE_DB = 16.0
"""By so much more the level below the edge must move. Of 400 sounds of people, in noise and rooms and behind
masks, too, two have more than 6.1 (ADR 83)."""
ROUNDING = WINDOW * (0.5 / 32768.0) ** 2
MAX_FRAMES = 400


def cut_hz(wave: npt.NDArray[np.float32]) -> float:
    """The frequency at which speech (n,) at 16 kHz breaks off; half of the sample rate where it does not."""
    if len(wave) < 4 * WINDOW:
        return SAMPLE_RATE_HZ / 2
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    level = np.square(frames.astype(np.float64)).mean(axis=1)
    loud = np.flatnonzero(level > np.percentile(level, LOUD_PERCENTILE))
    if len(loud) == 0:
        return SAMPLE_RATE_HZ / 2
    power = np.square(np.abs(rfft(frames * np.hanning(WINDOW), axis=1))) + ROUNDING
    return min(_fallen_hz(power[_some(loud)]), _filled_hz(power[_some(np.arange(len(frames)))]))


def _some(frames: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """At most MAX_FRAMES of them, evenly."""
    if len(frames) <= MAX_FRAMES:
        return frames
    some: npt.NDArray[np.intp] = frames[np.linspace(0, len(frames) - 1, MAX_FRAMES).astype(int)]
    return some


def _fallen_hz(power: Floats) -> float:
    """Where the level of the loudest frames falls at once, of power (loud frames, bins)."""
    peak_db = 10.0 * np.log10(np.percentile(power, PEAK_PERCENTILE, axis=0))
    falls = []
    for edge in np.arange(*EDGES_HZ, 2 * BIN_HZ):
        below, above = (
            peak_db[int((edge + low) / BIN_HZ) : int((edge + high) / BIN_HZ)].mean()
            for low, high in (BELOW_HZ, ABOVE_HZ)
        )
        falls.append((below - above, edge))
    fall_db, hz = max(falls)
    return float(hz) if fall_db >= LEAST_DB else SAMPLE_RATE_HZ / 2


def _filled_hz(power: Floats) -> float:
    """Where the level stops at once to move with the speech, of power (frames, bins)."""
    summed = np.pad(power.cumsum(axis=1), ((0, 0), (1, 0)))
    for edge in np.arange(*EDGES_HZ, 4 * BIN_HZ):
        below, above = (
            np.subtract(
                *np.percentile(
                    _band_db(summed, edge + low, edge + high), (HISSES_PERCENTILE, RESTS_PERCENTILE)
                )
            )
            for low, high in (FILLED_BELOW_HZ, FILLED_ABOVE_HZ)
        )
        if above < STEADY_DB and below - above >= LEAST_MORE_DB:
            return float(edge)
    return SAMPLE_RATE_HZ / 2


def _band_db(summed: Floats, low_hz: float, high_hz: float) -> Floats:
    """The level of a band in each frame, of power summed bin by bin."""
    low, high = round(low_hz / BIN_HZ), round(high_hz / BIN_HZ)
    level_db: Floats = 10.0 * np.log10((summed[:, high] - summed[:, low]) / (high - low))
    return level_db
