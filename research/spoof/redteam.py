"""A red team that knows the live check: how many tries it takes to have a fake taken for a person.

    python -m research.spoof redteam --data SPEECH [--fakes N] [--tries N] [--plots DIR]

Two attackers turn the same knobs (speed, wobble, noise, tilt, low pass, room, codec) on fakes by systems that
the detector never heard. *Blind*: every try is a draw and an attempt at the door. *With a unit of their own*:
each try starts from the best so far, by the LLR that such a unit shows, and only the last one is
played at the door. A try counts when live check, words and voice pass: the words are those that
the unchanged fake is heard to say, the voice is that of the unchanged fake, as of a perfect clone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.access.policy import Thresholds
from device.audio.utterance import SAMPLE_RATE_HZ
from device.errors import DeviceError
from device.model_store import slots
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import CARD_ROLE
from device.models.words.transcriber import Transcriber
from device.settings import models_dir
from quantize.errors import QuantizeError
from quantize.evaluate.checks.opened import THREADS, open_words
from quantize.evaluate.door.heard import coded, wobbling
from quantize.evaluate.door.rooms import ROOMS, response, through
from quantize.evaluate.door.whole import surroundings
from quantize.evaluate.figures.intervals import Share
from quantize.evaluate.recordings.manifest import NOISE, Recording, read_manifest
from quantize.playback import pink, rms
from research.spoof.conditions import Door, unheard
from research.spoof.plots import steps

MOST_SPEED, MOST_WOBBLE = 0.06, 0.01
"""Of the speed: more is heard at once, and moves the pitch by a semitone."""
QUIET_DB, LOUD_DB = 45.0, 14.0
LEAST_LOW_PASS_HZ = 4_200.0
"""The door asks again where nothing lies above 4 kHz."""
CODECS = ("", "mp3", "opus")
STEP = 0.25
"""Of a knob's whole range, one deviation: how far the next try lies from the best."""
SHOWN = (0, 1, 2, 3, 5, 8, 12, 16, 24, 32, 48)


@dataclass(frozen=True, slots=True)
class Knobs:
    """One way of changing a fake; every knob from 0 to 1, and in the middle of `speed` nothing."""

    speed: float = 0.5
    wobble: float = 0.0
    noise: float = 0.0
    tilt: float = 0.5
    low_pass: float = 0.0
    room: float = 0.0
    codec: float = 0.0

    @classmethod
    def drawn(cls, dice: np.random.Generator) -> Knobs:
        """Any: each of the knobs that may be off is off in half of the draws."""
        drawn = cls(*dice.random(len(cls.__slots__)).tolist())
        off = {name: 0.0 for name in ("wobble", "noise", "low_pass", "room", "codec") if dice.random() < 0.5}
        return replace(drawn, **off)

    def near(self, dice: np.random.Generator) -> Knobs:
        """Two or three knobs turned a little."""
        names = dice.choice(self.__slots__, int(dice.integers(2, 4)), replace=False)
        turned = {str(n): getattr(self, str(n)) + dice.normal(0.0, STEP) for n in names}
        return replace(self, **{name: float(np.clip(value, 0.0, 1.0)) for name, value in turned.items()})

    def __call__(self, wave: np.ndarray, dice: np.random.Generator) -> np.ndarray:
        """`wave` (n,) at 16 kHz, changed."""
        speed = 1.0 + MOST_SPEED * (2.0 * self.speed - 1.0)
        wave = soxr.resample(wave, SAMPLE_RATE_HZ * speed, SAMPLE_RATE_HZ).astype(np.float32)
        if self.wobble > 0.0:
            wave = wobbling(wave, MOST_WOBBLE * self.wobble)
        if self.room > 0.0:
            wave = through(wave, response(round(self.room * (ROOMS - 1)), far=False))
        wave = _filtered(wave, 6.0 * (2.0 * self.tilt - 1.0), self.low_pass)
        if self.noise > 0.0:
            below_db = QUIET_DB - (QUIET_DB - LOUD_DB) * self.noise
            wave = wave + pink(len(wave), dice) * np.float32(rms(wave) * 10.0 ** (-below_db / 20.0))
        wave = wave * np.float32(0.7 / max(float(np.abs(wave).max()), 1e-9))
        codec = CODECS[min(int(self.codec * len(CODECS)), len(CODECS) - 1)]
        return coded(wave, codec) if codec else wave.astype(np.float32)


