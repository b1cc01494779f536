"""Tells whether what lies above 4 kHz belongs to the speech below it, or was made of it. Pure.

A throat makes both: hisses are louder above than below, the shape above changes with every sound, and each
pulse of the voice is heard in both. A band that is made of the one below (noise in its rhythm, a copy moved
up, what clipping adds, a guess by a network) or taken from another recording keeps some of that and never
all. `made_band.toml` says how much each measurement weighs (docs/adr/0058).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import Floats, fine_structure, rfft
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.own_files import own_file
from sync.toml_table import toml_table

SEAM_HZ = 4_000.0
"""Half of the rate of telephones; what is below it is taken for speech."""
WINDOW, HOP, SIZE = 400, 160, 512
BIN_HZ = SAMPLE_RATE_HZ / SIZE
RANGE_DB = 35.0
"""Frames that are quieter than so far below the loudest twentieth tell nothing."""
MOST_FRAMES = 400
LEAST_FRAMES = 90
BELOW_HZ = (200.0, 500.0, 800.0, 1_200.0, 1_600.0, 2_000.0, 2_500.0, 3_000.0, 3_600.0)
ABOVE_HZ = (4_200.0, 5_000.0, 6_000.0, 7_000.0, 7_800.0)
STEP_HZ = 200.0
"""Of the narrow bands across the seam, from 2.2 to 5.8 kHz."""
MOVED_HZ = (1_500.0, 5_000.0)
"""By how much a copy may have been moved up."""
SMOOTH_BINS = 9
PULSE_HZ = {"above": (4_300.0, 7_800.0), "beside": (2_300.0, 3_700.0), "below": (700.0, 2_200.0)}
PULSE_MS = 16
"""What is slower than that is a syllable and no pulse."""
ROUNDING = WINDOW * (1.0 / 32768.0) ** 2
"""Of the last bit of int16, in one bin."""
CLIPPED = 4.0
"""Deviations: nothing counts for more."""

NAMES = (
    *("unexplained", "unexplained 4 kHz", "unexplained 5 kHz", "unexplained 6 kHz", "unexplained 7 kHz"),
    *("ratio moves", "hiss", "hiss over usual", "follows 2 kHz", "follows all"),
    *("shape 4 kHz", "shape 7 kHz", "tilt"),
    *("least neighbour", "neighbours below", "neighbours above", "neighbours at the seam", "moved copy"),
    *("pulses beside", "pulses below", "pulses among themselves", "pulses above", "pulses there"),
)
PARTS = ("mean", "spread", "linear", "squared")


def measured(wave: Wave) -> Floats | None:
    """What tells a made band, in the order of NAMES, of speech (n,) at 16 kHz; None of too little."""
    if len(wave) < LEAST_FRAMES * HOP + WINDOW:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    level_db = 10.0 * np.log10(np.square(frames.astype(np.float64)).mean(axis=1) + 1e-12)
    told = np.flatnonzero(level_db > np.percentile(level_db, 95) - RANGE_DB)
    if len(told) < LEAST_FRAMES:
        return None
    if len(told) > MOST_FRAMES:
        told = told[np.linspace(0, len(told) - 1, MOST_FRAMES).astype(int)]
    power = np.square(np.abs(rfft(frames[told] * np.hanning(WINDOW), SIZE, axis=1)))
    summed = np.pad(power.cumsum(axis=1), ((0, 0), (1, 0)))
    return np.concatenate((_of_frames(summed), _of_neighbours(summed), [_moved(power)], _of_pulses(wave)))


def _of_frames(summed: Floats) -> Floats:
    below, above = _bands(summed, BELOW_HZ), _bands(summed, ABOVE_HZ)
    all_above, all_below = (_band(summed, *hz) for hz in ((4_200.0, 7_800.0), (190.0, 3_600.0)))
    beside = _band(summed, 2_000.0, 3_600.0)
    known = np.column_stack((below, np.ones(len(below))))
    inside = known.T @ known + 0.01 * len(known) * np.eye(known.shape[1])
    wanted = np.column_stack((all_above, above))
    left = wanted - known @ np.linalg.solve(inside, known.T @ wanted)
    unexplained = np.sqrt(np.square(left).sum(axis=0) / max(len(left) - known.shape[1], 1))
    ratio = all_above - beside
    hiss = np.percentile(all_above - all_below, 97)
    over = np.percentile(ratio, 97) - np.percentile(ratio, 50)
    follows = [_alike(all_above, other) for other in (beside, all_below)]
    shape = above - above.mean(axis=1, keepdims=True)
    tilt = above[:, 1] - above[:, 3]
    return np.array(
        [*unexplained, ratio.std(), hiss, over, *follows, shape[:, 0].std(), shape[:, -1].std(), tilt.std()]
    )


def _of_neighbours(summed: Floats) -> Floats:
    """How alike bands beside each other move: at the seam of two sounds they do not."""
    bands = _bands(summed, tuple(np.arange(2_200.0, 6_000.0, STEP_HZ)))
    bands -= _band(summed, 190.0, 7_800.0)[:, None]
    bands = (bands - bands.mean(axis=0)) / (bands.std(axis=0) + 1e-6)
    alike = (bands[:, 1:] * bands[:, :-1]).mean(axis=0)
    seam = round((SEAM_HZ - 2_200.0) / STEP_HZ) - 1
    return np.array(
        [alike.min(), alike[: seam - 1].mean(), alike[seam + 1 :].mean(), alike[seam - 1 : seam + 2].min()]
    )


def _moved(power: Floats) -> float:
    """How well the fine structure above is that below, moved up by any one frequency."""
    fine = fine_structure(power, 1e-3 * ROUNDING, SMOOTH_BINS)
    products = fine.T @ fine
    squares = products.diagonal()
    best = 0.0
    for moved in range(round(MOVED_HZ[0] / BIN_HZ), round(MOVED_HZ[1] / BIN_HZ)):
        first, last = max(round(SEAM_HZ / BIN_HZ) + 7, moved + 8), 245
        weight = np.sqrt(squares[first:last].sum() * squares[first - moved : last - moved].sum())
        alike = products.diagonal(-moved)[first - moved : last - moved].sum()
        best = max(best, float(alike / (weight + 1e-12)))
    return best


def _of_pulses(wave: Wave) -> Floats:
    """How alike three bands move within milliseconds, where the voice is loud, and how much."""
    spectrum = rfft(wave)
    fast = {}
    for name, (low, high) in PULSE_HZ.items():
        slow = _envelope(spectrum, len(wave), low, high)
        usual = np.convolve(slow, np.full(PULSE_MS, 1.0 / PULSE_MS), "same")
        fast[name] = slow - usual
        if name == "beside":
            level = np.convolve(np.exp(slow), np.full(PULSE_MS, 1.0 / PULSE_MS), "same")
    loud = level >= np.percentile(level, 40)
    above, beside, below = (fast[name][loud] for name in ("above", "beside", "below"))
    return np.array(
        [_alike(above, beside), _alike(above, below), _alike(beside, below), above.std(), beside.std()]
    )


def _envelope(spectrum: npt.NDArray[np.complex128], samples: int, low_hz: float, high_hz: float) -> Floats:
    """The log of a band's envelope, a millisecond each."""
    first, last = (int(hz * samples / SAMPLE_RATE_HZ) for hz in (low_hz, high_hz))
    steps = samples * 1_000 // SAMPLE_RATE_HZ
    band = np.zeros(4 * steps, np.complex128)
    band[: last - first] = spectrum[first:last]
    wave = np.abs(np.fft.ifft(band)) * (2.0 * len(band) / samples)
    envelope: Floats = np.log(wave.reshape(steps, 4).mean(axis=1) + 1e-5)
    return envelope


