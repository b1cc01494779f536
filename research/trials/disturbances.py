"""The ways in which staff, rooms and attackers change a sound before a door hears it.

Words beside the phrase are people's own: a sentence of which the door asked only a part, unedited, or a short
word of the same person from another recording. Everything else is made of recordings and stated levels.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from quantize.evaluate.door.heard import Condition, Surroundings
from quantize.evaluate.door.heard import heard as at_door
from quantize.evaluate.door.whole import surroundings
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.sound import read_wave
from research.trials import sounds

LEAD_S = 0.5
LEAST_WORDS = 3
SAID_BESIDE = frozenset({"yes", "go", "help", "enter", "start", "erase", "repeat", "hello", "rubout"})


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """One sound at the door: the wave, the phrase that was asked, and how it is heard."""

    wave: Wave
    phrase: str
    lead_s: float = LEAD_S
    tone: bool = False
    """The door's own tone sounds at the beginning, and the person does not wait for it."""
    hesitates: bool = False
    """There is a pause in it, longer than ends an answer that is complete."""


@dataclass(slots=True)
class Stage:
    """Everything a disturbance may be made of."""

    around: Surroundings
    bursts: Mapping[str, Sequence[Wave]]
    own_words: Mapping[str, Sequence[Recording]]
    """Of each speaker: recordings of one or two words that are in nobody's phrase."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One way; `make` gives None where a recording does not allow it."""

    name: str
    make: Callable[[Wave, Recording, Stage, np.random.Generator], Said | None]
    people: bool = True
    attacks: bool = True


