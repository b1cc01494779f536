"""How bands' envelopes move together within milliseconds: what classical synthesisers get wrong.

NumPy alone, the same code on the unit and in training; `quantize.train.fitting.envelopes` trains the head.

A throat opens and closes every band at once, a little later where the vocal tract rings longer. A vocoder
that shapes pulses and noise band by band (WORLD, LPC, Codec 2), glues them (diphones) or rebuilds their phase
(Griffin-Lim) keeps another order. Windows here hold less than a pitch period: the 32 ms of the networks'
pictures average that order away.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from device.arrays import read_arrays
from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ

MIN_SAMPLES = SAMPLE_RATE_HZ
"""Shorter speech is repeated up to here."""
LOUDNESS = 0.06
TRIM_DB = 38.0
LEAST_FRAMES = 80

FAST_WINDOW, FAST_HOP = 64, 16
FAST_EDGES = (1, 2, 4, 6, 9, 13, 18, 23, 29)
"""In bins of 250 Hz: eight bands."""
FAST_PAD, FAST_LEVEL = 1, 20
LAGS_MS = (0, 1, 2, 4)
FAST_SPECTRUM, FAST_STEP = 256, 128
FAST_RATES = (2, 8, 16, 26, 40, 56, 80, 104, 129)
"""In 3.9 Hz: how fast a band's envelope moves, up to 500 Hz."""

SLOW_WINDOW, SLOW_HOP = 256, 64
SLOW_FIRST, SLOW_BANDS, SLOW_BINS = 2, 14, 8
"""Fourteen bands of 500 Hz from 125 Hz."""
SLOW_PAD = 12
SLOW_SPECTRUM, SLOW_STEP = 128, 64
SLOW_RATES = (1, 3, 6, 10, 15, 22, 30, 40, 50, 58, 65)

FLOOR = 1e-3
"""Of each band's own mean power: how deep pauses go tells studios, not synthesisers."""
STATISTICS = 559
MAX_HEAD_BYTES = 1 << 20

Floats = npt.NDArray[np.float32]


def _hann(samples: int) -> Floats:
    window: Floats = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)).astype(np.float32)
    return window


def _dft(window: int, first: int, last: int) -> Floats:
    """A windowed DFT of few bins as a matrix: cosines, then sines."""
    angle = np.arange(window)[:, None] * np.arange(first, last) * 2 * np.pi / window
    waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    return np.ascontiguousarray(waves * _hann(window)[:, None], np.float32)


def _bands(edges: Sequence[int]) -> Floats:
    """Adds up bins between each two of `edges`, the first of which is bin 0: (bins, bands)."""
    bins = np.arange(edges[-1] - edges[0])[:, None] + edges[0]
    inside = (bins >= np.array(edges[:-1])) & (bins < np.array(edges[1:]))
    return inside.astype(np.float32)


_FAST = _dft(FAST_WINDOW, FAST_EDGES[0], FAST_EDGES[-1])
_FAST_BANDS = _bands(FAST_EDGES)
_SLOW = _dft(SLOW_WINDOW, SLOW_FIRST, SLOW_FIRST + SLOW_BANDS * SLOW_BINS)
_SLOW_BANDS = _bands(range(0, SLOW_BANDS * SLOW_BINS + 1, SLOW_BINS))


