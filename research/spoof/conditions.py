"""The live check in use, condition by condition, on people and systems that its detector never heard.

    python -m research.spoof conditions --data SPEECH [--keep FILE] [--most N]

Left out are all pages that the detector's card names, all systems that it heard under any name, and people on
whom its zero was fitted. Each file goes through the door's own endpointer and quality measures, and its LLR
is moved by place as the judge moves it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.audio import load_utterance
from device.audio.utterance import Quality
from device.errors import DeviceError
from device.evidence.conditioned import Conditioned, shipped
from device.liveness.condition import Conditions, blindness
from device.model_store import slots
from device.models.spoof.detector import CARD_ROLE, SpoofDetector
from device.settings import models_dir
from quantize.errors import QuantizeError
from quantize.evaluate.checks.opened import open_spoof, spoof_code
from quantize.evaluate.door.heard import Condition, Surroundings, heard
from quantize.evaluate.door.measure import wav
from quantize.evaluate.door.whole import surroundings
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.figures.intervals import Share
from quantize.evaluate.recordings.manifest import NOISE, Recording, read_manifest
from quantize.train.speech.corpus import family
from quantize.train.speech.scoring import eer
from research.detector.scores import interval

PLAIN = Condition("as they are")
ROOM = Condition("room", room="near")
NOISY = Condition("noise at 20 dB", "noise", 20.0)
WARD = Condition("ward sounds at 15 dB", "ward", 15.0)
MP3, OPUS = Condition("MP3 64 kbit/s", codec="mp3"), Condition("Opus 24 kbit/s", codec="opus")
ALOUD = Condition("loudspeaker in a room", room="near", loudspeaker=True)
FASTER, WOBBLING = Condition("0.7 % faster", clock=1.007), Condition("wobbling by 0.5 %", wobble=0.005)

PEOPLE = 3
"""Times as many people of each page as attacks of each system: pages have several systems."""
UNFIT = ("conversation", "digits8k", "so762_child")
"""Several people in one file; 8 kHz; the room and the session of a corpus that trained."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: how people are heard, and how attacks are."""

    name: str
    people: Condition
    attacks: Condition
    replays: bool = False
    """Whether the attacks are recordings of the people themselves."""


ROWS = (
    Row("as they are", PLAIN, PLAIN),
    Row(MP3.name, MP3, MP3),
    Row(OPUS.name, OPUS, OPUS),
    Row("fakes through a loudspeaker, all in rooms", ROOM, ALOUD),
    Row("all in rooms, a perfect loudspeaker", ROOM, ROOM),
    Row("fakes 0.7 % faster", PLAIN, FASTER),
    Row("fakes wobbling by 0.5 %", PLAIN, WOBBLING),
    Row(NOISY.name, NOISY, NOISY),
    Row("people's recordings played again, all in rooms", ROOM, ALOUD, replays=True),
    Row(WARD.name, WARD, WARD),
)


@dataclass(frozen=True, slots=True)
class Found:
    """One sound: what the door made of it. `asked` where it asks again, and no LLR counts."""

    asked: bool
    llr: float = 0.0
    cadence: float = 0.0
    rate_hz: float = 0.0


def unheard(recordings: Sequence[Recording], trained: Iterable[str]) -> tuple[list[Recording], ...]:
    """(people, attacks) that no part of a detector with such `trained_on` names in its card has heard."""
    pages = {page for page, _, label in (name.rpartition(" ") for name in trained) if label == "spoof"}
    voices = {page for page, _, label in (name.rpartition(" ") for name in trained) if label == "bonafide"}
    known = {page.removeprefix("made:") for page in pages}
    known |= {family(r.system) for r in recordings if r.label == "spoof" and r.folder in pages}
    people = [
        r
        for r in recordings
        if r.label == "bonafide"
        and r.folder not in {*voices, *UNFIT}
        # Of the corpora whose zero was fitted by speaker, the other half.
        and not (r.speaker and "demo" not in r.folder and fits(r.speaker))
    ]
    attacks = [
        r
        for r in recordings
        if r.label == "spoof" and r.folder not in pages and family(r.system) not in known
    ]
    return people, attacks


def drawn(recordings: Sequence[Recording], most: int) -> list[Recording]:
    """At most `most` of each system of each page and of each page's people; a larger draw holds a smaller."""
    groups: dict[tuple[str, str], list[Recording]] = defaultdict(list)
    for recording in sorted(recordings, key=lambda one: hashlib.sha256(one.path.encode()).digest()):
        groups[recording.folder, recording.system].append(recording)
    return [one for name in sorted(groups) for one in groups[name][:most]]


