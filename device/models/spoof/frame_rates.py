"""Finds the exact frame rate of a synthesiser in speech. Fitted on bona fide speech alone.

Neural synthesisers, converters and codecs make a frame 40 to 125 times a second and stretch it to samples.
What they add repeats with every frame: lines, envelopes and phases at exact multiples of the frame rate
(cyclostationarity; Gardner 1991; Odena 2016 on the stretching). People have pitch, but nothing that stays
exact for seconds. So each multiple of a rate is compared with its own neighbourhood, which makes the answer
blind to gain, filters, noise and rooms: they change both alike.

Where a band is never quiet, what lies near its quietest is taken for noise and counts less.

Everything before the transforms shifts with the samples: frames of our own would put a beat into everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ

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
MOVING = ("envelope", "product")
"""Lines want a rate to be exact to a hundred-thousandth; these two are content with a grid of rates."""
SEARCHED = tuple(f"{kind} {summary}" for kind in MOVING for summary in SUMMARIES)
LEVEL_SAMPLES = 25
"""Length of the moving averages (25 ms) that level every band, applied twice."""
FLOOR = 1e-6
"""Of a band's mean power: quieter than this is not levelled up."""
LOUDEST = 2.0
"""Times the local level: one click is no beat."""
QUIETEST = 0.1
"""The share of a band's moments that tells how quiet it becomes ..."""
NOISY = (-2.5, -1.5)
"""... and from where to where, in powers of ten of the band's mean power, that is taken for noise."""
NOISE_MARGIN = 1.5
"""Times the noise: a moment no louder counts nothing."""
CLEAR = (-2.4, -2.6)
"""Where products at any rate find nothing but chance, and where they count in full: the tenth quietest level
of a band over its mean, in powers of ten, in the mean of all bands."""
FORM = 3
"""Raised with every change of what is measured here: norms are fitted to one form, and the card names it."""
BESIDE_STEPS = range(2, 7)
"""Bands that share no frequency, 500 to 1,500 Hz apart, are multiplied."""
ENVELOPE_HZ = (31.0, 480.0)
PRODUCT_REACH_HZ = 200.0
GAP_HZ, NEIGHBOURS_HZ = 1.5, 5.5
"""A line is compared with what lies from 1.5 to 7 Hz beside it, on both sides."""
STRONGEST = 15.0
"""A louder line counts as this: tones belong to rooms, too."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Where multiples are looked for, and how many rows are added up there."""

    low_hz: float
    high_hz: float
    rows: int


SPANS = {
    "envelope": (_Span(*ENVELOPE_HZ, len(CENTRES_HZ)),),
    "line": tuple(_Span(hz - BAND_STEP_HZ / 2, hz + BAND_STEP_HZ / 2, 1) for hz in CENTRES_HZ),
    "product": tuple(
        _Span(
            step * BAND_STEP_HZ - PRODUCT_REACH_HZ,
            step * BAND_STEP_HZ + PRODUCT_REACH_HZ,
            len(CENTRES_HZ) - step,
        )
        for step in BESIDE_STEPS
    ),
}
"""A line is looked for in its own band's half, where no other band has it."""

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class FrameRates:
    """How far frame rates stand out of one wave: means of summaries over all multiples of a rate.

    A summary is of a line's power over its neighbourhood's, which is about one where there is no beat.
    """

    listed: Floats
    """(rates, STATISTICS), rows as `FRAME_RATES_HZ`."""
    searched: Floats
    """(any rates, SEARCHED), rows as `ANY_RATE_HZ`."""
    clear: float
    """From 0, where noise or echoes fill every pause, to 1."""


def frame_rates(wave: npt.NDArray[np.float32]) -> FrameRates:
    """Of speech (n,) at 16 kHz, n >= 8,000."""
    envelope, levelled, level = _levelled(_sub_bands(wave))
    heard = heard_above_noise(level)
    return FrameRates(*_rates_in(envelope * heard, levelled * heard), clear_of_noise(level))


def _rates_in(envelope: Floats, levelled: Complexes) -> tuple[Floats, Floats]:
    """Of levelled envelopes and sub-bands (bands, steps)."""
    window, bins = _window(levelled.shape[1]), _bins(levelled.shape[1])
    shared = levelled * np.sqrt(window)
    products = [
        _standing_out(shared[step:] * shared[:-step].conj(), (span,))
        for step, span in zip(BESIDE_STEPS, SPANS["product"], strict=True)
    ]
    found = {
        "envelope": _standing_out(envelope * window, SPANS["envelope"]),
        "line": _standing_out(levelled * window, SPANS["line"]),
        "product": np.concatenate(products, axis=1),
    }
    listed, searched = (
        np.concatenate([_means(found[kind], _multiples(kind, here, bins)) for kind in kinds]).T
        for here, kinds in ((True, KINDS), (False, MOVING))
    )
    return listed, searched


