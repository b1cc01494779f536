"""The released detector at its default threshold: door phrases by packaged voices, and people.

    python -m research.spoof phrases

The phrases are drawn anew by a seed that no training uses. People are those of Debian's packages whom no
training of the detector has heard.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.detector import SpoofDetector
from quantize.errors import QuantizeError
from quantize.evaluate.figures.intervals import Share
from quantize.train.speech.corpus import HELD_VOICES, read_wave
from quantize.train.update import detector_in
from research.attacks.make import challenge, synthesisers

SPEAKERS = ("espeak", "flite", "festival")
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")
CARDS = Path("/usr/share/pocketsphinx/test/data/cards")
PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
MOST_PROMPTS = 60
PIECE_SAMPLES = 2 * SAMPLE_RATE_HZ


def spoken(
    each: int, rng: np.random.Generator, speakers: Sequence[str] = SPEAKERS
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(system, voice, wave at 16 kHz) of `each` phrases by every installed voice."""
    found, _ = synthesisers()
    for system in (name for name in speakers if name in found):
        make, voices, _ = found[system]
        speak = make()
        for voice in track(voices, description=f"{system:12s}"):
            for _ in range(each):
                wave, rate = speak(challenge(rng), voice, rng)
                yield (
                    system,
                    voice,
                    wave if rate == SAMPLE_RATE_HZ else soxr.resample(wave, rate, SAMPLE_RATE_HZ),
                )


def people() -> Iterator[tuple[str, np.ndarray]]:
    """(who, wave) of recorded people in packages, as many as are installed."""
    for path in sorted(LIBRIVOX.glob("*.wav")):
        wave = read_wave(path)
        yield "librivox reader, whole", wave
        for start in range(0, len(wave) - PIECE_SAMPLES, PIECE_SAMPLES):
            yield "librivox reader, 2 s pieces", wave[start : start + PIECE_SAMPLES]
    for path in sorted(CARDS.glob("*.wav")):
        yield "cards", read_wave(path)
    prompts = [path for path in sorted(PROMPTS.glob("*.wav")) if path.stat().st_size > 60_000]
    for path in prompts[:MOST_PROMPTS]:
        yield "Asterisk's Allison", read_wave(path)


def run(
    weights: Path,
    each: int,
    seed: int,
    speakers: Sequence[str] = SPEAKERS,
    heard: Callable[[], Iterable[tuple[str, np.ndarray]]] = people,
) -> None:
    if shutil.which("espeak-ng") is None:
        raise QuantizeError("espeak-ng is not installed; run `apt-get install espeak-ng flite festival`")
    detector = detector_in(weights)
    refused: dict[tuple[str, str], list[bool]] = {}
    for system, voice, wave in spoken(each, np.random.default_rng(seed), speakers):
        refused.setdefault((system, voice), []).append(detector.llr(wave.astype(np.float32)) <= 0)
    Console(width=130).print(_spoken_table(refused), _people_table(detector, heard()))


def _spoken_table(refused) -> Table:
    shown = Table("system", "voices", "phrases", "refused", "accepted by voice")
    shown.title = "door phrases at LLR 0"
    for system in dict.fromkeys(name for name, _ in refused):
        for held in (False, True):
            voices = {v: r for (s, v), r in refused.items() if s == system and (v in HELD_VOICES) == held}
            if not voices:
                continue
            count = sum(len(r) for r in voices.values())
            passed = ", ".join(f"{v} {len(r) - sum(r)}" for v, r in voices.items() if not all(r))
            share = Share(sum(sum(r) for r in voices.values()), count)
            kind = f"{len(voices)} {'never heard' if held else 'heard in training'}"
            shown.add_row(system, kind, str(count), str(share), passed or "none")
    return shown


def _people_table(detector: SpoofDetector, heard: Iterable[tuple[str, np.ndarray]]) -> Table:
    shown = Table("people", "recordings", "refused")
    found: dict[str, list[bool]] = {}
    for who, wave in heard:
        found.setdefault(who, []).append(detector.llr(wave.astype(np.float32)) <= 0)
    for who, each in found.items():
        shown.add_row(who, str(len(each)), str(Share(sum(each), len(each))))
    return shown
