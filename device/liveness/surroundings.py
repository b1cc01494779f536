"""Do noise and bandwidth agree with what the unit heard in the second before?

A playback brings in its own background: the recorder's noise, the room of the recording, the hiss and the
band limit of the loudspeaker. They come with it, between the words too, and they leave with it. A person
speaks into the silence that was there. So the quietest moments *inside* the utterance are compared with the
second *before* it, band by band; a live voice leaves only its echo there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ

Floats = npt.NDArray[np.float32]

MIN_BEFORE_S = 0.4
"""Less heard before the voice says nothing about the room."""
MIN_INSIDE_S = 0.8
_FRAME = 512
_HOP = 256
_EDGES_HZ = (150.0, 600.0, 1_500.0, 3_000.0, 5_000.0, 7_500.0)
_FLOOR = 1e-12
"""-120 dB of full scale: digital silence is no room, but it must not be minus infinity."""
_ONSET_S = 0.24
"""The end of what was heard before belongs to the endpointer's pad; a soft onset may be in it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the utterance did to the background, in dB."""

    floor_db: float
    """Median over bands of how far the quietest moments inside lie above those before."""
    tilt_db: float
    """How unevenly over the bands: a band limit or a filtered background is uneven."""

    @property
    def score(self) -> float:
        """Higher speaks for the person."""
        return -(max(0.0, self.floor_db) + 0.5 * self.tilt_db)


def change(before: Floats, inside: Floats) -> Change | None:
    """How the background changed from `before` (n,) to `inside` the speech (m,), both at 16 kHz.

    None when there is too little of either, or digital silence before: then nothing is known.
    """
    if len(before) < MIN_BEFORE_S * SAMPLE_RATE_HZ or len(inside) < MIN_INSIDE_S * SAMPLE_RATE_HZ:
        return None
    if not (np.isfinite(before).all() and np.isfinite(inside).all()):
        return None
    room = _quiet(before, 0.3)
    if float(room.max()) <= 10.0 * np.log10(_FLOOR) + 3.0:
        return None
    rise = _quiet(inside, 0.05) - room
    return Change(float(np.median(rise)), float(rise.std()))


def _quiet(wave: Floats, quantile: float) -> npt.NDArray[np.float64]:
    """The level of the quiet moments, dB for each band."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, _FRAME)[::_HOP]
    power = np.abs(rfft(frames * _WINDOW, axis=1)) ** 2 / _FRAME**2
    bands = np.stack([power[:, low:high].sum(axis=1) for low, high in _BINS], axis=1)
    levels: npt.NDArray[np.float64] = 10.0 * np.log10(np.quantile(bands, quantile, axis=0) + _FLOOR)
    return levels


_WINDOW = np.hanning(_FRAME).astype(np.float32)
_EDGES = [round(edge * _FRAME / SAMPLE_RATE_HZ) for edge in _EDGES_HZ]
_BINS = list(pairwise(_EDGES))