def clear_of_noise(level: Floats) -> float:
    """How far bands with such `level` (bands, steps) become quiet between words: from 0 to 1."""
    quiet = float(np.log10(_quietest(level)).mean())
    return min(1.0, max(0.0, (quiet - CLEAR[0]) / (CLEAR[1] - CLEAR[0])))


def _quietest(level: Floats) -> Floats:
    """The tenth quietest level of each band over its mean."""
    quiet: Floats = np.quantile(level, QUIETEST, axis=1) / level.mean(axis=1)
    return quiet


def heard_above_noise(level: Floats) -> Floats:
    """How much each moment counts of bands with such `level` (bands, steps): from 0 for noise to 1."""
    mean, quiet = level.mean(axis=1), _quietest(level)
    noisy = np.clip((np.log10(quiet) - NOISY[0]) / (NOISY[1] - NOISY[0]), 0.0, 1.0)
    noise = (noisy * quiet * mean)[:, None]
    heard: Floats = np.maximum(0.0, 1.0 - NOISE_MARGIN * noise / level)
    return heard


def envelope_spectrum(wave: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """(hz, how far each stands out of its neighbourhood in the envelopes of the bands), for pictures."""
    envelope, _, _ = _levelled(_sub_bands(wave))
    (span,), bins = SPANS["envelope"], _bins(envelope.shape[1])
    found = _standing_out(envelope * _window(envelope.shape[1]), (span,))
    hz = (np.arange(found.shape[1]) + _bin(span.low_hz, bins)) * BAND_RATE_HZ / bins
    return hz, found[1] / span.rows


def _window(steps: int) -> Floats:
    inside: Floats = np.hanning(steps + 2)[1:-1]
    return inside


def _levelled(bands: Complexes) -> tuple[Floats, Complexes, Floats]:
    """(envelopes around zero, sub-bands) with their loudness evened out, and their levels."""
    power = bands.real**2 + bands.imag**2
    power += FLOOR * power.mean(axis=1, keepdims=True) + 1e-20
    level = _moving_average(_moving_average(power))
    power /= level
    envelope = np.sqrt(power, out=power)
    even = bands * (np.minimum(1.0, LOUDEST / envelope) / np.sqrt(level))
    return envelope - envelope.mean(axis=1, keepdims=True), even, level


def _sub_bands(wave: npt.NDArray[np.float32]) -> Complexes:
    """Complex sub-bands, Hann-shaped in frequency, at BAND_RATE_HZ: (bands, samples / DECIMATION)."""
    wanted = -(-len(wave) // DECIMATION)
    steps = fast_length(wanted)
    padded = np.zeros(steps * DECIMATION)
    padded[: len(wave)] = wave
    padded[: len(wave)] -= padded.sum() / len(wave)
    spectrum = rfft(padded) / (np.sqrt(padded @ padded / len(wave)) + 1e-12)
    step_hz = BAND_RATE_HZ / steps
    found = np.zeros((len(CENTRES_HZ), steps), np.complex128)
    for row, centre in zip(found, CENTRES_HZ, strict=True):
        sides = (centre - BAND_HALF_WIDTH_HZ, centre + BAND_HALF_WIDTH_HZ)
        first, last = (int(np.ceil(hz / step_hz)) for hz in sides)
        offset = (np.arange(first, last) * step_hz - centre) * (np.pi / BAND_HALF_WIDTH_HZ)
        shaped = spectrum[first:last] * (0.5 + 0.5 * np.cos(offset))
        start = first % steps
        row[start : start + len(shaped)] = shaped[: steps - start]
        row[: max(0, start + len(shaped) - steps)] = shaped[steps - start :]
    return np.fft.ifft(found, axis=1)[:, :wanted]


def fast_length(steps: int) -> int:
    """The next number of no prime factor above five, for which transforms are fast."""
    while True:
        rest = steps
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return steps
        steps += 1


def _moving_average(power: Floats) -> Floats:
    before = LEVEL_SAMPLES // 2
    padded = np.pad(power, ((0, 0), (before + 1, LEVEL_SAMPLES - 1 - before)), mode="edge").cumsum(axis=1)
    averaged: Floats = (padded[:, LEVEL_SAMPLES:] - padded[:, :-LEVEL_SAMPLES]) / LEVEL_SAMPLES
    return averaged


def _standing_out(series: Floats | Complexes, spans: Sequence[_Span]) -> Floats:
    """SUMMARIES of how far each bin stands out, of windowed `series` (rows, steps): (SUMMARIES, bins).

    With one span the rows are added up in it; with as many as rows each row has its own, one after the other.
    """
    bins = _bins(series.shape[1])
    firsts = np.array([_bin(span.low_hz, bins) for span in spans])
    ratios = _ratios(series, firsts, _count(spans[0], bins), bins)
    both = np.stack([np.log(0.2 + ratios), np.minimum(ratios, STRONGEST)])
    together: Floats = both.sum(axis=1) if len(spans) == 1 else both.reshape(len(both), -1)
    return together


def _ratios(series: Floats | Complexes, firsts: npt.NDArray[np.intp], count: int, bins: int) -> Floats:
    """Power over its neighbourhood's of `series` (rows, steps), `count` bins of each row from `firsts`."""
    near = round(max(GAP_HZ, 3.0 * BAND_RATE_HZ / series.shape[1]) * bins / BAND_RATE_HZ)
    far = near + round(NEIGHBOURS_HZ * bins / BAND_RATE_HZ)
    wanted = firsts[:, None] + np.arange(-far - 1, count + far)
    if np.iscomplexobj(series):
        spectrum, wanted = np.fft.fft(series, bins, axis=1), wanted % bins
    else:
        spectrum, wanted = rfft(series, bins, axis=1), np.abs(wanted)
    rows = np.arange(len(series))[:, None] * spectrum.shape[1]
    spectrum = spectrum.ravel().take(rows + wanted)
    power = spectrum.real**2 + spectrum.imag**2
    total = power.cumsum(axis=1)

    def upto(offset: int) -> Floats:
        part: Floats = total[:, far + 1 + offset : far + 1 + offset + count]
        return part

    beside = upto(far) - upto(near) + upto(-near - 1) - upto(-far - 1)
    ratios: Floats = power[:, far + 1 : far + 1 + count] / (beside / (2 * (far - near)) + 1e-30)
    return ratios


def _bins(steps: int) -> int:
    return 1 << (steps - 1).bit_length()


def _bin(hz: float, bins: int) -> int:
    return round(hz * bins / BAND_RATE_HZ)


def _count(span: _Span, bins: int) -> int:
    return _bin(span.high_hz, bins) - _bin(span.low_hz, bins) + 1


@dataclass(frozen=True, slots=True)
class _Multiples:
    """Where the multiples of every rate lie in a kind's spans, rate after rate."""

    places: npt.NDArray[np.intp]
    start: npt.NDArray[np.intp]
    lines: Floats
    """(rates,), how many lines that is in all rows."""


@lru_cache(maxsize=48)
def _multiples(kind: str, listed: bool, bins: int) -> _Multiples:
    rates = np.array(FRAME_RATES_HZ) if listed else ANY_RATE_HZ
    found, lines, offset = [], np.zeros(len(rates)), 0
    for span in SPANS[kind]:
        first = np.ceil(span.low_hz / rates).astype(np.intp)
        count = np.floor(span.high_hz / rates).astype(np.intp) - first + 1
        rate = np.repeat(np.arange(len(rates)), count)
        multiple = np.arange(len(rate)) - np.repeat(np.cumsum(count) - count - first, count)
        at = np.round(multiple * rates[rate] * bins / BAND_RATE_HZ).astype(np.intp)
        found.append(np.stack([rate, at - _bin(span.low_hz, bins) + offset]))
        lines += span.rows * count
        offset += _count(span, bins)
    rate, places = np.concatenate(found, axis=1)
    order = np.argsort(rate, kind="stable")
    return _Multiples(places[order], np.searchsorted(rate[order], np.arange(len(rates))), lines)


def _means(found: Floats, at: _Multiples) -> Floats:
    """Means over the multiples of every rate, of what `_standing_out` gives: (SUMMARIES, rates)."""
    return np.stack([np.add.reduceat(row.take(at.places), at.start) / at.lines for row in found])


@lru_cache(maxsize=1)
def searched_lines() -> Floats:
    """How many lines stand behind each of `FrameRates.searched`: (any rates, SEARCHED)."""
    counts = [_multiples(kind, False, 1 << 12).lines for kind in MOVING]
    return np.repeat(np.stack(counts, axis=1), len(SUMMARIES), axis=1)
