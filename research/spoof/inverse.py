"""Evidence for vocoders that end in an inverse STFT: do spectra put together in frames keep their beat?

    python -m research.spoof inverse --data SPEECH [--each N]

Copies stand for such a vocoder: spectra at 24 kHz (1,024 samples, Hann) with the levels of 100 mel bands and
phases that are off by so much above 1.5 to 4 kHz, put together by overlapping and adding. Judged are the
frame rates as they ship, and the line at the frame rate in statistics of spectra every millisecond: how far
phases bend from bin to bin and from time to time, how rough levels are from bin to bin, how fast they change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import soxr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.frame_rates import frame_rates
from quantize.errors import QuantizeError
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.evaluate.recordings.sound import read_wave
from quantize.train.fitting.norms import LEAST_PEOPLE, fit_norms
from quantize.train.speech.scoring import eer
from research.spoof.conditions import UNFIT, drawn

RATE_HZ, SIZE, MELS = 24_000, 1_024, 100
"""As F5-TTS and ZipVoice have them, whose vocoder is Vocos."""
COPIES = ((256, 0.0), (256, 0.5), (256, 1.5), (512, 1.5))
"""(samples a frame, radians that phases are off)."""
FROM_HZ, WHOLLY_HZ = 1_500.0, 4_000.0
WINDOW, EVERY = 512, 16
"""Of the spectra that are looked at, in samples at 16 kHz: 1,000 spectra a second."""
BANDS_HZ = (1_000.0, 2_500.0, 4_000.0, 5_500.0, 7_200.0)
APART = 8
"""Spectra between those that are compared in time: 8 ms."""
BINS = 4_096
NEAR, FAR = 8, 30
"""A line is compared with what lies so many bins beside it: 2 to 7 Hz."""
RATES_HZ = (46.875, 50.0, 62.5, 75.0, 80.0, 22_050 / 256, 93.75, 100.0, 125.0)
SAMPLES = 4 * SAMPLE_RATE_HZ
PEOPLE = 100
COPIED = 36
LEAST_S = 3.0


def mel_bands() -> np.ndarray:
    """(MELS, bins) triangles, even in mel."""
    hz = np.fft.rfftfreq(SIZE, 1.0 / RATE_HZ)
    mel = 2_595.0 * np.log10(1.0 + hz / 700.0)
    edges = np.linspace(0.0, mel[-1], MELS + 2)[:, None]
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def copied(wave: np.ndarray, hop: int, off: float, dice: np.random.Generator) -> np.ndarray:
    """`wave` (n,) at 16 kHz, put together from spectra every `hop` samples at 24 kHz whose phases are off."""
    fine = soxr.resample(wave, SAMPLE_RATE_HZ, RATE_HZ).astype(np.float64)
    window = np.hanning(SIZE + 1)[:-1]
    starts = hop * np.arange((len(fine) - SIZE) // hop + 1)
    spectra = np.fft.rfft(fine[starts[:, None] + np.arange(SIZE)] * window, axis=1)
    bands = mel_bands()
    smooth = np.maximum(1e-5, (np.abs(spectra) @ bands.T) @ np.linalg.pinv(bands).T)
    hz = np.fft.rfftfreq(SIZE, 1.0 / RATE_HZ)
    made = np.clip((hz - FROM_HZ) / (WHOLLY_HZ - FROM_HZ), 0.0, 1.0)
    level = np.abs(spectra) ** (1.0 - made) * smooth**made
    phase = np.angle(spectra) + off * made * dice.standard_normal(spectra.shape)
    frames = np.fft.irfft(level * np.exp(1j * phase), SIZE, axis=1) * window
    total, weight = np.zeros(len(fine)), np.zeros(len(fine))
    for start, frame in zip(starts, frames, strict=True):
        total[start : start + SIZE] += frame
        weight[start : start + SIZE] += window**2
    found = soxr.resample(total / np.maximum(weight, 1e-3), RATE_HZ, SAMPLE_RATE_HZ).astype(np.float32)
    return np.pad(found, (0, max(0, len(wave) - len(found))))[: len(wave)]


def series(wave: np.ndarray) -> np.ndarray:
    """(16, milliseconds): four statistics of spectra in four bands."""
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    pieces = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float32), WINDOW)[::EVERY]
    edges = [round(hz / SAMPLE_RATE_HZ * WINDOW) for hz in BANDS_HZ]
    low, high = edges[0] - 1, edges[-1] + 2
    found = np.fft.rfft(pieces * window, axis=1)[:, low:high].astype(np.complex64)
    power = found.real**2 + found.imag**2
    level = np.log(power + 1e-9 * power.mean())
    delay = np.abs(np.angle(found[:, 2:] * found[:, :-2] * np.conj(found[:, 1:-1] ** 2)))[APART:-APART]
    rough = np.abs(level[:, 2:] + level[:, :-2] - 2 * level[:, 1:-1])[APART:-APART]
    change = np.abs(level[APART:] - level[:-APART])[: len(delay), 1:-1]
    between = found[2 * APART :] * found[: -2 * APART] * np.conj(found[APART:-APART] ** 2)
    turning = np.abs(np.angle(between))[:, 1:-1]
    bands = [slice(a - edges[0], b - edges[0]) for a, b in pairwise(edges)]
    return np.array([one[:, band].mean(axis=1) for one in (delay, rough, change, turning) for band in bands])


def beats(wave: np.ndarray) -> np.ndarray:
    """For each of RATES_HZ the mean log of how far that line stands out of `series`."""
    rows = series(wave)
    shaped = (rows - rows.mean(axis=1, keepdims=True)) * np.hanning(rows.shape[1])
    power = np.abs(np.fft.rfft(shaped, BINS, axis=1)) ** 2
    found = []
    for hz in RATES_HZ:
        at = round(hz * BINS * EVERY / SAMPLE_RATE_HZ)
        beside = np.concatenate([power[:, at - FAR : at - NEAR], power[:, at + NEAR : at + FAR]], axis=1)
        found.append(np.log(power[:, at - 1 : at + 2].max(axis=1) / beside.mean(axis=1)).mean())
    return np.array(found)


def middle(wave: np.ndarray) -> np.ndarray:
    start = max(0, (len(wave) - SAMPLES) // 2)
    return wave[start : start + SAMPLES]


def spoken(data: Path, recordings: Sequence[Recording], most: int) -> dict[str, list[np.ndarray]]:
    """By page and system the middles of the first `most` recordings that last LEAST_S."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for recording in drawn(recordings, len(recordings)):
        of = found[f"{recording.folder}/{recording.system}"]
        if len(of) < most and len(wave := read_wave(data / recording.path)) >= LEAST_S * SAMPLE_RATE_HZ:
            of.append(middle(wave))
    return {name: of for name, of in found.items() if of}


