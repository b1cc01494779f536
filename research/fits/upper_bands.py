"""How somebody fills an empty upper band: from noise in the rhythm of speech to a guess frame by frame.

Each takes speech (n,) at 16 kHz, forgets what is above 3.9 kHz, and makes a band above 4 kHz.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Dice = np.random.Generator
Maker = Callable[[Floats, Dice], Floats]

RATE_HZ, EDGE_HZ, SEAM_HZ = 16_000, 3_900.0, 4_000.0
SIZE, HOP = 512, 128
WINDOW = np.hanning(SIZE + 1)[:-1]
SEAM_BIN = SIZE * int(SEAM_HZ) // RATE_HZ
HELD = 12_000
"""Frames in a book."""


def above(wave: Floats, hz: float) -> Floats:
    return wave - below(wave, hz)


def below(wave: Floats, hz: float) -> Floats:
    spectrum, at = np.fft.rfft(wave), np.fft.rfftfreq(len(wave), 1 / RATE_HZ)
    return np.fft.irfft(spectrum / (1 + np.exp(np.clip((at - hz) / 25.0, -50, 50))), len(wave))


def joined(low: Floats, band: Floats, db: float, tilt_db: float = 0.0) -> Floats:
    """`low` and what `band` has above the seam, so far below it in level, falling by `tilt_db` to 8 kHz."""
    band = above(band, SEAM_HZ)
    spectrum, at = np.fft.rfft(band), np.fft.rfftfreq(len(band), 1 / RATE_HZ)
    band = np.fft.irfft(spectrum * 10 ** (-tilt_db * np.maximum(at / SEAM_HZ - 1, 0) / 20), len(band))
    level = np.sqrt(np.square(low).mean()) * 10 ** (db / 20)
    return low + band * level / max(float(np.sqrt(np.square(band).mean())), 1e-9)


def noise(ms: float, low_hz: float, db: float, tilt_db: float) -> Maker:
    """Noise in the rhythm of what lies between `low_hz` and the edge."""

    def make(wave: Floats, dice: Dice) -> Floats:
        low = below(wave, EDGE_HZ)
        window = np.hanning(round(ms * 16) + 2)[1:-1]
        rhythm = np.convolve(np.square(above(low, low_hz)), window / window.sum(), "same")
        return joined(low, dice.normal(size=len(wave)) * np.sqrt(np.maximum(rhythm, 1e-14)), db, tilt_db)

    return make


def bent(curve: Callable[[Floats], Floats], db: float, tilt_db: float) -> Maker:
    """What a bent curve adds: rectifiers, clipping."""

    def make(wave: Floats, dice: Dice) -> Floats:
        low = below(wave, EDGE_HZ)
        return joined(low, curve(low / max(float(np.abs(low).std()), 1e-9)), db, tilt_db)

    return make


def moved(hz: float, from_hz: float, db: float, tilt_db: float) -> Maker:
    """What is above `from_hz`, moved up."""

    def make(wave: Floats, dice: Dice) -> Floats:
        low = below(wave, EDGE_HZ)
        spectrum = np.fft.fft(above(low, from_hz) if from_hz else low)
        spectrum[len(wave) // 2 + 1 :] = 0.0
        turned = np.fft.ifft(spectrum) * np.exp(2j * np.pi * hz * np.arange(len(wave)) / RATE_HZ)
        return joined(low, np.real(turned), db, tilt_db)

    return make


def mirrored(wave: Floats, dice: Dice) -> Floats:
    """Upside down, and as much noise in its rhythm, which hides the mirror."""
    low = below(wave, EDGE_HZ)
    image = above(low * np.cos(np.pi * np.arange(len(low))), SEAM_HZ)
    hiss = above(noise(10, 2_000, 0, 0)(wave, dice) - low, SEAM_HZ)
    both = [part / max(float(np.sqrt(np.square(part).mean())), 1e-9) for part in (image, hiss)]
    return joined(low, both[0] + both[1], -18, 3)


def steady(db: float) -> Maker:
    return lambda wave, dice: joined(below(wave, EDGE_HZ), dice.normal(size=len(wave)), db)


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """Frames of people: what their lower band is like, and the upper band that was there with it."""

    below: Floats
    above: Floats
    line: Floats

    @classmethod
    def of(cls, waves: Sequence[Floats]) -> Book:
        power = np.concatenate(
            [np.square(np.abs(frames(wave / np.sqrt(np.square(wave).mean())))) for wave in waves]
        )
        kept = np.random.default_rng(0).permutation(len(power))[:HELD]
        low, high = cls.seen(power[kept]), np.log(_in(power[kept][:, SEAM_BIN:], 8))
        return cls(low, high, np.linalg.lstsq(cls.terms(low), high, rcond=None)[0])

    @staticmethod
    def seen(power: Floats) -> Floats:
        return np.asarray(np.log(_in(power[:, 3 : SEAM_BIN - 6], 10)))

    @staticmethod
    def terms(low: Floats) -> Floats:
        return np.column_stack((low, low**2, np.ones(len(low))))

    def near(self, low: Floats, many: int) -> Floats:
        far = np.square(low).sum(axis=1)[:, None] - 2 * low @ self.below.T + np.square(self.below).sum(axis=1)
        found: Floats = self.above[np.argpartition(far, many - 1, axis=1)[:, :many]].mean(axis=1)
        return found


def guessed(book: Book, many: int, *, copied: bool = False) -> Maker:
    """An upper band looked up for each frame: of the nearest `many` frames of people, or by a line for 0."""

    def make(wave: Floats, dice: Dice) -> Floats:
        gain = max(float(np.sqrt(np.square(wave).mean())), 1e-9)
        spectra = frames(below(wave, EDGE_HZ) / gain)
        low = Book.seen(np.square(np.abs(spectra)))
        high = book.near(low, many) if many else Book.terms(low) @ book.line
        if many != 1:
            high = np.stack([np.convolve(one, (0.25, 0.5, 0.25), "same") for one in high.T], axis=1)
        wide = spectra.shape[1] - SEAM_BIN
        amplitude = np.exp(np.repeat(high, -(-wide // 8), axis=1)[:, :wide] / 2)
        if copied:
            fine = spectra[:, :wide]
            fine = fine / np.maximum(np.sqrt(np.square(np.abs(fine)).mean(axis=1, keepdims=True)), 1e-9)
        else:
            fine = (dice.normal(size=amplitude.shape) + 1j * dice.normal(size=amplitude.shape)) / np.sqrt(2)
        spectra[:, SEAM_BIN:] = amplitude * fine
        return overlapped(spectra, len(wave)) * gain

    return make


def grafted(others: Sequence[Floats]) -> Maker:
    """Somebody else's upper band, of another sentence."""

    def make(wave: Floats, dice: Dice) -> Floats:
        return joined(
            below(wave, EDGE_HZ), np.resize(others[int(dice.integers(len(others)))], len(wave)), -18
        )

    return make


