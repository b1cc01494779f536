"""Files as a door hears them under stated conditions, and the rows that scores of them are written in."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.evaluate.figures import metrics
from quantize.evaluate.figures.metrics import Ranked
from quantize.train.speech.attacks import Row
from quantize.train.speech.augment import add_noise
from quantize.train.speech.corpus import Item, Wave
from quantize.train.speech.replay import convolve, loudspeaker

MAX_SAMPLES = 6 * SAMPLE_RATE_HZ
ALL_CONDITIONS = ("plain", "replayed", "noisy", "coded", "room")
COLUMNS = ("synthetic", "loudspeaker", "moments", "envelopes", "cadence")
"""Scores of a file: the first network's two, the second network's, of its envelopes, of its frame rates."""


def render(item: Item, condition: str, rooms: Sequence[Wave], recordings: Sequence[Wave]) -> Wave:
    """One file as the detector hears it; draws depend on the path alone, so every model hears the same."""
    rng = np.random.default_rng([*item.path.encode()])
    wave = (item.coded if condition == "coded" else item.wave)[:MAX_SAMPLES].astype(np.float32) / 32768
    if condition == "noisy":
        wave = add_noise(wave, rng, recordings, 15.0)
    if condition in ("replayed", "room"):
        played = loudspeaker(wave, rng) if condition == "replayed" else wave
        wave = convolve(played, rooms[int(rng.integers(len(rooms)))])
        wave = add_noise(wave, rng, recordings, rng.uniform(15, 35))
    return wave.astype(np.float32)


def score_rows(
    items: Sequence[Item], found: npt.NDArray[np.float64], condition: str, fold: str, part: str
) -> list[Row]:
    """Rows of a score file; `found` has shape (n, COLUMNS), higher for bona fide."""
    return [
        {
            "fold": fold,
            "part": part,
            "condition": condition,
            "path": item.path,
            "label": "spoof" if item.spoof else "bonafide",
            "page": item.page,
            "system": item.system,
            "family": item.family,
            "voice": item.voice,
            "seconds": f"{len(item.wave) / SAMPLE_RATE_HZ:.2f}",
            **{name: f"{score:.4f}" for name, score in zip(COLUMNS, scores, strict=True)},
        }
        for item, scores in zip(items, found, strict=True)
    ]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows of a score file, at least one. Raises OSError."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def eer(bonafide: npt.ArrayLike, spoof: npt.ArrayLike) -> float:
    """Equal error rate of scores where higher is more bona fide, as every report has it."""
    return metrics.eer(Ranked(bonafide, spoof).curve())
