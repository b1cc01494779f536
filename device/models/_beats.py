"""Does speech keep the exact beat of a machine's frames? No attack needs to be heard to know.

Neural synthesisers, converters and codecs make a frame 40 to 125 times a second and stretch it to samples.
What they add repeats with every frame: lines, envelopes and phases at exact multiples of the frame rate
(cyclostationarity; Gardner 1991; Odena 2016 on the stretching). People have pitch, but nothing that stays
exact for seconds. So each multiple of a rate is compared with its own neighbourhood, which makes the answer
blind to gain, filters, noise and rooms: they change both alike.

Everything before the transforms shifts with the samples: frames of our own would put a beat into everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
BAND_RATE_HZ = 1_000
"""Samples a second of a sub-band; a frequency appears in it modulo this."""
DECIMATION = SAMPLE_RATE_HZ // BAND_RATE_HZ
BAND_STEP_HZ = 250.0
BAND_HALF_WIDTH_HZ = 250.0
CENTRES_HZ = tuple(np.arange(2_625.0, 6_876.0, BAND_STEP_HZ).tolist())
"""From 2.4 to 7.1 kHz: below, mains hum keeps an exact beat too."""
FRAME_RATES_HZ = (40.0, 50.0, 62.5, 75.0, 80.0, 22_050 / 256, 93.75, 100.0, 125.0)
"""Samples a second over samples a frame, as synthesisers and codecs have them: 16,000/320, 24,000/300, ..."""
ANY_RATE_HZ = 38.0 * np.exp(np.arange(0.0, np.log(102.0 / 38.0), 2e-4))
"""Where an unlisted rate is looked for: speech played one per cent faster keeps a beat, at another rate."""
KINDS = ("envelope", "line", "product")
SUMMARIES = ("log", "power")
STATISTICS = tuple(f"{kind} {summary}" for kind in KINDS for summary in SUMMARIES)
SEARCHED = tuple(name for name in STATISTICS if not name.startswith("line"))
"""Lines want a rate to be exact to a hundred-thousandth; the other two are content with the grid."""
LEVEL_SAMPLES = 25
"""Length of the moving averages (25 ms) that level every band, applied twice."""
FLOOR = 1e-6
"""Of a band's mean power: quieter than this is not levelled up."""
LOUDEST = 2.0
"""Times the local level: one click is no beat."""
BESIDE_STEPS = range(2, 7)
"""Bands that share no frequency, 500 to 1,500 Hz apart, are multiplied."""
ENVELOPE_HZ = (31.0, 480.0)
PRODUCT_REACH_HZ = 200.0
GAP_HZ, NEIGHBOURS_HZ = 1.5, 5.5
"""A line is compared with what lies from 1.5 to 7 Hz beside it, on both sides."""
STRONGEST = 15.0
"""A louder line counts as this: tones belong to rooms, too."""

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Beats:
    """How far frame rates stand out of one wave: means of summaries over all multiples of a rate.

    A summary is of a line's power over its neighbourhood's, which is about one where there is no beat.
    """

    listed: Floats
    """(rates, STATISTICS), rows as `FRAME_RATES_HZ`."""
    searched: Floats
    """(any rates, SEARCHED), rows as `ANY_RATE_HZ`."""


@dataclass(frozen=True, slots=True)
class _Multiples:
    """The bins at the multiples of every rate that lie in one span, from its first bin, rate after rate."""

    bins: npt.NDArray[np.intp]
    start: npt.NDArray[np.intp]
    count: npt.NDArray[np.intp]


def beats(wave: npt.NDArray[np.float32]) -> Beats:
    """Of speech (n,) at 16 kHz, n >= 8,000."""
    envelope, levelled = _levelled(_sub_bands(wave))
    window = _window(levelled.shape[1])
    shared = levelled * np.sqrt(window)
    moving = [_curves(envelope * window, 0)]
    moving += [_curves(shared[step:] * shared[:-step].conj(), step) for step in BESIDE_STEPS]
    envelopes, products = _at(moving, listed=True)
    lines = _lines_standing_out(levelled * window)
    searched = np.concatenate(_at(moving, listed=False)).T
    return Beats(np.concatenate([envelopes, lines, products]).T, searched)


