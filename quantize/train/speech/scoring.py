"""Scores of held-out files under stated conditions, and the figures made of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.evaluate.figures import metrics
from quantize.evaluate.figures.metrics import Ranked
from quantize.train.speech.augment import add_noise
from quantize.train.speech.replay import convolve, loudspeaker
from sync.plain_file import LARGE_BYTES, plain_text

MAX_SAMPLES = 6 * SAMPLE_RATE_HZ
ALL_CONDITIONS = ("plain", "replayed", "noisy", "coded", "room")
COLUMNS = ("synthetic", "loudspeaker", "moments", "envelopes", "cadence")
"""Scores of a file: the first network's two, the second network's, of its envelopes, of its frame rates."""


def render(item, condition, rooms, recordings):
    """One file as the detector hears it; draws depend on the path alone, so every model hears the same."""
    rng = np.random.default_rng([*item.path.encode()])
    wave = (item.coded if condition == "coded" else item.wave)[:MAX_SAMPLES].astype(np.float32) / 32768
    if condition == "noisy":
        wave = add_noise(wave, rng, recordings, 15.0)
    if condition == "replayed":
        wave = convolve(loudspeaker(wave, rng), rooms[int(rng.integers(len(rooms)))])
        wave = add_noise(wave, rng, recordings, rng.uniform(15, 35))
    if condition == "room":
        wave = convolve(wave, rooms[int(rng.integers(len(rooms)))])
        wave = add_noise(wave, rng, recordings, rng.uniform(15, 35))
    return wave.astype(np.float32)


def score_rows(items, found, condition, fold, part):
    """Rows of a score file; `found` (n, COLUMNS), bona-fide-positive."""
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


def write_rows(path: Path, rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path):
    return list(csv.DictReader(plain_text(path, LARGE_BYTES).splitlines(), delimiter="\t"))


def eer(bonafide, spoof) -> float:
    """Equal error rate of scores where higher is more bona fide, as every report has it."""
    return metrics.eer(Ranked(bonafide, spoof).curve())


def interval(bonafide, spoof, rounds: int = 500, seed: int = 0):
    """95 % bootstrap interval of the EER, files drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = [eer(rng.choice(bonafide, len(bonafide)), rng.choice(spoof, len(spoof))) for _ in range(rounds)]
    return tuple(np.percentile(drawn, [2.5, 97.5]))


def by_head(rows, head):
    """The same rows, judged by one head instead of by either."""
    return [{**r, "llr": r[head]} for r in rows]


def pick(rows, column="llr", **wanted):
    """Scores of the rows whose fields are among `wanted`."""
    return np.array([r[column] for r in rows if all(r[k] in v for k, v in wanted.items())])
