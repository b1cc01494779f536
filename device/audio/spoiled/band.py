"""Finds the highest frequency of the speech itself; what a resampler leaves above it is not speech.

Sound taken to a lower rate and back holds, above half of that rate, mirror images of what lies below it: the
same fine structure, upside down. Filters weaken images and never make them independent. So the fine structure
of every frame is compared with its mirror image about each frequency; speech has none.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import Floats, fine_structure, rfft
from device.audio.utterance import SAMPLE_RATE_HZ

WINDOW, HOP = 512, 256
BIN_HZ = SAMPLE_RATE_HZ / WINDOW
FOLDS_HZ = (1_900.0, 6_650.0)
"""Where a fold is looked for: half of rates from 3.8 to 13.3 kHz."""
REACH_HZ = (90.0, 900.0)
"""From a fold: nearer, a window smears both sides into each other; farther, a good filter leaves nothing."""
SMOOTH_BINS = 9
MIRRORED = 0.42
"""Of 500 recordings of people all but single digits of an 8 kHz telephone stay below 0.33; of people taken to
8 kHz and back by four converters none is below 0.73, to 6 kHz by the nearest sample none below 0.46."""
LOW_HZ, MIRRORED_HIGH = 4_400.0, 0.5
"""Asked of a fold above: beside a ward's alarms, whose pitches stand in ratios, the highest of 538 sounds of
people had 0.45; by way of 9 or 10 kHz, interpolated by two or four samples, one fake of 37 had less."""
MIRRORED_TOO = 0.33
"""The same of a second fold, where there is one: above what people have."""
MAX_FRAMES = 200
QUIET_DB = 50.0
"""Below a frame's strongest bin, where there is rounding and no speech to mirror."""


def fold(wave: npt.NDArray[np.float32]) -> tuple[float, float]:
    """(the lowest frequency about which speech (n,) at 16 kHz mirrors itself, how well in [-1, 1])."""
    if len(wave) < 4 * WINDOW:
        return 0.0, 0.0
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    level = np.square(frames.astype(np.float64)).mean(axis=1)
    loud = np.flatnonzero(level > np.percentile(level, 40))
    if len(loud) == 0:
        return 0.0, 0.0
    if len(loud) > MAX_FRAMES:
        loud = loud[np.linspace(0, len(loud) - 1, MAX_FRAMES).astype(int)]
    power = np.square(np.abs(rfft(frames[loud] * np.hanning(WINDOW + 1)[:-1], axis=1)))
    scores = _mirrored(fine_structure(power, 1e-3 * FLOOR_POWER, SMOOTH_BINS))
    # A cheap converter leaves several: of 6 kHz one at 3 kHz and one at 5. Speech ends at the first.
    best = int(scores.argmax())
    if scores[best] >= MIRRORED:
        best = int(np.flatnonzero(scores >= MIRRORED_TOO)[0])
        while best + 1 < len(scores) and scores[best + 1] > scores[best]:
            best += 1
    return _folds()[best][0] * BIN_HZ / 2, max(float(scores[best]), float(scores.max()))


def own_hz(wave: npt.NDArray[np.float32]) -> float:
    """The frequency above which speech (n,) mirrors itself (a fold); half of the sample rate where it does
    not."""
    hz, score = fold(wave)
    return hz if score >= (MIRRORED if hz <= LOW_HZ else MIRRORED_HIGH) else SAMPLE_RATE_HZ / 2


FLOOR_POWER = WINDOW * (0.5 / 32768.0) ** 2
"""Of rounding to int16, in one bin of a window."""


@lru_cache(maxsize=1)
def _folds() -> tuple[tuple[int, npt.NDArray[np.intp], npt.NDArray[np.intp]], ...]:
    """(twice the bin, bins above, bins below that mirror them) of each fold: on a bin or between two."""
    first, last = (round(2 * hz / BIN_HZ) for hz in FOLDS_HZ)
    low, high = (hz / BIN_HZ for hz in REACH_HZ)
    found = []
    for centre in range(first, last + 1):
        offsets = np.arange(np.ceil(low), np.floor(high) + 1) + (0.5 if centre % 2 else 0.0)
        twice = np.round(2 * offsets).astype(np.intp)
        found.append((centre, (centre + twice) // 2, (centre - twice) // 2))
    return tuple(found)


def _mirrored(fine: Floats) -> Floats:
    """For each fold the correlation of what lies above it with what lies below, from (frames, bins)."""
    products = fine.T @ fine
    squares = products.diagonal()
    return np.array(
        [
            products[above, below].sum() / (np.sqrt(squares[above].sum() * squares[below].sum()) + 1e-12)
            for _, above, below in _folds()
        ]
    )
