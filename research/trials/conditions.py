"""Does the door ask again where its detector would guess? People in recorded noise, and over a telephone.

    python -m research.trials.conditions --people DIR --noise DIR [--fakes DIR]

Give recordings that the detector was not trained on. Each goes through the door's own endpointer and quality
measures: it is either not judged at all, asked for again (`device/liveness/condition.py`), or judged.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import soundfile
import soxr
from rich.console import Console
from rich.table import Table

from device.audio import QualityError, load_utterance
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.liveness.condition import Conditions, blindness
from device.models.spoof.detector import SpoofDetector
from device.settings import models_dir
from quantize.evaluate.checks.opened import open_spoof
from quantize.evaluate.door.measure import wav
from quantize.playback import rms
from sync.plain_file import LARGE_BYTES, plain_bytes

SNRS_DB = (25.0, 20.0, 15.0, 10.0, 5.0, 0.0)
TELEPHONE_RATE_HZ = 8_000


@click.command()
@click.option("--people", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--noise", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--fakes", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--most", default=60, show_default=True, type=click.IntRange(1))
def main(people: Path, noise: Path, fakes: Path | None, most: int) -> None:
    """Show what becomes of each condition: not judged, asked again, refused, accepted."""
    detector, noises = open_spoof(models_dir()), [wave for _, wave in recordings(noise, 1_000)]
    table = Table("heard", "condition", "files", "not judged", "asked again", "refused", "accepted")
    for name, folder in (("people", people), ("fakes", fakes)):
        if folder is None:
            continue
        for condition, waves in renderings([w for _, w in recordings(folder, most)], noises):
            found = Counter(verdict(detector, wave) for wave in waves)
            shares = (
                f"{found[what] / found.total():.0%}"
                for what in ("not judged", "asked again", "refused", "accepted")
            )
            table.add_row(name, condition, str(found.total()), *shares)
    Console(width=100).print(table)


def recordings(folder: Path, most: int) -> list[tuple[Path, Wave]]:
    """(path, mono at 16 kHz) of up to `most` sound files below `folder`, evenly spread."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".wav", ".flac"))
    found = []
    for path in paths[:: max(1, len(paths) // most)][:most]:
        wave, rate = soundfile.read(
            io.BytesIO(plain_bytes(path, LARGE_BYTES)), dtype="float32", always_2d=True
        )
        found.append((path, np.asarray(soxr.resample(wave[:, 0], rate, SAMPLE_RATE_HZ), np.float32)))
    return found


def renderings(waves: list[Wave], noises: list[Wave]) -> Iterator[tuple[str, list[Wave]]]:
    """(condition, every wave in it); the draws are the same at every call."""
    yield "as recorded", waves
    for snr_db in SNRS_DB:
        rng = np.random.default_rng(3)
        yield (
            f"noise, {snr_db:.0f} dB",
            [in_noise(w, noises[int(rng.integers(len(noises)))], snr_db) for w in waves],
        )
    yield "telephone", [telephone(wave) for wave in waves]


def in_noise(wave: Wave, noise: Wave, snr_db: float) -> Wave:
    """`wave` with half a second before and after it, in recorded noise `snr_db` below its level."""
    padded = np.pad(wave, SAMPLE_RATE_HZ // 2)
    return padded + np.resize(noise, len(padded)) * (
        rms(wave) / rms(noise) * np.float32(10.0 ** (-snr_db / 20.0))
    )


def telephone(wave: Wave) -> Wave:
    """300 Hz and more, nothing above 3.4 kHz, 8 bits in mu-law steps (ITU-T G.711): a line at its best."""
    narrow = soxr.resample(wave, SAMPLE_RATE_HZ, TELEPHONE_RATE_HZ)
    spectrum = np.fft.rfft(narrow)
    hz = np.fft.rfftfreq(len(narrow), 1.0 / TELEPHONE_RATE_HZ)
    narrow = np.fft.irfft(spectrum * ((hz > 300.0) & (hz < 3_400.0)), len(narrow))
    peak = float(np.abs(narrow).max()) + 1e-9
    pressed = np.sign(narrow) * np.log1p(255.0 * np.abs(narrow / peak)) / np.log(256.0)
    steps = np.round(pressed * 127.0) / 127.0
    line = peak * np.sign(steps) * np.expm1(np.abs(steps) * np.log(256.0)) / 255.0
    return np.asarray(soxr.resample(line, TELEPHONE_RATE_HZ, SAMPLE_RATE_HZ), np.float32)


def verdict(detector: SpoofDetector, wave: Wave) -> str:
    """What a door that ran the live check alone would say."""
    try:
        utterance = load_utterance(wav(wave))
    except QualityError:
        return "not judged"
    if blindness(utterance.quality, Conditions()) is not None:
        return "asked again"
    return "accepted" if detector.llr(utterance.wave()) > 0.0 else "refused"


if __name__ == "__main__":
    main()