def _band(summed: Floats, low_hz: float, high_hz: float) -> Floats:
    band: Floats = _bands(summed, (low_hz, high_hz))[:, 0]
    return band


def _bands(summed: Floats, edges_hz: tuple[float, ...]) -> Floats:
    """The log of the mean power between each two edges, (frames, edges - 1), of power summed bin by bin."""
    at = np.ceil(np.array(edges_hz) / BIN_HZ).astype(np.intp)
    below = summed[:, at]
    bands: Floats = np.log((below[:, 1:] - below[:, :-1]) / np.diff(at) + ROUNDING)
    return bands


def _alike(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / (np.sqrt((one @ one) * (other @ other)) + 1e-12))


@dataclass(frozen=True, slots=True)
class Weights:
    """What a made band is told by: a squared form of deviations from what people have."""

    mean: Floats
    spread: Floats
    linear: Floats
    squared: Floats
    offset: float
    """Shapes (len(NAMES),); the score is above `least` for speech of one piece."""
    least: float

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises ValueError or KeyError for anything but a whole table."""
        table = toml_table(text)
        rows = np.array([[float(table[part][name]) for name in NAMES] for part in PARTS])
        offset, least = float(table["offset"]), float(table["least"])
        if not (np.isfinite(rows).all() and np.isfinite([offset, least]).all()):
            raise ValueError("a weight is not finite")
        mean, spread, linear, squared = rows
        return cls(mean, spread, linear, squared, offset, least)

    def score(self, found: Floats) -> float:
        """Higher speaks for one throat; of `measured`'s values."""
        away = np.clip((found - self.mean) / self.spread, -CLIPPED, CLIPPED)
        return float(away @ self.linear + np.square(away) @ self.squared / 2.0 + self.offset)


@cache
def shipped() -> Weights:
    return own_file("device.audio.spoiled", "made_band.toml", lambda data: Weights.from_text(data.decode()))


def is_made(wave: Wave) -> bool:
    """Whether the band above 4 kHz of speech (n,) at 16 kHz was made; False of too little to tell."""
    found = measured(wave)
    return found is not None and shipped().score(found) < shipped().least