def _plain(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
    return Said(wave, one.text)


def _words_before(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said | None:
    words = one.text.split()
    if one.folder != "an4":  # unedited: the phrase is the end of what was said
        if len(words) < LEAST_WORDS + 1:
            return None
        return Said(wave, " ".join(words[max(1, len(words) - 5) :]))
    return _with_own_word(wave, one, stage, dice, before=True)


def _words_after(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said | None:
    words = one.text.split()
    if one.folder != "an4":
        if len(words) < LEAST_WORDS + 1:
            return None
        return Said(wave, " ".join(words[: min(5, len(words) - 1)]))
    return _with_own_word(wave, one, stage, dice, before=False)


def _with_own_word(
    wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator, *, before: bool
) -> Said | None:
    own = stage.own_words.get(one.speaker, ())
    if not own:
        return None
    word = stage.around.wave(own[int(dice.integers(len(own)))].path)
    gap = sounds.quiet(0.15, sounds.floor_level(wave), dice)
    return Said(np.concatenate([word, gap, wave] if before else [wave, gap, word]), one.text)


def _burst(kind: str, inside: bool) -> Callable[[Wave, Recording, Stage, np.random.Generator], Said | None]:
    def make(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said | None:
        bursts = stage.bursts.get(kind, ())
        burst = sounds.click(dice) if kind == "click" else None
        if burst is None and not bursts:
            return None
        if burst is None:
            burst = bursts[int(dice.integers(len(bursts)))]
        seconds = len(wave) / SAMPLE_RATE_HZ
        if inside:
            return Said(
                sounds.with_burst(wave, burst, float(dice.uniform(0.3, 0.6)) * seconds, 0.0), one.text
            )
        apart = sounds.quiet(len(burst) / SAMPLE_RATE_HZ + 0.2, sounds.floor_level(wave), dice)
        beside = sounds.with_burst(np.concatenate([apart, wave]), burst, 0.0, 0.0)
        return Said(beside, one.text)

    return make


def _whisper(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
    return Said(sounds.whispered(wave, dice), one.text)


def _into_tone(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
    """Speech begins with the tone: recordings are cut to begin 50 ms before they get loud."""
    level = np.sqrt(np.convolve(np.square(wave.astype(np.float64)), np.full(320, 1 / 320), "same"))
    first = int(np.flatnonzero(level > 0.1 * level.max())[0])
    said = wave[max(0, first - 800) :].copy()
    tone = sounds.tone()
    said[: len(tone)] += tone[: len(said)]
    return Said(np.clip(said, -1.0, 32767 / 32768), one.text, 0.0, tone=True)


def _buzz(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
    hz = sounds.BUZZ_HZ[int(dice.integers(len(sounds.BUZZ_HZ)))]
    wave = np.pad(wave, round(LEAD_S * SAMPLE_RATE_HZ))
    noisy = sounds.in_room_noise(wave, dice)
    return Said(sounds.beside(noisy, sounds.buzz(len(wave), hz), -20.0), one.text, 0.0)


def _alarm(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
    wave = np.pad(wave, round(LEAD_S * SAMPLE_RATE_HZ))
    noisy = sounds.in_room_noise(wave, dice)
    return Said(
        sounds.beside(noisy, sounds.alarm(len(wave), float(dice.uniform(300, 1_000))), -20.0), one.text, 0.0
    )


def _filled(block_ms: float) -> Callable[[Wave, Recording, Stage, np.random.Generator], Said]:
    def make(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
        return Said(sounds.filled(wave, block_ms, dice), one.text)

    return make


def _ticking(per_s: float) -> Callable[[Wave, Recording, Stage, np.random.Generator], Said]:
    def make(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
        wave = np.pad(wave, round(LEAD_S * SAMPLE_RATE_HZ))
        noisy = sounds.in_room_noise(wave, dice, sounds.QUIET_ROOM_DB)
        return Said(sounds.beside(noisy, sounds.ticking(len(wave), per_s, dice), 0.0), one.text, 0.0)

    return make


def _room_noise(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
    return Said(sounds.in_room_noise(np.pad(wave, round(LEAD_S * SAMPLE_RATE_HZ)), dice), one.text, 0.0)


def _babble(snr_db: float) -> Callable[[Wave, Recording, Stage, np.random.Generator], Said]:
    condition = Condition(f"room, babble {snr_db:g} dB", "babble", snr_db, "near")

    def make(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
        wave = at_door(wave, one.path, one.speaker, condition, stage.around)
        return Said(wave, one.text, 0.0)

    return make


def _converted(converter: str) -> Callable[[Wave, Recording, Stage, np.random.Generator], Said]:
    def make(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
        return Said(sounds.converted(wave, converter), one.text)

    return make


PAUSE_S = 0.9


def pause(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
    """They hesitate: so much quiet in the quietest place of the middle of what they said."""
    level = np.convolve(np.square(wave.astype(np.float64)), np.full(800, 1 / 800), "same")
    third = len(wave) // 3
    at = third + int(level[third : 2 * third].argmin())
    gap = sounds.quiet(PAUSE_S, sounds.floor_level(wave), dice)
    return Said(np.concatenate([wave[:at], gap, wave[at:]]), one.text, hesitates=True)


def _coughs_between(times: int, db: float) -> Callable[[Wave, Recording, Stage, np.random.Generator], Said]:
    """Between two words, as nobody can do both at once: in the quietest place of the middle."""

    def make(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
        level = np.convolve(np.square(wave.astype(np.float64)), np.full(800, 1 / 800), "same")
        third = len(wave) // 3
        at = third + int(level[third : 2 * third].argmin())
        burst = sounds.coughs(dice, times)
        seconds = len(burst) / SAMPLE_RATE_HZ + float(dice.uniform(0.1, 0.4))
        gap = sounds.quiet(seconds, sounds.floor_level(wave), dice)
        apart = np.concatenate([wave[:at], gap, wave[at:]])
        heard = sounds.with_burst(apart, burst, at / SAMPLE_RATE_HZ + 0.05, db)
        return Said(heard, one.text)

    return make


def _coughs_over(times: int, db: float) -> Callable[[Wave, Recording, Stage, np.random.Generator], Said]:
    """Somebody beside them coughs over their words."""

    def make(wave: Wave, one: Recording, stage: Stage, dice: np.random.Generator) -> Said:
        at_s = float(dice.uniform(0.3, 0.6)) * len(wave) / SAMPLE_RATE_HZ
        return Said(sounds.with_burst(wave, sounds.coughs(dice, times), at_s, db), one.text)

    return make


DISTURBANCES = (
    Disturbance("as said", _plain),
    Disturbance("pause of 0.9 s", pause, attacks=False),
    Disturbance("words before", _words_before, attacks=False),
    Disturbance("words after", _words_after, attacks=False),
    Disturbance("sneeze inside", _burst("sneeze", True)),
    Disturbance("cough between words", _coughs_between(1, 6.0), attacks=False),
    Disturbance("fit of coughing between words", _coughs_between(3, 9.0), attacks=False),
    Disturbance("fit of coughing over words", _coughs_over(3, 6.0), attacks=False),
    Disturbance("door inside", _burst("door", True), attacks=False),
    Disturbance("click inside", _burst("click", True), attacks=False),
    Disturbance("whisper", _whisper, attacks=False),
    Disturbance("into the tone", _into_tone, attacks=False),
    Disturbance("room noise -25 dB", _room_noise, attacks=False),
    Disturbance("mains buzz -20 dB", _buzz),
    Disturbance("alarm -20 dB", _alarm),
    *(Disturbance(f"blocks of {n:g} ms filled", _filled(n)) for n in (10.0, 20.0)),
    *(Disturbance(f"{n:g} faint clicks a second", _ticking(n)) for n in (10.0, 25.0, 50.0)),
    Disturbance("babble 10 dB", _babble(10.0), attacks=False),
    Disturbance("babble 0 dB", _babble(0.0), attacks=False),
    *(Disturbance(f"8 kHz, {name}", _converted(name), people=False) for name in sounds.CONVERTERS),
)


def dice_of(path: str, name: str) -> np.random.Generator:
    """The draws of one recording under one disturbance."""
    seed = hashlib.sha256(f"{path}\0{name}\0disturbed".encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(seed, "little"))


def stage_of(
    recordings: Sequence[Recording], mixed: Sequence[Recording], root: Path, *, fitted: bool
) -> Stage:
    """Sneezes and doors: every second one to look at, the others to report on."""

    def bursts(word: str) -> list[Wave]:
        paths = sorted(noise.path for noise in mixed if word in noise.path)
        return [sounds.cut_burst(read_wave(root / path)) for path in paths[int(fitted) :: 2]]

    own: dict[str, list[Recording]] = defaultdict(list)
    for one in recordings:
        words = one.text.lower().split()
        if one.label == "bonafide" and one.speaker and 0 < len(words) <= 2 and set(words) <= SAID_BESIDE:
            own[one.speaker].append(one)
    return Stage(
        surroundings(recordings, mixed, root), {"sneeze": bursts("sneez"), "door": bursts("door")}, own
    )
