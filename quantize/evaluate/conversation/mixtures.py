"""Conversations made by a seed from recordings of single people: turns, overlap, noise and rooms.

The reference is known because the mixture was made: a person speaks from where the energy of their own,
clean recording rises to where it falls, and pauses shorter than 0.3 s inside are speech.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ, Samples, Wave
from device.conversation.turns import Turn, overlaps
from device.errors import DeviceError
from device.models.speaker import MIN_ENROLMENT
from quantize.errors import QuantizeError
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.sound import read_wave

PEOPLE = (2, 3, 4)
OVERLAPS = (0.0, 0.1, 0.2, 0.3)
SNR_DB = (10.0, 20.0)
SHORTEST_S = 45.0
PAUSE_S = 0.3
"""A shorter silence inside one utterance counts as speech, as transcribers of meetings have it."""
FRAME = 160
BELOW_PEAK_DB = 35.0
LONGEST_ROOM_S = 1.5
FOLDERS_LEFT_OUT = ("so762_child", "digits8k")
"""Children do not work in hospitals, and single digits over a telephone are no conversation."""
ROOMS = ("cinema_room", "dining_room", "impulses_kitchen", "living_magnetic", "medium_room")
"""Parts of names: talkers and microphone are in one ordinary room. The others of the development set are
halls, a warehouse, filters, or have the microphone in another room than the talkers."""


@dataclass(frozen=True, slots=True)
class Person:
    """Recordings of one speaker: the first three by path enrol, the others are spoken in conversations."""

    name: str
    enrol: tuple[Recording, ...]
    said: tuple[Recording, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """One made conversation."""

    name: str
    samples: Samples
    reference: tuple[Turn, ...]
    people: tuple[Person, ...]
    asked_overlap: float
    snr_db: float
    room: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def overlap(self) -> float:
        """The share of speech time in which two or more people speak."""
        together_s = sum(end - begin for begin, end in overlaps(self.reference))
        return together_s / max(1e-9, sum(t.seconds for t in self.reference) - together_s)


@dataclass(frozen=True, slots=True, eq=False)
class Splice:
    """One person speaks up to `change_s`, then another goes on."""

    first: Person
    second: Person
    samples: Samples
    change_s: float
    snr_db: float | None


def people_of(recordings: Sequence[Recording], *, tuning: bool) -> list[Person]:
    """Everybody with enough recordings: with `tuning` of the half that calibrations were fitted on, else of
    the other half, which figures are reported on.
    """
    by: dict[str, list[Recording]] = {}
    for recording in recordings:
        adult = recording.folder not in FOLDERS_LEFT_OUT
        if recording.label == "bonafide" and recording.speaker and adult:
            by.setdefault(recording.speaker, []).append(recording)
    return [
        Person(name, tuple(files[:MIN_ENROLMENT]), tuple(files[MIN_ENROLMENT:]))
        for name, files in sorted(by.items())
        if len(files) >= MIN_ENROLMENT + 2 and fits(name) == tuning
    ]


class Studio:
    """Reads recordings, noises and rooms once, and mixes."""

    def __init__(self, root: Path, noises: Sequence[Recording], rooms: Sequence[Recording]) -> None:
        self._root = root
        self._noises = list(noises)
        self._rooms = [room for room in rooms if any(part in Path(room.path).name for part in ROOMS)]
        self._kept: dict[str, Wave] = {}

    def mixtures(self, people: Sequence[Person], count: int, seed: int) -> Iterator[Mixture]:
        """`count` conversations, the number of people and the overlap in turn; half of them in a room."""
        most = max(PEOPLE)
        if len(people) < most:
            raise QuantizeError(f"conversations take {most} people with five recordings; {len(people)} found")
        for number in range(count):
            dice = np.random.default_rng([seed, number])
            size = PEOPLE[number % len(PEOPLE)]
            # People of one corpus: others would be told apart by their microphones.
            corpora: dict[str, list[Person]] = {}
            for person in people:
                corpora.setdefault(person.said[0].folder, []).append(person)
            large = sorted(name for name, members in corpora.items() if len(members) >= size)
            if not large:
                raise QuantizeError(f"no folder holds {size} people with five recordings")
            members = corpora[large[int(dice.integers(len(large)))]]
            chosen = [members[at] for at in dice.choice(len(members), size, replace=False)]
            asked = OVERLAPS[number // len(PEOPLE) % len(OVERLAPS)]
            in_room = bool(number // (len(PEOPLE) * len(OVERLAPS)) % 2) and bool(self._rooms)
            yield self._mix(f"mix-{number:03d}", chosen, asked, in_room, dice)

    def spliced(self, people: Sequence[Person], count: int, seed: int) -> Iterator[Splice]:
        """`count` streams in which one person speaks and, without a pause, another goes on.

        Every other one in noise. Both speak all their recordings that do not enrol, in an order drawn.
        """
        for number in range(count):
            dice = np.random.default_rng([seed, number])
            one = people[int(dice.integers(len(people)))]
            others = [p for p in people if p.name != one.name and p.said[0].folder == one.said[0].folder]
            if not others:
                raise QuantizeError(f"{one.name} has nobody of the same folder to change with")
            other = others[int(dice.integers(len(others)))]
            first, second = (self._said(person, dice) for person in (one, other))
            wave = np.concatenate((first, second))
            snr_db = float(dice.uniform(*SNR_DB)) if number % 2 and self._noises else None
            if snr_db is not None:
                noise = self._noise(len(wave), dice)
                power = float(np.mean(wave**2)) / max(1e-12, float(np.mean(noise**2)))
                wave = wave + np.float32(np.sqrt(power / 10 ** (snr_db / 10))) * noise
            wave = wave * np.float32(0.5 / max(1e-9, float(np.abs(wave).max())))
            samples = np.rint(wave * 32767.0).astype(np.int16)
            yield Splice(one, other, samples, len(first) / SAMPLE_RATE_HZ, snr_db)

    def _said(self, person: Person, dice: np.random.Generator) -> Wave:
        """Everything a person says, without what is silent before and after each recording."""
        parts = []
        for at in dice.permutation(len(person.said)):
            wave = self._levelled(self.wave(person.said[at]))
            spans = spoken(wave)
            if spans:
                parts.append(wave[spans[0][0] : spans[-1][1]])
        if not parts:
            raise QuantizeError(f"{person.name} says nothing in recordings that do not enrol")
        return np.concatenate(parts)

    def wave(self, recording: Recording) -> Wave:
        """The recording as float32; raises DeviceError for one that cannot be read."""
        if recording.path not in self._kept:
            self._kept[recording.path] = read_wave(self._root / recording.path)
        return self._kept[recording.path]

    def _mix(
        self, name: str, people: Sequence[Person], asked: float, in_room: bool, dice: np.random.Generator
    ) -> Mixture:
        tracks, reference = self._talk(people, asked, dice)
        room = self._rooms[int(dice.integers(len(self._rooms)))] if in_room else None
        if room is not None:
            answer = _direct_first(self.wave(room))
            tracks = [_in_room(track, answer) for track in tracks]
        speech = np.sum(tracks, axis=0)
        snr_db = float(dice.uniform(*SNR_DB))
        if self._noises:
            noise = self._noise(len(speech), dice)
            loud = np.concatenate(
                [speech[int(t.start_s * SAMPLE_RATE_HZ) : int(t.end_s * SAMPLE_RATE_HZ)] for t in reference]
            )
            scale = np.sqrt(np.mean(loud**2) / max(1e-12, float(np.mean(noise**2))) / 10 ** (snr_db / 10))
            speech = speech + scale * noise
        speech = speech * (0.5 / max(1e-9, float(np.abs(speech).max())))
        samples = np.rint(speech * 32767.0).astype(np.int16)
        where = Path(room.path).stem if room is not None else ""
        return Mixture(name, samples, tuple(sorted(reference)), tuple(people), asked, snr_db, where)

    def _talk(
        self, people: Sequence[Person], asked: float, dice: np.random.Generator
    ) -> tuple[list[Wave], list[Turn]]:
        """Each person's track, and who speaks when. Nobody speaks twice in a row if another still can."""
        left = {
            at: [person.said[k] for k in dice.permutation(len(person.said))]
            for at, person in enumerate(people)
        }
        placed: list[tuple[int, int, Wave]] = []
        reference: list[Turn] = []
        end, last, spoken_s, together_s = int(0.5 * SAMPLE_RATE_HZ), -1, 0.0, 0.0
        gains = 10 ** (dice.uniform(-3.0, 3.0, len(people)) / 20)
        free_from = [0] * len(people)
        while True:
            able = [at for at in left if left[at] and at != last] or [at for at in left if left[at]]
            if not able or (
                end > SHORTEST_S * SAMPLE_RATE_HZ
                and all(any(t.speaker == p.name for t in reference) for p in people)
            ):
                break
            at = able[int(dice.integers(len(able)))]
            try:
                wave = self._levelled(self.wave(left[at].pop())) * np.float32(gains[at])
            except DeviceError:
                continue
            spans = spoken(wave)
            if not spans:
                continue
            first, final = spans[0][0], spans[-1][1]
            wave = wave[first:final]
            # Begin early enough to bring the share of overlap to what was asked, or after a pause.
            wanted_s = asked / (1 + asked) * (spoken_s + len(wave) / SAMPLE_RATE_HZ) - together_s
            if wanted_s > 0.3 and placed and at != last:
                begin = end - int(min(wanted_s, 0.8 * len(wave) / SAMPLE_RATE_HZ, 3.0) * SAMPLE_RATE_HZ)
            else:
                begin = end + int(dice.uniform(0.1, 1.0) * SAMPLE_RATE_HZ)
            begin = max(begin, free_from[at], 0)
            together_s += max(0, min(end, begin + len(wave)) - begin) / SAMPLE_RATE_HZ
            spoken_s += len(wave) / SAMPLE_RATE_HZ
            placed.append((at, begin, wave))
            for span_begin, span_end in spans:
                start_s = (begin + span_begin - first) / SAMPLE_RATE_HZ
                reference.append(
                    Turn(start_s, start_s + (span_end - span_begin) / SAMPLE_RATE_HZ, people[at].name)
                )
            free_from[at] = begin + len(wave) + int(0.1 * SAMPLE_RATE_HZ)
            end, last = max(end, begin + len(wave)), at
        tracks = [np.zeros(end + SAMPLE_RATE_HZ // 2, np.float32) for _ in people]
        for at, begin, wave in placed:
            tracks[at][begin : begin + len(wave)] += wave
        return tracks, reference

    @staticmethod
    def _levelled(wave: Wave) -> Wave:
        loud = np.sqrt(np.mean(np.sort(wave**2)[len(wave) // 2 :])) + 1e-9
        return np.asarray(wave * np.float32(0.1 / loud))

    def _noise(self, length: int, dice: np.random.Generator) -> Wave:
        wave = self.wave(self._noises[int(dice.integers(len(self._noises)))])
        return np.resize(np.roll(wave, int(dice.integers(len(wave)))), length)


def spoken(wave: Wave) -> list[tuple[int, int]]:
    """Where a clean recording of one person has speech: (begin, end) in samples, short pauses filled."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return []
    level = 10 * np.log10(np.mean(frames.astype(np.float64) ** 2, axis=1) + 1e-10)
    floor = np.percentile(level, 5)
    loudest = np.percentile(level, 98)
    bar = max(loudest - BELOW_PEAK_DB, min(floor + 8.0, loudest - 12.0))
    active = np.concatenate(([False], level > bar, [False]))
    spans: list[list[int]] = []
    for begin, end in np.flatnonzero(np.diff(active.astype(np.int8))).reshape(-1, 2).tolist():
        if spans and (begin - spans[-1][1]) * FRAME < PAUSE_S * SAMPLE_RATE_HZ:
            spans[-1][1] = end
        else:
            spans.append([begin, end])
    return [
        (begin * FRAME, end * FRAME) for begin, end in spans if (end - begin) * FRAME >= 0.1 * SAMPLE_RATE_HZ
    ]


def _direct_first(answer: Wave) -> Wave:
    """A room's answer from its direct sound on, at most LONGEST_ROOM_S of it, of unit energy."""
    answer = answer[int(np.abs(answer).argmax()) :][: int(LONGEST_ROOM_S * SAMPLE_RATE_HZ)]
    return np.asarray(answer / np.sqrt(float((answer**2).sum()) + 1e-12))


def _in_room(track: Wave, answer: Wave) -> Wave:
    size = 1 << (len(track) + len(answer) - 1).bit_length()
    spectrum: npt.NDArray[Any] = np.fft.rfft(track, size) * np.fft.rfft(answer, size)
    return np.fft.irfft(spectrum, size)[: len(track)].astype(np.float32)
