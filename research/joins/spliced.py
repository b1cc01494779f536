"""What the network for joins learns from: splices and whole speech, through the same rooms and noises."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from device.audio.utterance import SAMPLE_RATE_HZ
from device.liveness.join_pictures import features
from quantize.errors import QuantizeError
from quantize.evaluate.door.whole import ward_sounds
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.borders import Aligner
from quantize.evaluate.recordings.editing import EDITS, edit
from quantize.evaluate.recordings.manifest import ROOM, read_manifest
from quantize.evaluate.recordings.splicing import (
    BORDERS,
    ENERGY,
    FADED,
    HIDDEN,
    PLAYED,
    STYLES,
    Source,
    draw,
    levelled,
    looped,
    quietest,
    with_pauses,
)
from quantize.playback import CODECS, Loudspeaker, Playback, Room, coded, pink, random_playback, rms
from sync.plain_file import LARGE_BYTES, plain_bytes, plain_path

LONGEST_S = 8
# What is coded again comes as everything does, in `Corpus.heard`.
ODDS = {ENERGY: 0.2, BORDERS: 0.16, FADED: 0.2, HIDDEN: 0.18, PLAYED: 0.26}
NOT_SPEAKERS = ("conversation", "digits8k")
CALIBRATES = 5
"""Every so manieth person of the fitting half."""
TALKERS, BESIDE = 4, 0.8
"""So many other people talk where somebody is heard beside voices; so many are, where that is asked for."""
VOICES, WARD = "voices", "ward"
MORE = {61: ("", 4_000), 62: ("", 2_000), 63: (VOICES, 2_500), 64: (WARD, 2_500)}
"""By seed: beside what, and how many."""
MOUTH = Loudspeaker(50.0, 7_900.0, 1, (), 0.05)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """What the network sees of one utterance, and what is true of it."""

    pictures: np.ndarray
    joins_s: np.ndarray
    person: str
    kind: str

    @property
    def spliced(self) -> bool:
        return ":" in self.kind


class Corpus:
    """Recordings, noises and machines of the fitting half."""

    def __init__(self, data: Path, work: Path, beside: str = "") -> None:
        self.beside = beside
        manifest = data / "manifest.tsv"
        every = read_manifest(manifest, data, ("bonafide", "spoof", "noise", ROOM))
        self.data, self.people, self.machines = data, {}, []
        self.ward = ward_sounds([one for one in every if one.label == "noise"])[0]
        self.rooms = [one.path for one in every if one.label == ROOM]
        self.noises = [
            self.read(one.path)
            for number, one in enumerate([r for r in every if r.label == "noise"])
            if number % 4
        ]
        borders = self._borders(every, work)
        for one in every:
            person = one.speaker or (one.path if one.folder in ("tortoise", "wakeword") else one.folder)
            if one.label == "bonafide" and one.folder not in NOT_SPEAKERS and fits(person):
                source = Source(one.path, self.read(one.path), borders.get(one.path, ()))
                self.people.setdefault(person, []).append(source)
            elif one.label == "spoof" and fits(one.system):
                self.machines.append(one.path)
        names = sorted(self.people)
        several = [name for name in names if len(self.people[name]) > 1]
        # People with several recordings, who can be spliced in every way, as often as all the others.
        self.names = names + several * max(1, len(names) // max(1, len(several)))

    def read(self, path):
        return soundfile.read(plain_path(self.data / path), dtype="float32", always_2d=True)[0][:, 0]

    def _borders(self, every, work):
        """Word borders by path, kept in `work`: they take minutes."""
        kept = work / "borders.json"
        if not kept.is_file():
            aligner = Aligner.open()
            if aligner is None:
                raise QuantizeError("word borders need PocketSphinx: pip install '.[train]'")
            speech = [one for one in every if one.label == "bonafide" and one.text and fits(one.speaker)]
            found = {one.path: aligner.borders(self.read(one.path), one.text) for one in speech}
            kept.write_text(json.dumps(found))
        return {
            path: tuple(map(tuple, words))
            for path, words in json.loads(plain_bytes(kept, LARGE_BYTES)).items()
        }

    def example(self, dice, edits=0.0) -> Example:
        """One draw; in the share `edits` of them something was taken out, put in or exchanged."""
        if dice.random() < edits:
            for _ in range(200):
                person = self.names[int(dice.integers(len(self.names)))]
                kind = EDITS[int(dice.integers(len(EDITS)))]
                made = edit(self.people[person], kind, dice)
                if made is not None:
                    wave = self.heard(made.wave, dice, 0.1) if dice.random() < 0.6 else made.wave
                    wave, joins_s = _around(wave, made.joins_s, dice)
                    return example_of(wave, joins_s, person, f"{made.way}:{kind}", dice)
        if dice.random() < 0.5:
            for _ in range(100):
                person = self.names[int(dice.integers(len(self.names)))]
                way = tuple(ODDS)[int(dice.choice(len(ODDS), p=list(ODDS.values())))]
                style = STYLES[int(dice.integers(len(STYLES)))]
                if way != PLAYED and not any(source.words for source in self.people[person]):
                    way = ENERGY
                splice = draw(self.people[person], way, style, dice)
                if splice is not None:
                    wave = self.heard(splice.wave, dice, 0.15)
                    joins_s = (*splice.joins_s, *splice.edges_s) if edits else splice.joins_s
                    return example_of(wave, joins_s, person, f"{way}:{style}", dice)
        if dice.random() < 0.12 and self.machines:
            path = self.machines[int(dice.integers(len(self.machines)))]
            return example_of(self.heard(self.read(path), dice, 0.35), (), path, "machine", dice)
        person = self.names[int(dice.integers(len(self.names)))]
        theirs = self.people[person]
        wave, kind = theirs[int(dice.integers(len(theirs)))].wave, "person"
        if dice.random() < 0.15:
            wave, kind = with_pauses(wave, dice), "pauses"
        elif dice.random() < 0.2:  # what editing does that is no join
            edge = looped(quietest(wave), round(dice.uniform(0.05, 0.3) * SAMPLE_RATE_HZ), dice)
            wave = np.concatenate([edge, wave, edge])
        return example_of(self.heard(wave, dice, 0.35), (), person, kind, dice)

    def heard(self, wave, dice, replayed):
        """`wave` at a door: loudspeaker or room, noise, a knock, a codec, each now and then."""
        what = dice.random()
        if what < replayed:
            wave = random_playback(dice)(wave, dice)
        elif what < 0.6:
            room = Room(float(dice.uniform(0.15, 1.0)), float(dice.uniform(-2, 12)))
            wave = Playback(MOUTH, room, 40.0)(wave, dice)
        beside = self.beside and dice.random() < BESIDE
        if beside or dice.random() < 0.55:
            noise = self._beside(len(wave), dice) if beside else self._noise(dice)
            noise = pink(len(wave), dice) if noise is None else np.resize(noise, len(wave))
            below = 10 ** (-dice.uniform(*((6, 20) if beside else (8, 35))) / 20)
            wave = wave + noise * np.float32(rms(wave) / max(rms(noise), 1e-9) * below)
        if dice.random() < 0.1 and (knock := self._noise(dice)) is not None:
            knock = knock[: round(dice.uniform(0.05, 0.3) * SAMPLE_RATE_HZ)]
            at = int(dice.integers(max(1, len(wave) - len(knock))))
            wave = wave.copy()
            room_left = wave[at : at + len(knock)]
            room_left += knock[: len(room_left)] * np.float32(
                rms(wave) / max(rms(knock), 1e-9) * dice.uniform(0.1, 1)
            )
        return levelled(_coded(wave, dice) if dice.random() < 0.1 else wave)

    def _beside(self, samples, dice):
        """Other people in one room, none of them as loud as the others; or a sound of a ward."""
        if self.beside == WARD:
            sound = self.read(self.ward[int(dice.integers(len(self.ward)))])
            return np.roll(sound, int(dice.integers(len(sound))))
        said = np.zeros(samples, np.float32)
        for _ in range(TALKERS):
            theirs = self.people[self.names[int(dice.integers(len(self.names)))]]
            wave = theirs[int(dice.integers(len(theirs)))].wave
            wave = np.resize(np.roll(wave, int(dice.integers(len(wave)))), samples)
            said += wave * np.float32(dice.uniform(0.5, 1.0) / max(rms(wave), 1e-6))
        room = Room(float(dice.uniform(0.2, 0.9)), float(dice.uniform(-8, 4)))
        return Playback(MOUTH, room, 40.0)(said, dice)[:samples]

    def _noise(self, dice):
        if not self.noises or dice.random() < 0.3:
            return None
        recorded = self.noises[int(dice.integers(len(self.noises)))]
        return np.roll(recorded, int(dice.integers(len(recorded))))


def _around(wave, joins_s, dice):
    """(wave, joins) of LONGEST_S or less in which the first join lies anywhere."""
    most = LONGEST_S * SAMPLE_RATE_HZ
    if len(wave) <= most:
        return wave, joins_s
    join = round(joins_s[0] * SAMPLE_RATE_HZ)
    low, high = max(0, join - most + SAMPLE_RATE_HZ), min(len(wave) - most, join - SAMPLE_RATE_HZ // 2)
    first = int(dice.integers(max(0, low), max(max(0, low), high) + 1))
    return wave[first:], tuple(at - first / SAMPLE_RATE_HZ for at in joins_s)


def _coded(wave, dice):
    return coded(wave, tuple(CODECS)[int(dice.integers(len(CODECS)))])


def example_of(wave, joins_s, person, kind, dice) -> Example:
    first = round(dice.uniform(0, 0.1) * SAMPLE_RATE_HZ)
    wave = wave[first : first + LONGEST_S * SAMPLE_RATE_HZ].astype(np.float32)
    joins = np.array([at - first / SAMPLE_RATE_HZ for at in joins_s], np.float32)
    inside = joins[(joins > 0) & (joins < len(wave) / SAMPLE_RATE_HZ)]
    return Example(features(wave).astype(np.float16), inside, person, kind)


def calibrates(person: str) -> bool:
    """Whether somebody of the fitting half trains nothing, and is kept for calibration."""
    return hashlib.sha256(f"joins {person}".encode()).digest()[0] % CALIBRATES == 0


def _many(data, work, seed, count, edits, beside=""):
    corpus, dice = Corpus(data, work, beside), np.random.default_rng(seed)
    return [corpus.example(dice, edits) for _ in range(count)]


def examples(data: Path, work: Path, count: int, workers: int, edits: float = 0.0) -> list[Example]:
    """The same for the same count, however many workers make them."""
    Corpus(data, work)  # the borders, once
    parts = 7
    sizes = [count // parts] * parts
    with ProcessPoolExecutor(workers) as pool:
        made = pool.map(_many, [data] * parts, [work] * parts, range(21, 21 + parts), sizes, [edits] * parts)
        return [one for some in made for one in some]


def beside_sounds(data: Path, work: Path, beside: str, count: int) -> list[Example]:
    """Examples beside VOICES or the sounds of a WARD."""
    first = {VOICES: 41, WARD: 43}[beside]
    return [one for seed in (first, first + 1) for one in _many(data, work, seed, count // 2, 0.0, beside)]


def more(data: Path, work: Path, wanted: Callable[[str], bool]) -> list[Example]:
    """Further examples of the same kinds, of the people wanted: MORE."""
    found = []
    for seed, (beside, count) in MORE.items():
        corpus, dice = Corpus(data, work, beside), np.random.default_rng(seed)
        corpus.names = [name for name in corpus.names if wanted(name)]
        corpus.machines = [path for path in corpus.machines if wanted(path)]
        found += [corpus.example(dice) for _ in range(count)]
    return found