def envelope_spectrum(wave: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """(hz, how far each stands out of its neighbourhood in the envelopes of the bands), for pictures."""
    envelope, _ = _levelled(_sub_bands(wave))
    curve = _curves(envelope * _window(envelope.shape[1]), 0)
    hz = (np.arange(curve.values.shape[1]) + _bin(ENVELOPE_HZ[0], curve.bins)) * BAND_RATE_HZ / curve.bins
    return hz, curve.values[1]


def _window(steps: int) -> Floats:
    inside: Floats = np.hanning(steps + 2)[1:-1]
    return inside


def _levelled(bands: Complexes) -> tuple[Floats, Complexes]:
    """(envelopes around zero, sub-bands) with their loudness evened out."""
    power = bands.real**2 + bands.imag**2
    power += FLOOR * power.mean(axis=1, keepdims=True) + 1e-20
    level = _moving_average(_moving_average(power))
    envelope = np.sqrt(power / level)
    even = bands / np.sqrt(level)
    even *= np.minimum(1.0, LOUDEST / np.maximum(np.abs(even), 1e-12))
    return envelope - envelope.mean(axis=1, keepdims=True), even


def _sub_bands(wave: npt.NDArray[np.float32]) -> Complexes:
    """Complex sub-bands, Hann-shaped in frequency, at BAND_RATE_HZ: (bands, samples / DECIMATION)."""
    centred = wave.astype(np.float64) - wave.mean(dtype=np.float64)
    padded = np.pad(centred / (centred.std() + 1e-12), (0, -len(centred) % DECIMATION))
    spectrum = np.fft.rfft(padded)
    steps, step_hz = len(padded) // DECIMATION, SAMPLE_RATE_HZ / len(padded)
    found = np.zeros((len(CENTRES_HZ), steps), np.complex128)
    for row, centre in zip(found, CENTRES_HZ, strict=True):
        sides = (centre - BAND_HALF_WIDTH_HZ, centre + BAND_HALF_WIDTH_HZ)
        first, last = (int(np.ceil(hz / step_hz)) for hz in sides)
        bins = np.arange(first, last)
        shape = np.cos(np.pi * (bins * step_hz - centre) / (2 * BAND_HALF_WIDTH_HZ)) ** 2
        row[bins % steps] = spectrum[bins] * shape
    return np.fft.ifft(found, axis=1)


def _moving_average(power: Floats) -> Floats:
    before = LEVEL_SAMPLES // 2
    padded = np.pad(power, ((0, 0), (before + 1, LEVEL_SAMPLES - 1 - before)), mode="edge").cumsum(axis=1)
    averaged: Floats = (padded[:, LEVEL_SAMPLES:] - padded[:, :-LEVEL_SAMPLES]) / LEVEL_SAMPLES
    return averaged


def _ratios(series: Floats | Complexes, low_hz: float, high_hz: float) -> Floats:
    """Power over its neighbourhood's of windowed `series` (rows, steps), bins from `low_hz` to `high_hz`."""
    steps, rows = series.shape[1], np.arange(len(series))[:, None]
    bins = _bins(steps)
    near = round(max(GAP_HZ, 3.0 * BAND_RATE_HZ / steps) * bins / BAND_RATE_HZ)
    far = near + round(NEIGHBOURS_HZ * bins / BAND_RATE_HZ)
    first, last = _bin(low_hz, bins), _bin(high_hz, bins) + 1
    wanted = np.arange(first - far - 1, last + far)
    if np.iscomplexobj(series):
        spectrum = np.fft.fft(series, bins, axis=1)[rows, wanted % bins]
    else:
        spectrum = np.fft.rfft(series, bins, axis=1)[rows, np.abs(wanted)]
    power = spectrum.real**2 + spectrum.imag**2
    total, count = power.cumsum(axis=1), last - first

    def upto(offset: int) -> Floats:
        part: Floats = total[:, far + 1 + offset : far + 1 + offset + count]
        return part

    beside = upto(far) - upto(near) + upto(-near - 1) - upto(-far - 1)
    ratios: Floats = (upto(0) - upto(-1)) / (beside / (2 * (far - near)) + 1e-30)
    return ratios


def _bins(steps: int) -> int:
    return 1 << (steps - 1).bit_length()


def _bin(hz: float, bins: int) -> int:
    return round(hz * bins / BAND_RATE_HZ)


@dataclass(frozen=True, slots=True)
class _Curves:
    """Both summaries of every bin of a span, averaged over the rows."""

    step: int
    bins: int
    values: Floats
    """(SUMMARIES, bins of the span)"""


def _curves(series: Floats | Complexes, step: int) -> _Curves:
    ratios = _ratios(series, *_span(step))
    values = np.stack([np.log(0.2 + ratios).mean(axis=0), np.minimum(ratios, STRONGEST).mean(axis=0)])
    return _Curves(step, _bins(series.shape[1]), values)


@lru_cache(maxsize=192)
def _multiples(listed: bool, low_hz: float, high_hz: float, bins: int) -> _Multiples:
    rates = np.array(FRAME_RATES_HZ) if listed else ANY_RATE_HZ
    first = np.ceil(low_hz / rates).astype(np.intp)
    count = np.floor(high_hz / rates).astype(np.intp) - first + 1
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    multiple = np.arange(count.sum()) - np.repeat(start - first, count)
    at = np.round(multiple * np.repeat(rates, count) * bins / BAND_RATE_HZ).astype(np.intp)
    return _Multiples(at - _bin(low_hz, bins), start, count)


def _span(step: int) -> tuple[float, float]:
    apart = step * BAND_STEP_HZ
    return ENVELOPE_HZ if step == 0 else (apart - PRODUCT_REACH_HZ, apart + PRODUCT_REACH_HZ)


def _at(moving: list[_Curves], listed: bool) -> list[Floats]:
    """Means over the multiples of every rate: of envelopes and of products, (SUMMARIES, rates) each."""
    sums = []
    for one in moving:
        found = _multiples(listed, *_span(one.step), one.bins)
        total = np.add.reduceat(one.values[:, found.bins], found.start, axis=1)
        sums.append((_rows(one.step) * total, _rows(one.step) * found.count))
    groups = (sums[:1], sums[1:])
    return [np.sum([a for a, _ in group], axis=0) / np.sum([n for _, n in group], axis=0) for group in groups]


def _rows(step: int) -> int:
    return len(CENTRES_HZ) - step


@lru_cache(maxsize=1)
def searched_lines() -> Floats:
    """How many lines stand behind each of `Beats.searched`: (any rates, SEARCHED)."""
    counts = [_multiples(False, *_span(step), 1 << 12).count * _rows(step) for step in (0, *BESIDE_STEPS)]
    envelope, product = counts[0], np.sum(counts[1:], axis=0)
    lines: Floats = np.stack([envelope, envelope, product, product], axis=1).astype(np.float64)
    return lines


def _lines_standing_out(series: Complexes) -> Floats:
    """Means over the multiples of every listed rate within each band's own half: (SUMMARIES, rates)."""
    sums, bins = np.zeros((len(SUMMARIES) + 1, len(FRAME_RATES_HZ))), _bins(series.shape[1])
    for centre, row in zip(CENTRES_HZ, series, strict=True):
        span = (centre - BAND_STEP_HZ / 2, centre + BAND_STEP_HZ / 2)
        found = _multiples(True, *span, bins)
        here = _ratios(row[None], *span)[0, found.bins]
        sums[0] += np.add.reduceat(np.log(0.2 + here), found.start)
        sums[1] += np.add.reduceat(np.minimum(here, STRONGEST), found.start)
        sums[2] += found.count
    means: Floats = sums[:-1] / sums[-1]
    return means
