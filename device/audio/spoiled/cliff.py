"""Finds the frequency at which sound breaks off at once, as converters and coders cut it. Pure.

A microphone, a mask and a room take the high away little by little, and leave noise there. Sound that was
at a lower rate, or in a coder that saves its upper bands, is as loud as speech on one side of a frequency
and nothing but rounding on the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
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
    if len(loud) > MAX_FRAMES:
        loud = loud[np.linspace(0, len(loud) - 1, MAX_FRAMES).astype(int)]
    power = np.square(np.abs(rfft(frames[loud] * np.hanning(WINDOW), axis=1)))
    peak_db = 10.0 * np.log10(np.percentile(power, PEAK_PERCENTILE, axis=0) + ROUNDING)
    falls = []
    for edge in np.arange(*EDGES_HZ, 2 * BIN_HZ):
        below, above = (
            peak_db[int((edge + low) / BIN_HZ) : int((edge + high) / BIN_HZ)].mean()
            for low, high in (BELOW_HZ, ABOVE_HZ)
        )
        falls.append((below - above, edge))
    fall_db, hz = max(falls)
    return float(hz) if fall_db >= LEAST_DB else SAMPLE_RATE_HZ / 2