def run(data: Path, each: int) -> None:
    """Print what copies and systems give."""
    if each < 1:
        raise QuantizeError("at least one file of each system is needed; --each says how many")
    recordings = read_manifest(data / "manifest.tsv", data)
    people = [r for r in recordings if r.label == "bonafide" and r.folder not in UNFIT]
    plain = [r for r in people if r.folder in ("libri", "so762")]
    long = [wave for waves in spoken(data, plain, PEOPLE).values() for wave in waves if len(wave) == SAMPLES]
    if len(long) < LEAST_PEOPLE + COPIED:
        raise QuantizeError(f"{data} has {len(long)} long recordings of libri and so762; more are needed")
    console = Console(width=130)
    console.print(_copies(long))
    attacks = [r for r in recordings if r.label == "spoof"]
    console.print(_systems(spoken(data, people, 2 * each), spoken(data, attacks, each)))


def _copies(plain: Sequence[np.ndarray]) -> Table:
    sources, others = plain[:COPIED], plain[COPIED:]
    norms = fit_norms([[frame_rates(wave) for wave in track(others, description="people")]] * 4)

    def both(waves: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([(norms.compare(frame_rates(one), 4.0).score, *-beats(one)) for one in waves])

    own = both(sources)
    table = Table("samples a frame", "phases off by", "EER by frame rates", "by the beat of statistics")
    table.title = f"{len(sources)} recordings against their own copies"
    for hop, off in COPIES:
        dice = np.random.default_rng(3)
        found = both([copied(wave, hop, off, dice) for wave in track(sources, description=f"{hop} {off}")])
        at = 1 + RATES_HZ.index(RATE_HZ / hop)
        table.add_row(
            str(hop),
            f"{off:g} rad",
            f"{eer(own[:, 0], found[:, 0]):.0%}",
            f"{eer(own[:, at], found[:, at]):.0%}",
        )
    return table


def _systems(people: dict[str, list[np.ndarray]], attacks: dict[str, list[np.ndarray]]) -> Table:
    own = np.array([beats(wave) for waves in track(people.values(), description="people") for wave in waves])
    mean, spread = own.mean(axis=0), own.std(axis=0)
    found = {
        name: (np.array([beats(wave) for wave in waves]) - mean) / spread
        for name, waves in track(attacks.items(), description="systems")
    }
    table = Table("system", "files", *(f"{hz:.4g} Hz" for hz in RATES_HZ))
    live = ((own - mean) / spread).max(axis=1)
    fake = np.concatenate([one.max(axis=1) for one in found.values()])
    table.title = (
        f"deviations from {len(own)} people; EER of the greatest over all systems {eer(-live, -fake):.0%}"
    )
    for name, one in sorted(found.items()):
        table.add_row(name, str(len(one)), *(f"{mean:.1f}" for mean in one.mean(axis=0)))
    return table
