"""Rows of score files, and the figures made of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from quantize.train.speech.scoring import eer
from sync.plain_file import LARGE_BYTES, plain_text


def read_rows(path: Path):
    return list(csv.DictReader(plain_text(path, LARGE_BYTES).splitlines(), delimiter="\t"))


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
