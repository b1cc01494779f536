"""Frame rates that need not be exact: what a finer search, and counting pauses less, give.

    python -m research.spoof rates --data SPEECH [--each N]

*Shipped* is the detector's own form with norms fitted here. *Weighed* is its form without the search by
products alone. *Before* is its first form, in which every moment counts alike. To that, *fine* adds the lines
at any rate, in steps of 0.003 %; *louder* counts each moment of a band by how far it lies above the band's
tenth quietest, and *noisy* does so only in bands that are never quiet. People and attacks are of the pages
that judge the folds, 4 s each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.models.spoof import frame_rates as fr
from device.models.spoof.norms import MOST_STANDING_OUT, NORM_SECONDS, searched_deviation
from quantize.errors import QuantizeError
from quantize.evaluate.door.heard import Condition, Surroundings, heard
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.train.fitting.norms import fit_norms
from quantize.train.speech.scoring import eer
from research.detector.splits import FOLDS
from research.spoof.inverse import SAMPLES, middle, spoken

STEP = 3e-5
FINE_HZ = np.exp(np.arange(np.log(38.0), np.log(102.0), STEP))
MAINS_HZ = (50.0, 60.0, 100.0)
BESIDE_MAINS = 4e-4
"""Lines of a rate so near to the mains do not count."""
QUIETEST, MARGIN = 10, 2.0
NOISY = 1e-3
"""Of a band's mean power: where its tenth quietest is louder, *noisy* does as *louder* does."""
PEOPLE, JUDGES = 100, 24
CONDITIONS = (
    (Condition("as they are"), False),
    (Condition("0.7 % faster", clock=1.007), False),
    (Condition("wobbling by 0.5 %", wobble=0.005), False),
    (Condition("noise at 20 dB", "noise", 20.0), True),
    (Condition("room", room="near"), True),
    (Condition("Opus 24 kbit/s", codec="opus"), True),
)
"""(how attacks are heard, whether people are heard so)."""
VARIANTS = ("before", "fine", "louder", "noisy", "weighed", "shipped")
OURS = ("weighed", "shipped")


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What is measured of one wave."""

    rates: fr.FrameRates
    lines: np.ndarray
    """(fine rates, 2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the lines of every fine rate lie."""

    at: np.ndarray
    start: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, bins: int) -> Places:
        spans = fr.SPANS["line"]
        lows = np.array([fr._bin(span.low_hz, bins) for span in spans])
        size = fr._count(spans[0], bins)
        first = np.ceil(spans[0].low_hz / FINE_HZ).astype(int)
        count = np.floor(spans[-1].high_hz / FINE_HZ).astype(int) - first + 1
        start = np.concatenate([[0], np.cumsum(count)[:-1]])
        rate = np.repeat(np.arange(len(FINE_HZ)), count)
        hz = (np.arange(len(rate)) - start[rate] + first[rate]) * FINE_HZ[rate]
        band = np.minimum(((hz - spans[0].low_hz) // fr.BAND_STEP_HZ).astype(int), len(spans) - 1)
        at = np.clip(np.round(hz * bins / fr.BAND_RATE_HZ).astype(int) - lows[band], 0, size - 1)
        return cls(at + band * size, start, count)


def measured(wave: np.ndarray, places: Places, variant: str = "shipped") -> Heard:
    """Of speech (SAMPLES,) at 16 kHz."""
    envelope, even, level = fr._levelled(fr._sub_bands(wave))
    if variant in ("louder", "noisy"):
        floor = np.percentile(level, QUIETEST, axis=1, keepdims=True)
        gain = np.clip(1.0 - MARGIN * floor / level, 0.0, 1.0)
        if variant == "noisy":
            quiet = floor < NOISY * level.mean(axis=1, keepdims=True)
            gain = np.where(quiet, 1.0, gain)
        envelope, even = envelope * gain, even * gain
    if variant in OURS:
        envelope, even = (one * fr.heard_above_noise(level) for one in (envelope, even))
    rates = fr.FrameRates(*fr._rates_in(envelope, even), fr.clear_of_noise(level))
    if variant != "fine":
        return Heard(rates, np.zeros((len(FINE_HZ), 2)))
    window = fr._window(even.shape[1])
    found = fr._standing_out(even * window, fr.SPANS["line"])
    lines = [np.add.reduceat(row.take(places.at), places.start) / places.count for row in found]
    return Heard(rates, np.stack(lines, axis=1))


class Norms:
    """What people give, as `quantize.train.fitting.norms` has it, and of the fine lines besides."""

    def __init__(self, people: Sequence[Heard], places: Places, variant: str) -> None:
        self.places, self.variant = places, variant
        self.shipped = fit_norms([[one.rates for one in people]] * len(NORM_SECONDS))
        self.any_mean, self.any_spread = self.shipped.searched_mean[-1], self.shipped.searched_spread[-1]
        lines = np.array([one.lines[::7] for one in people])
        self.line_mean = lines.mean(axis=(0, 1))
        off = (lines - self.line_mean) ** 2 * places.count[::7, None]
        self.line_spread = np.sqrt(off.mean(axis=(0, 1)))
        tops = np.array([self.top(one) for one in people])
        self.top_mean, self.top_spread = tops.mean(), tops.std()

    def top(self, one: Heard) -> float:
        """How far the best rate of all stands out."""
        found, _ = searched_deviation(one.rates.searched, self.any_mean, self.any_spread)
        if self.variant != "fine":
            return float(found.max())
        near = np.round(np.log(FINE_HZ / fr.ANY_RATE_HZ[0]) / 2e-4).astype(int).clip(0, len(found) - 1)
        off = (one.lines - self.line_mean) / (self.line_spread / np.sqrt(self.places.count)[:, None])
        lines = off.clip(-8.0, 8.0).mean(axis=1)
        for hz in MAINS_HZ:
            lines[np.abs(FINE_HZ / hz - 1.0) < BESIDE_MAINS] = 0.0
        return float((found[near] + lines).max())

    def score(self, one: Heard) -> float:
        """Higher is more human."""
        told = self.shipped.compare(one.rates, NORM_SECONDS[-1])
        if self.variant == "shipped":
            return told.score
        deviations = np.append(told.deviations[:-1], (self.top(one) - self.top_mean) / self.top_spread)
        return -float(np.log(np.exp(np.minimum(deviations, MOST_STANDING_OUT)).sum()))


def run(data: Path, each: int) -> None:
    """Print the EER of every variant by condition."""
    if each < 1:
        raise QuantizeError("at least one file of each system is needed; --each says how many")
    recordings = read_manifest(data / "manifest.tsv", data)
    pages = {page for fold in FOLDS for page in fold.pages}
    bona = [r for r in recordings if r.label == "bonafide"]
    fitted = _whole(data, [r for r in bona if r.folder in ("libri", "so762")], PEOPLE)
    people = _whole(data, [r for r in bona if r.folder in pages], JUDGES)
    attacks = _whole(data, [r for r in recordings if r.label == "spoof" and r.folder in pages], each)
    if min(len(fitted), len(people), len(attacks)) < 20:
        raise QuantizeError(f"{data} has too few recordings of 4 s of the folds' pages, libri and so762")
    places, around = Places.of(fr._bins(SAMPLES // fr.DECIMATION)), Surroundings(data)
    norms = {
        name: Norms([measured(w, places, name) for w in fitted], places, name)
        for name in track(VARIANTS, description="people")
    }
    table = Table("condition", *VARIANTS, title=f"EER, {len(people)} people, {len(attacks)} attacks")
    for condition, alike in track(CONDITIONS, description="conditions"):
        cells = []
        for name in VARIANTS:
            live, fake = (
                np.array(
                    [
                        norms[name].score(measured(_in(w, str(n), how, around), places, name))
                        for n, w in enumerate(waves)
                    ]
                )
                for waves, how in ((people, condition if alike else CONDITIONS[0][0]), (attacks, condition))
            )
            cells.append(f"{eer(live, fake):.1%}")
        table.add_row(condition.name, *cells)
    Console(width=100).print(table)


def _whole(data: Path, recordings: Sequence[Recording], most: int) -> list[np.ndarray]:
    return [w for waves in spoken(data, recordings, most).values() for w in waves if len(w) == SAMPLES]


def _in(wave: np.ndarray, name: str, condition: Condition, around: Surroundings) -> np.ndarray:
    found = middle(heard(wave, name, "", condition, around))
    return np.pad(found, (0, SAMPLES - len(found))).astype(np.float32)