@dataclass(slots=True)
class Door:
    """The door's live check, which keeps what it found in a file."""

    detector: SpoofDetector
    place: Conditioned
    around: Surroundings
    keep: Path | None
    known: dict[str, Found]
    code: str = field(default_factory=spoof_code)

    @classmethod
    def open(cls, around: Surroundings, keep: Path | None) -> Door:
        """The bundle in use. Raises QuantizeError for a file of scores that is none."""
        known = {}
        if keep is not None and keep.exists():
            try:
                lines = [json.loads(line) for line in keep.read_text("utf-8").splitlines()]
                known = {line.pop("key"): Found(**line) for line in lines}
            except (ValueError, TypeError, KeyError) as err:
                raise QuantizeError(f"{keep} holds no scores ({err}); delete it") from err
        return cls(open_spoof(models_dir()), shipped(), around, keep, known)

    def found(self, recording: Recording, condition: Condition, where: str = "") -> Found:
        """What the door makes of one recording under one condition; those of one `where` meet the same room,
        loudspeaker and sounds."""
        key = f"{self.detector.version} {self.code} {self.place.version} {condition} {recording.path}"
        key += f" {where}" if where else ""
        if key not in self.known:
            wave = self.around.wave(recording.path)
            sound = heard(wave, where or recording.path, recording.speaker, condition, self.around)
            self.known[key] = self.judged(sound)
            if self.keep is not None:
                with self.keep.open("a", encoding="utf-8") as out:
                    fields = {name: getattr(self.known[key], name) for name in Found.__slots__}
                    out.write(json.dumps({"key": key, **fields}) + "\n")
        return self.known[key]

    def judged(self, sound: np.ndarray) -> Found:
        """What the door makes of a sound (n,) at 16 kHz."""
        try:
            utterance = load_utterance(wav(sound))
            if blindness(utterance.quality, Conditions()) is not None:
                return Found(asked=True)
            evidence = self.detector.evidence(utterance.wave())
        except DeviceError:
            return Found(asked=True)
        llr = self.moved(evidence.llr, utterance.quality)
        return Found(False, llr, evidence.cadence_llr, evidence.frame_rate_hz)

    def moved(self, llr: float, quality: Quality) -> float:
        """The LLR as the rules see it."""
        return self.place.llr(self.detector.version, llr, quality)


def run(data: Path, keep: Path | None, most: int) -> None:
    """Print both tables: by condition, and each system as it is."""
    if most < 1:
        raise QuantizeError("at least one file of each system is needed; --most says how many at most")
    recordings = read_manifest(data / "manifest.tsv", data)
    noises = read_manifest(data / "manifest.tsv", data, (NOISE,))
    card = json.loads(slots.active(models_dir()).path(CARD_ROLE).read_bytes())
    people, attacks = unheard(recordings, card["trained_on"])
    people, attacks = drawn(people, PEOPLE * most), drawn(attacks, most)
    if not people or not attacks:
        raise QuantizeError(f"{data} has no people or no attacks that the detector never heard")
    door = Door.open(surroundings(recordings, noises, data), keep)
    made = {
        row: (
            [door.found(r, row.people) for r in people],
            [door.found(r, row.attacks) for r in (people if row.replays else attacks)],
        )
        for row in track(ROWS, description="conditions")
    }
    console = Console(width=130)
    console.print(_by_condition(made, door.detector.version))
    console.print(_by_system(attacks, *made[ROWS[0]]))
    pages = Counter(r.folder for r in people)
    console.print("people of " + ", ".join(f"{page} {count}" for page, count in sorted(pages.items())))


def llrs(found: Iterable[Found]) -> np.ndarray:
    """Of those that were judged."""
    return np.array([one.llr for one in found if not one.asked])


def cells(people: Sequence[Found], attacks: Sequence[Found]) -> list[str]:
    """EER with its interval, attacks accepted and people refused at LLR 0, who was asked again."""
    live, fake = llrs(people), llrs(attacks)
    if len(live) < 2 or len(fake) < 2:
        return ["-"] * 5
    low, high = interval(live, fake)
    return [
        f"{eer(live, fake):.1%} [{low:.1%}, {high:.1%}]",
        str(Share(int((fake > 0).sum()), len(fake))),
        str(Share(int((live <= 0).sum()), len(live))),
        f"{1 - len(live) / len(people):.0%}",
        f"{1 - len(fake) / len(attacks):.0%}",
    ]


def _by_condition(made: dict[Row, tuple[list[Found], list[Found]]], version: str) -> Table:
    table = Table("condition", "EER", "attacks accepted", "people refused", "asked again: people", "attacks")
    people, attacks = made[ROWS[0]]
    table.title = f"{version}: {len(people)} recordings of people, {len(attacks)} attacks, none ever heard"
    for row, both in made.items():
        table.add_row(row.name, *cells(*both))
    return table


def _by_system(attacks: Sequence[Recording], live: list[Found], fakes: list[Found]) -> Table:
    table = Table("system, as it is", "files", "EER against everybody", "accepted", "by frame rates alone")
    groups: dict[str, list[Found]] = defaultdict(list)
    for recording, one in zip(attacks, fakes, strict=True):
        groups[f"{recording.folder}/{recording.system}"].append(one)
    for name, of in sorted(groups.items()):
        fake = llrs(of)
        if len(fake) >= 2:
            beat = sum(one.cadence < 0 for one in of if not one.asked)
            table.add_row(
                name,
                str(len(fake)),
                f"{eer(llrs(live), fake):.0%}",
                str(Share(int((fake > 0).sum()), len(fake))),
                f"{beat} refused",
            )
    return table
