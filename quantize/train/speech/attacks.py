"""The folder of attacks to learn from: sound files, and `attacks.tsv`, which lists them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from device.audio.utterance import SAMPLE_RATE_HZ
from sync.durable import replace_file
from sync.plain_file import LARGE_BYTES, plain_text

INDEX = "attacks.tsv"
COLUMNS = ("path", "label", "speaker", "system", "seconds", "text", "source", "licence", "voice")

Row = dict[str, str]


def listed(attacks: Path) -> list[Row]:
    """The rows of `attacks.tsv`; none where there is no such file yet. Raises OSError."""
    index = attacks / INDEX
    if not index.exists():
        return []
    return list(csv.DictReader(plain_text(index, LARGE_BYTES).splitlines(), delimiter="\t"))


def write_list(attacks: Path, rows: Iterable[Row]) -> None:
    """Replace `attacks.tsv`. Raises OSError."""
    attacks.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(attacks / INDEX, text.getvalue().encode(), 0o644)


def store(attacks: Path, wave: npt.ArrayLike, rate_hz: int, name: str, about: Row) -> Row | None:
    """Write one attack as 16 kHz FLAC at `<system>/<voice>/<name>.flac`; returns its row of the list.

    `wave` has shape (n,); `about` gives the columns but `path`, `label` and `seconds`. None where the sound
    is shorter than half a second, silent or not finite.
    """
    samples = np.asarray(wave, np.float32)
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(samples).all() or peak < 1e-4 or len(samples) < SAMPLE_RATE_HZ // 2:
        return None
    path = attacks / about["system"] / about["voice"].replace("+", "_") / f"{name}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()
    soundfile.write(encoded, samples * (0.5 / peak), SAMPLE_RATE_HZ, format="FLAC")
    path.write_bytes(encoded.getvalue())
    seconds = f"{len(samples) / SAMPLE_RATE_HZ:.2f}"
    return {**about, "path": str(path.relative_to(attacks)), "label": "spoof", "seconds": seconds}