def _filtered(wave: np.ndarray, tilt_db: float, low_pass: float) -> np.ndarray:
    """Tilted by so much from 500 Hz to 8 kHz, and cut off: at 8 kHz for 0, at LEAST_LOW_PASS_HZ for 1."""
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ)
    gain = 10.0 ** (tilt_db / 20.0 * np.clip(np.log2(np.maximum(hz, 500.0) / 500.0) / 4.0, 0.0, 1.0))
    if low_pass > 0.0:
        edge = 8_000.0 - low_pass * (8_000.0 - LEAST_LOW_PASS_HZ)
        gain = gain / np.sqrt(1.0 + (hz / edge) ** 16)
    return np.fft.irfft(spectrum * gain, len(wave)).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The door: its checks, what it asked for, and whose voice opens it."""

    door: Door
    words: Transcriber
    speaker: SpeakerModel
    phrase: str
    voice: np.ndarray
    thresholds: Thresholds

    @property
    def threshold(self) -> float:
        return self.thresholds.live_llr

    def llr(self, wave: np.ndarray) -> float:
        """Of the live check, as the rules see it; minus infinity where the door asks again."""
        found = self.door.judged(wave)
        return -np.inf if found.asked else found.llr

    def passes(self, wave: np.ndarray) -> bool:
        """Words and voice."""
        try:
            said = self.words.score(wave, self.phrase).llr >= self.thresholds.phrase_llr
            return (
                said and self.speaker.llr(self.speaker.embed(wave), self.voice) >= self.thresholds.voice_llr
            )
        except DeviceError:
            return False


class Opens(Protocol):
    """What stands between a sound and the door."""

    @property
    def threshold(self) -> float: ...

    def llr(self, wave: np.ndarray) -> float: ...

    def passes(self, wave: np.ndarray) -> bool: ...


def first_open(
    played: Callable[[Knobs], np.ndarray], door: Opens, tries: int, following: Callable[[Knobs], Knobs]
) -> int | None:
    """The number of the first try that opens, None where no one does; 0 is the fake as it is.

    `following` says what to try next from the best so far.
    """
    best, best_llr = Knobs(), -np.inf
    for number in range(tries + 1):
        knobs = Knobs() if number == 0 else following(best)
        wave = played(knobs)
        llr = door.llr(wave)
        if llr >= door.threshold and door.passes(wave):
            return number
        # What words or voice refuse is no start for the next try.
        if best_llr < llr < door.threshold:
            best, best_llr = knobs, llr
    return None


ATTACKERS: dict[str, Callable[[np.random.Generator], Callable[[Knobs], Knobs]]] = {
    "blind, at the door": lambda dice: lambda best: Knobs.drawn(dice),
    "with a unit of their own": lambda dice: lambda best: best.near(dice),
}


def share(found: Sequence[int | None], tries: int) -> Share:
    """How many are open after so many tries."""
    return Share(sum(one is not None and one <= tries for one in found), len(found))


def run(data: Path, fakes: int, tries: int, plots: Path | None) -> None:
    """Print how many fakes open within so many tries, and draw it."""
    if fakes < 1 or tries < 1:
        raise QuantizeError("a red team wants one fake and one try at least")
    recordings = read_manifest(data / "manifest.tsv", data)
    noises = read_manifest(data / "manifest.tsv", data, (NOISE,))
    bundle = slots.active(models_dir())
    trained = json.loads(bundle.path(CARD_ROLE).read_bytes())["trained_on"]
    door = Door.open(surroundings(recordings, noises, data), None)
    words, speaker = open_words(models_dir()), SpeakerModel.open(bundle, threads=THREADS)
    found: dict[str, list[int | None]] = {name: [] for name in ATTACKERS}
    chosen: list[Recording] = []
    candidates = iter(in_turn(unheard(recordings, trained)[1]))
    for number in track(range(fakes), description="fakes"):
        for fake in candidates:
            wave = door.around.wave(fake.path)
            if (target := targeted(wave, door, words, speaker)) is not None:
                break
        else:
            raise QuantizeError(f"only {number} fakes are heard to say words and can be judged")
        chosen.append(fake)
        for attacker, name in enumerate(ATTACKERS):
            dice = np.random.default_rng([number, attacker])
            found[name].append(first_open(partial(_played, wave, dice), target, tries, ATTACKERS[name](dice)))
    systems = len({(fake.folder, fake.system) for fake in chosen})
    table = Table("tries", *ATTACKERS, title=f"{len(chosen)} fakes of {systems} systems that open within")
    for shown in (number for number in SHOWN if number <= tries):
        table.add_row(str(shown), *(str(share(one, shown)) for one in found.values()))
    Console(width=100).print(table)
    if plots is not None:
        curves = {
            name: [share(one, number).hits / len(one) for number in range(tries + 1)]
            for name, one in found.items()
        }
        title = f"Share of {len(chosen)} unheard fakes taken for a person, by tries"
        (plots / "spoof-redteam.svg").write_text(steps(title, "tries", curves))


def _played(wave: np.ndarray, dice: np.random.Generator, knobs: Knobs) -> np.ndarray:
    return wave if knobs == Knobs() else knobs(wave, dice)


def targeted(wave: np.ndarray, door: Door, words: Transcriber, speaker: SpeakerModel) -> Target | None:
    """A door that asks for what this fake says in this voice; None where it does not pass itself."""
    try:
        phrase = words.clues(wave, "one")[1]
        target = Target(door, words, speaker, phrase, speaker.embed(wave), Thresholds())
    except DeviceError:
        return None
    return target if np.isfinite(target.llr(wave)) and target.passes(wave) else None


def in_turn(attacks: Sequence[Recording]) -> list[Recording]:
    """One of each system of each page, then the second of each, and so on."""
    groups: dict[tuple[str, str], list[Recording]] = {}
    for one in attacks:
        groups.setdefault((one.folder, one.system), []).append(one)
    order = [(rank, name, one) for name, of in groups.items() for rank, one in enumerate(of)]
    return [one for *_, one in sorted(order, key=lambda entry: entry[:2])]
