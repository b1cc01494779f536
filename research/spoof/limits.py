"""Where the frame-rate evidence ends: what hides a beat in attacks, and what puts one into people.

    python -m research.spoof limits --data SPEECH --attacks ATTACKS --work WORK

Nothing is trained: the shipped card judges files of the folds, people of two corpora and every third attack
of the research pages. Each disturbance is made here; shares are of files whose `cadence_llr` is below zero.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.detector import SpoofCard
from device.models.spoof.frame_rates import envelope_spectrum, frame_rates
from quantize.evaluate.figures.intervals import Share
from quantize.train.speech import corpus
from quantize.train.speech.replay import convolve, loudspeaker, rooms
from quantize.train.speech.scoring import render
from research.detector import splits
from research.spoof.plots import combs

CORPORA = ("libri", "so762")
ATTACKS_EACH = 3
Wave = np.ndarray
Change = Callable[[Wave, np.random.Generator], Wave]


def beside(wave: Wave, sound: Wave, below_db: float) -> Wave:
    """`wave` with `sound` so many dB below it."""
    gain = np.sqrt((wave**2).mean() / (sound**2).mean()) * 10.0 ** (-below_db / 20.0)
    return (wave + gain * sound).astype(np.float32)


def room_noise(wave: Wave, rng: np.random.Generator, below_db: float) -> Wave:
    return beside(wave, rng.standard_normal(len(wave)), below_db)


def comb(length: int, rng: np.random.Generator, mains_hz: float, highest_hz: float, falling: float) -> Wave:
    """Hum: harmonics of the mains, each 1/k^falling as strong as the first, in any phase."""
    seconds, total = np.arange(length) / SAMPLE_RATE_HZ, np.zeros(length)
    for k in range(1, int(highest_hz // mains_hz) + 1):
        total += np.sin(2 * np.pi * (k * mains_hz * seconds + rng.random())) / k**falling
    return total


def beeps(length: int, tone_hz: float, on_s: float, every_s: float) -> Wave:
    seconds = np.arange(length) / SAMPLE_RATE_HZ
    return np.sin(2 * np.pi * tone_hz * seconds) * (seconds % every_s < on_s)


def faster(wave: Wave, speed: float) -> Wave:
    return soxr.resample(wave, SAMPLE_RATE_HZ * speed, SAMPLE_RATE_HZ).astype(np.float32)


def resampled(wave: Wave, rate_hz: float) -> Wave:
    """By way of another rate, and back by straight lines, as cheap sound drivers do."""
    there = soxr.resample(wave, SAMPLE_RATE_HZ, rate_hz)
    moments = np.arange(int(len(there) * SAMPLE_RATE_HZ / rate_hz)) * rate_hz / SAMPLE_RATE_HZ
    return np.interp(moments, np.arange(len(there)), there).astype(np.float32)


def wobbling(wave: Wave, depth: float, hz: float) -> Wave:
    """Played faster and slower in turn, as a bad tape."""
    seconds = np.arange(len(wave)) / SAMPLE_RATE_HZ
    moved = seconds + depth * np.sin(2 * np.pi * hz * seconds) / (2 * np.pi * hz)
    return np.interp(moved, seconds, wave).astype(np.float32)


def middle(wave: Wave, seconds: float) -> Wave:
    samples = int(seconds * SAMPLE_RATE_HZ)
    start = max(0, (len(wave) - samples) // 2)
    return wave[start : start + samples]


def hum(mains_hz: float, below_db: float, noise_db: float | None = None, buzz: bool = False) -> Change:
    """Of the mains, or of a rectifier (`buzz`): fewer harmonics, but strong ones."""

    def change(wave: Wave, rng: np.random.Generator) -> Wave:
        quiet = wave if noise_db is None else room_noise(wave, rng, noise_db)
        sound = comb(len(wave), rng, mains_hz, 4_000.0 if buzz else 7_900.0, 0.5 if buzz else 1.0)
        return beside(quiet, sound, below_db)

    return change


def beeping(tone_hz: float, on_s: float, every_s: float, below_db: float) -> Change:
    return lambda wave, rng: beside(
        room_noise(wave, rng, 25.0), beeps(len(wave), tone_hz, on_s, every_s), below_db
    )


PEOPLE: dict[str, Change] = {
    "as recorded": lambda wave, rng: wave,
    **{f"only {s:g} s": lambda wave, rng, s=s: middle(wave, s) for s in (0.6, 1.0, 1.5, 2.0, 3.0)},
    **{
        f"by way of {r:g} Hz": lambda wave, rng, r=r: resampled(wave, r)
        for r in (22_050.0, 44_100.0, 48_000.0)
    },
    "hum of exactly 50 Hz, -30 dB": hum(50.0, 30.0),
    "hum of 50.02 Hz, -30 dB": hum(50.02, 30.0),
    "hum of 50.02 Hz, -30 dB, room noise at 25 dB": hum(50.02, 30.0, 25.0),
    "hum of 60.02 Hz, -30 dB, room noise at 25 dB": hum(60.02, 30.0, 25.0),
    "buzz of 100.04 Hz, -40 dB": hum(100.04, 40.0, buzz=True),
    "buzz of 100.04 Hz, -30 dB": hum(100.04, 30.0, buzz=True),
    "buzz of 100.04 Hz, -30 dB, room noise at 25 dB": hum(100.04, 30.0, 25.0, buzz=True),
    "buzz of 120.03 Hz, -30 dB, room noise at 25 dB": hum(120.03, 30.0, 25.0, buzz=True),
    "an alarm of 960 Hz every 0.4 s, -20 dB, room noise": beeping(960.0, 0.2, 0.4, 20.0),
    "an alarm of 2.8 kHz every 0.25 s, -20 dB, room noise": beeping(2_800.0, 0.1, 0.25, 20.0),
    "an alarm of 2.8 kHz every 0.25 s, -10 dB, room noise": beeping(2_800.0, 0.1, 0.25, 10.0),
}


def attacker(halls: list[np.ndarray]) -> dict[str, Change]:
    """What somebody who knows of the evidence may do to it, cheapest first."""

    def hall(wave: Wave, rng: np.random.Generator) -> Wave:
        return convolve(wave, halls[int(rng.integers(len(halls)))])

    return {
        "nothing": lambda wave, rng: wave,
        **{f"{s:+.1%} speed": lambda wave, rng, s=s: faster(wave, 1.0 + s) for s in (0.003, 0.01, 0.03)},
        "a clock 100 ppm off": lambda wave, rng: faster(wave, 1.0001),
        "a wobble of 0.5 % at 2 Hz": lambda wave, rng: wobbling(wave, 0.005, 2.0),
        "white noise at 20 dB": lambda wave, rng: room_noise(wave, rng, 20.0),
        "white noise at 15 dB": lambda wave, rng: room_noise(wave, rng, 15.0),
        "a room": hall,
        "a loudspeaker": loudspeaker,
        "a loudspeaker and a room": lambda wave, rng: hall(loudspeaker(wave, rng), rng),
    }


def refused(card: SpoofCard, waves, change: Change) -> Share:
    """How many of `waves` the frame rates alone speak against, after `change`."""
    hits = 0
    for number, wave in enumerate(waves):
        heard = change(wave, np.random.default_rng(number)).astype(np.float32)
        found = card.norms.compare(frame_rates(heard), len(heard) / SAMPLE_RATE_HZ)
        hits += card.frame_rate.llr(found.score) < 0.0
    return Share(hits, len(waves))


SHOWN = (
    ("people", "libri", "-"),
    ("StyleTTS 2", "styletts2_demo", "styletts2"),
    ("VALL-E", "styletts2_demo", "valle"),
    ("DDDM-VC", "dddmvc_demo", "dddmvc"),
    ("YourTTS", "freevc_demo", "yourtts"),
    ("Tortoise", "tortoise", "tortoise"),
)
"""What the picture of ADR 15 shows: name, page, family."""
SHOWN_SAMPLES = 4 * SAMPLE_RATE_HZ
"""Of one length, so that their frequencies can be averaged."""


def picture(items) -> str:
    """Envelopes of several files of each of SHOWN: machines have teeth where people have none."""
    rows = []
    for name, page, family in SHOWN:
        waves = (render(i, "plain", (), ()) for i in items if i.page == page and i.family == family)
        found = [envelope_spectrum(w[:SHOWN_SAMPLES]) for w in waves if len(w) >= SHOWN_SAMPLES]
        rows.append((f"{name} ({len(found)})", found[0][0], np.mean([times for _, times in found], axis=0)))
    return combs("How far each frequency stands out of the envelopes, mean of so many files", rows)


def run(data: Path, attacks: Path, work: Path, card: Path, plots: Path | None = None) -> None:
    items = corpus.load(data, attacks, work)
    judged = {i.path: i for fold in splits.FOLDS for i in splits.held_out(fold, items)}
    people = [i for i in judged.values() if not i.spoof and i.page in CORPORA]
    made = [i for i in judged.values() if i.spoof and i.page != "made"][::ATTACKS_EACH]
    if plots is not None:
        (plots / "spoof-frames.svg").write_text(picture(judged.values()))
    known = SpoofCard.from_bytes(card.read_bytes())
    table = Table("", "files", "refused by frame rates alone", title="limits of the frame-rate evidence")
    for who, group, changes in (("people", people, PEOPLE), ("attacks", made, attacker(rooms(data)[1]))):
        waves = [render(i, "plain", (), ()) for i in group]
        for name, change in track(changes.items(), description=who):
            share = refused(known, waves, change)
            table.add_row(f"{who}: {name}", str(share.of), str(share))
        table.add_section()
    Console(width=110).print(table)