def envelopes(wave: npt.NDArray[np.float32]) -> Floats:
    """Statistics (STATISTICS,) of speech (n,) at 16 kHz, n >= 8,000 and not silent."""
    centred = wave.astype(np.float32) - wave.mean(dtype=np.float32)
    loud = (centred * (LOUDNESS / (np.sqrt((centred * centred).mean()) + 1e-9))).astype(np.float32)
    if len(loud) < MIN_SAMPLES:
        loud = np.tile(loud, -(-MIN_SAMPLES // len(loud)))
    found: Floats = np.nan_to_num(_joined([_fast(loud), _slow(loud)]))
    return found


def _powers(wave: Floats, window: int, hop: int, matrix: Floats) -> Floats:
    """Power of each bin of `matrix`, (frames, bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
    parts = np.ascontiguousarray(frames) @ matrix
    parts *= parts
    bins = parts.shape[1] // 2
    power: Floats = parts[:, :bins] + parts[:, bins:]
    return power


def _speech(power: Floats, pad: int) -> Floats:
    """Without what lies before the first and after the last frame of some loudness; a click is repeated."""
    level = power.sum(axis=1)
    loud = np.flatnonzero(level > level.max() * 10.0 ** (-TRIM_DB / 10.0))
    if len(loud) == 0:
        return power
    span = power[max(0, int(loud[0]) - pad) : int(loud[-1]) + 1 + pad]
    return span if len(span) >= LEAST_FRAMES else np.tile(span, (-(-LEAST_FRAMES // len(span)), 1))


def _fast(wave: Floats) -> Floats:
    """Envelopes every millisecond: moments, correlations between bands at some lags, how fast they move."""
    bands = _speech(_powers(wave, FAST_WINDOW, FAST_HOP, _FAST) @ _FAST_BANDS, FAST_PAD)
    logs = np.log(bands + FLOOR * bands.mean(axis=0) + 1e-20)
    total = np.concatenate([np.zeros((1, logs.shape[1])), np.cumsum(logs, axis=0, dtype=np.float64)])
    slow = ((total[FAST_LEVEL:] - total[:-FAST_LEVEL]) / FAST_LEVEL).astype(np.float32)
    moves = logs[FAST_LEVEL // 2 : FAST_LEVEL // 2 + len(slow)] - slow
    moves /= moves.std(axis=0) + 1e-6
    frames, squares = len(moves), moves * moves
    found = [np.log((squares * squares).mean(axis=0) + 1e-9), (squares * moves).mean(axis=0)]
    for lag in LAGS_MS:
        together = moves[lag:].T @ moves[: frames - lag] / frames
        found.append(together[np.triu_indices(len(together), 1)] if lag == 0 else together.ravel())
    found.append(_rates(moves, FAST_SPECTRUM, FAST_STEP, FAST_RATES))
    return _joined(found)


def _slow(wave: Floats) -> Floats:
    """Changes of the level every 4 ms: how fast they come, how bands change together, how unevenly."""
    bands = _speech(_powers(wave, SLOW_WINDOW, SLOW_HOP, _SLOW) @ _SLOW_BANDS, SLOW_PAD)
    changes = np.diff(np.log(bands + FLOOR * bands.mean(axis=0) + 1e-20), axis=0)
    frames = len(changes)
    spread = changes.std(axis=0) + 1e-6
    scaled = (changes - changes.mean(axis=0)) / spread
    together = (scaled.T @ scaled / frames)[np.triu_indices(SLOW_BANDS, 1)]
    squares = (changes / spread) ** 2
    uneven = np.log((squares * squares).mean(axis=0) + 1e-9)
    rates = _rates(changes, SLOW_SPECTRUM, SLOW_STEP, SLOW_RATES)
    return _joined([rates, together, np.log(spread), uneven])


def _rates(series: Floats, window: int, step: int, edges: tuple[int, ...]) -> Floats:
    """Log share of each band's movement between each two of `edges`, of `series` (frames, bands)."""
    if len(series) < window:
        series = np.tile(series, (-(-window // len(series)), 1))
    frames = np.lib.stride_tricks.sliding_window_view(series, window, axis=0)[::step]
    spectrum = rfft(frames * _hann(window), axis=2)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=0)
    power /= power.sum(axis=1, keepdims=True) + 1e-20
    shares = [power[:, low:high].mean(axis=1) for low, high in pairwise(edges)]
    return _joined([np.log(np.stack(shares) + 1e-7).ravel()])


def _joined(parts: list[npt.NDArray[Any]]) -> Floats:
    joined: Floats = np.concatenate(parts).astype(np.float32)
    return joined


@dataclass(frozen=True, slots=True)
class EnvelopeHead:
    """One hidden layer over the statistics; the first answer is a person's, each other a synthesiser's."""

    mean: Floats
    scale: Floats
    hidden: Floats
    """(units, STATISTICS)"""
    hidden_bias: Floats
    answers: Floats
    """(1 + synthesisers, units)"""
    answers_bias: Floats

    def __post_init__(self) -> None:
        units, kinds = len(self.hidden_bias), len(self.answers_bias)
        wanted = {
            "mean": (STATISTICS,),
            "scale": (STATISTICS,),
            "hidden": (units, STATISTICS),
            "hidden_bias": (units,),
            "answers": (kinds, units),
            "answers_bias": (kinds,),
        }
        for name, shape in wanted.items():
            part = getattr(self, name)
            if part.shape != shape or part.dtype != np.float32 or not np.isfinite(part).all():
                raise ValueError(f"{name} of the envelopes' head is not {shape} finite numbers")
        if kinds < 2 or self.scale.min() <= 0:
            raise ValueError("the head on band envelopes has no two classes")

    @classmethod
    def from_bytes(cls, data: bytes) -> EnvelopeHead:
        """From an uncompressed .npz of these parts; raises ValueError when it is anything else."""
        return cls(**read_arrays(data, cls.__slots__, "the envelopes' head", MAX_HEAD_BYTES))

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(self, name) for name in self.__slots__})
        return buffer.getvalue()

    def score(self, found: Floats) -> float:
        """Of `envelopes`: the logit of a person against any of the synthesisers."""
        scaled = np.clip((found - self.mean) / self.scale, -4.0, 4.0)
        logits = self.answers @ np.maximum(self.hidden @ scaled + self.hidden_bias, 0.0) + self.answers_bias
        return float(logits[0] - np.logaddexp.reduce(logits[1:]))