def frames(wave: Floats) -> npt.NDArray[np.complex128]:
    padded = np.pad(wave, SIZE)
    return np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP] * WINDOW, axis=1)


def overlapped(spectra: npt.NDArray[np.complex128], length: int) -> Floats:
    made, weight = np.zeros((2, (len(spectra) - 1) * HOP + SIZE))
    for at, piece in enumerate(np.fft.irfft(spectra, SIZE, axis=1) * WINDOW):
        made[at * HOP : at * HOP + SIZE] += piece
        weight[at * HOP : at * HOP + SIZE] += np.square(WINDOW)
    whole: Floats = (made / np.maximum(weight, 1e-3))[SIZE:]
    return np.pad(whole, (0, max(0, length - len(whole))))[:length]


def _in(power: Floats, many: int) -> Floats:
    return np.stack([part.mean(axis=1) for part in np.array_split(power, many, axis=1)], axis=1) + 1e-9


def makers(book: Book, others: Sequence[Floats]) -> Mapping[str, Mapping[str, Maker]]:
    """By family: a family is left out together."""
    return {
        "noise": {
            "noise, 10 ms": noise(10, 300, -18, 6),
            "noise of 2 kHz": noise(10, 2_000, -18, 6),
            "noise, 2 ms": noise(2, 300, -18, 3),
            "noise, loud": noise(20, 1_000, -10, 0),
        },
        "bent": {
            "rectified": bent(np.abs, -18, 3),
            "rectified, faint": bent(np.abs, -28, 3),
            "clipped": bent(lambda one: np.tanh(2 * one), -18, 0),
            "squared": bent(lambda one: one * np.abs(one), -20, 0),
        },
        "moved": {
            "moved by 4 kHz": moved(4_000, 0, -18, 6),
            "moved by 2 kHz": moved(2_000, 2_000, -18, 0),
            "moved by 3 kHz": moved(3_000, 1_000, -15, 6),
        },
        "mirrored": {"mirrored in noise": mirrored},
        "steady": {"steady noise": steady(-40), "steady noise, loud": steady(-30)},
        "guessed": {
            "guessed by a line": guessed(book, 0),
            "guessed of 20": guessed(book, 20),
            "guessed of 20, copied": guessed(book, 20, copied=True),
            "guessed of 1": guessed(book, 1),
        },
        "grafted": {"grafted": grafted(others)},
    }
