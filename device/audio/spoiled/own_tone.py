"""Finds the door's own tones in what the microphone hears, and takes them out.

Somebody may have begun to speak meanwhile; and a loudspeaker that another program held, or one by radio,
plays late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ, Samples

HARMONICS = 3
"""A small loudspeaker adds the double and the triple."""
HALF_WIDTH_HZ = 30.0
"""What a tone of a tenth of a second is wide."""


@dataclass(frozen=True, slots=True)
class OwnTones:
    """What a door's loudspeaker plays, for its microphone."""

    asks_hz: float
    """The tone that asks to speak, one note ..."""
    asks_s: float
    deaf_s: float
    """... which sounds within this long after it was called for, including its way to the microphone."""
    every_hz: tuple[float, ...]
    """All notes of all tones: one may be left from the attempt before."""


def without_tone(samples: Samples, tones_hz: Sequence[float]) -> Samples:
    """`samples` (n,) less a narrow band about each tone and its harmonics."""
    if len(samples) == 0:
        return samples
    spectrum = rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLE_RATE_HZ)
    for tone_hz in tones_hz:
        for harmonic in range(1, HARMONICS + 1):
            spectrum[np.abs(hz - harmonic * tone_hz) <= HALF_WIDTH_HZ] = 0.0
    left: Samples = np.clip(np.round(np.fft.irfft(spectrum, len(samples))), -32768, 32767).astype(np.int16)
    return left


STEP_SAMPLES = 160
BEFORE_STEPS = 6
"""60 ms: a tone comes out of nothing, where a vowel's harmonic was near before."""
SHARE = 0.35
"""Of the power while a tone sounds, its own; a tone alone has 0.95 and more."""
RISES = 8.0
LEAST_POWER = 400.0
"""Of int16 samples: what is fainter is a computed silence."""
PURE = 0.75
"""Of the power of 20 ms; a vowel has several harmonics, and they move."""
EDGE_HZ = 75.0
EDGE_PURE = 0.5
"""The same of all tones together, where one swells, fades or follows another."""


def heard_until(samples: Samples, tone_hz: float, tone_s: float) -> float | None:
    """When the tone of `tone_s` that sounds in `samples` (n,) has ended, in seconds; None if none sounds.
    It is heard under speech that is as loud."""
    steps = len(samples) // STEP_SAMPLES
    window = round(0.8 * tone_s * SAMPLE_RATE_HZ) // STEP_SAMPLES
    if steps < window:
        return None
    wave = samples[: steps * STEP_SAMPLES].astype(np.float64)
    turned = wave * np.exp(-2j * np.pi * tone_hz / SAMPLE_RATE_HZ * np.arange(len(wave)))
    sums = _running(turned.reshape(steps, -1).sum(axis=1), window)
    power = _running(np.square(wave).reshape(steps, -1).sum(axis=1), window)
    length = window * STEP_SAMPLES
    own = 2.0 * np.square(np.abs(sums)) / length
    share = own / np.maximum(power, 1.0)
    before = np.full(len(own), 0.0)
    before[window + BEFORE_STEPS :] = own[: max(0, len(own) - window - BEFORE_STEPS)]
    found = (share >= SHARE) & (own >= RISES * before) & (power >= LEAST_POWER * length)
    if not found.any():
        return None
    first = int(np.flatnonzero(found)[0])
    near = slice(first, first + window)  # of one tone the window that it fills best
    best = first + int(np.argmax(own[near]))
    wave[:] = 0.0
    return best * STEP_SAMPLES / SAMPLE_RATE_HZ + tone_s


def purity(samples: Samples, tones_hz: Sequence[float]) -> tuple[float, float]:
    """Of the power of `samples` (n,), 20 ms: the share of one of these tones, held all through; and of all
    bands about them, where tones swell, fade and follow each other. Both 0 where it is silent."""
    wave = samples.astype(np.float64)
    wave -= wave.mean()
    power = float(np.square(wave).sum())
    if power < LEAST_POWER * len(wave):
        return 0.0, 0.0
    at = np.arange(len(wave)) / SAMPLE_RATE_HZ
    sums = np.exp(-2j * np.pi * np.outer(tones_hz, at)) @ wave
    one = 2.0 * float(np.square(np.abs(sums)).max()) / len(wave) / power
    spectrum = np.square(np.abs(rfft(wave, 2 * len(wave))))
    hz = np.fft.rfftfreq(2 * len(wave), 1.0 / SAMPLE_RATE_HZ)
    near = np.abs(hz[:, None] - np.asarray(tones_hz)).min(axis=1) <= EDGE_HZ
    wave[:] = 0.0
    return one, float(spectrum[near].sum() / spectrum.sum())


def _running(values: npt.NDArray[Any], window: int) -> npt.NDArray[Any]:
    """Sums of `window` values in a row."""
    total = np.concatenate((np.zeros(1, values.dtype), np.cumsum(values)))
    sums: npt.NDArray[Any] = total[window:] - total[:-window]
    return sums
