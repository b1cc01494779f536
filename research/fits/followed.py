"""A voiceprint that follows its owner at one door: what is kept, how it weighs, and what strangers gain.

    python -m research.fits.followed --manifest M.tsv --root DIR --keep FOLDER [--part 0/2] [--walks 2000]

Everybody with seven recordings or more says all of them at doors of a few kinds, each of which is one room
with one noise source. The fitting half (an even SHA-256) stands in rooms of one simulation, the others in
rooms of another; ways are chosen on the fitting half.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from device.audio import load_utterance
from device.audio.utterance import SAMPLE_RATE_HZ, Quality, Wave
from device.errors import DeviceError
from device.evidence.voice import at_the_door, followed, in_noise
from device.evidence.voice.copies import door_vector, of_recording
from device.evidence.voice.followed import FOLLOWED_LLR, LEAST, RAISES_LLR, near
from device.evidence.voice.held import Voice
from device.evidence.voice.in_noise import FITTED_ON, Speaker
from device.model_store import slots
from device.models.speaker import SpeakerModel
from device.secure_store import Growing
from device.settings import models_dir
from device.unit.succession.following_rule import with_another
from device.unit.succession.rule import MARGIN_LLR
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.door.heard import LEAD_S, LEVEL, TALKERS
from quantize.evaluate.door.measure import wav
from quantize.evaluate.door.rooms import response, through
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.playback import Room, pink, reverberate, rms
from research.fits.at_the_door import THRESHOLD_LLR
from research.fits.conditions import Sounds

CORPORA = ("an4", "so762", "indian_english")
LEAST_FILES = 7
KINDS = {"clean": 1, "near": 1, "far": 1, "babble": 1, "ward": 1}
"""Kinds of doors, and how many there are."""
ENROL = (3, 5)
"""By how many phrases, the first by path."""
SNR_DB = 15.0
COUNTS = (0, 1, 3)
"""So many attempts at the door are kept."""
ELSEWHERE = "near"
"""Where was kept what is also judged by attempts in the other places."""
WAYS = ((-3.0, 2.0), (-3.5, 2.0), (FOLLOWED_LLR, RAISES_LLR), (-4.5, 2.0), (-4.0, 99.0))
"""(added to the LLR against what is followed, most that it raises)."""
DAYS, FORCED, CLOSEST = 30, (1, 3, 30), 5
BOOTSTRAPS = 2_000

Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Said:
    """One recording of one person, as it enrols, and as it is heard at each door."""

    embedding: Embedding | None
    copies: Embedding | None
    at: dict[tuple[str, int], tuple[Embedding, Quality]]


def rendered(recording: Recording, kind: str, door: int, fitting: bool, sounds: Sounds) -> Wave:
    """The recording at one door. The room is the door's own; noise follows from recording and door."""
    around = sounds.around
    wave = around.wave(recording.path)
    if kind == "clean":
        return wave
    seed = hashlib.sha256(repr((recording.path, kind, door)).encode()).digest()[:8]
    dice = np.random.default_rng(int.from_bytes(seed, "little"))
    far = kind == "far"
    place = np.random.default_rng([list(KINDS).index(kind), door, fitting])
    if fitting:
        room = (
            Room(place.uniform(0.45, 0.9), place.uniform(-6, 0))
            if far
            else Room(place.uniform(0.2, 0.6), place.uniform(0, 8))
        )
        wave = reverberate(wave, room, place)
    else:
        wave = through(wave, response(int(place.integers(12)), far))
    wave = wave * np.float32(LEVEL / max(rms(wave), 1e-9))
    wave = np.pad(wave, round(LEAD_S * SAMPLE_RATE_HZ))
    if kind == "babble":
        others = list(around.voices)[int(fitting) :: 2]
        chosen = dice.choice(len(others), TALKERS, replace=False)
        talk = [_piece(around.wave(others[int(at)].path), len(wave), dice) for at in chosen]
        mixed = np.sum([one / max(rms(one), 1e-9) for one in talk], axis=0).astype(np.float32)
        noise, snr_db = reverberate(mixed, Room(0.5, 0.0), dice)[: len(wave)], SNR_DB
    elif kind == "ward":
        mine = list(sounds.ward)[int(fitting) :: 2]
        source = around.wave(mine[int(place.integers(len(mine)))])
        noise, snr_db = _piece(source, len(wave), dice), SNR_DB
    else:
        noise, snr_db = pink(len(wave), dice), float(place.uniform(24, 36))
    mixed = wave + noise * np.float32(LEVEL * 10 ** (-snr_db / 20) / max(rms(noise), 1e-9))
    return np.clip(mixed, -1.0, 32767 / 32768).astype(np.float32)


def _piece(wave: Wave, length: int, dice: np.random.Generator) -> Wave:
    start = int(dice.integers(len(wave)))
    return np.take(wave, np.arange(start, start + length), mode="wrap")


def measured(recording: Recording, number: int, sounds: Sounds, model: SpeakerModel) -> Said:
    """The first three of a person enrol, the next two enrol or knock, the others knock."""
    fitting, at = fits(recording.speaker), {}
    embedding = copies = None
    for kind, doors in KINDS.items():
        for door in range(doors):
            if kind != "clean" and number < min(ENROL):
                continue
            try:
                said = load_utterance(wav(rendered(recording, kind, door, fitting, sounds)))
                wave = said.wave()
                heard = in_noise.heard(model, said.quality, wave)
            except DeviceError:
                continue
            at[kind, door] = heard, said.quality
            if kind == "clean" and number < max(ENROL):
                embedding, copies = model.embed(wave), of_recording(model, wave)
    return Said(embedding, copies, at)


def everybody(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    by: dict[str, list[Recording]] = defaultdict(list)
    for one in sorted(recordings, key=lambda r: r.path):
        if one.label == "bonafide" and one.folder in CORPORA and one.speaker:
            by[one.speaker].append(one)
    return {who: files for who, files in by.items() if len(files) >= LEAST_FILES}


def _shuffled(named: tuple[str, list[Recording]]) -> str:
    """An order by chance that is always the same."""
    return hashlib.sha256(named[0].encode()).hexdigest()[-16:]


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody at whose door others knock."""

    voice: Voice
    knocks: Mapping[str, list[tuple[Embedding, Quality]]]
    """By kind of door, in the order of their paths; none of them enrolled."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt at one door where so much is followed."""

    owner: str
    enrolled_llr: float
    followed_llr: float
    """As is, before anything is added; NaN where there is nothing to follow."""

    def llr(self, added: float, raises: float) -> float:
        if np.isnan(self.followed_llr):
            return self.enrolled_llr
        return max(self.enrolled_llr, min(self.followed_llr + added, self.enrolled_llr + raises))


@dataclass(frozen=True, slots=True)
class Walk:
    """What came of one history."""

    owner: str
    taken: int
    """Of the stranger's attempts so many were kept."""
    before: tuple[float, ...]
    """LLRs of the stranger's attempts by the enrolled voiceprint ..."""
    since: tuple[float, ...]
    """... and with what is followed at the end."""
    degrees: float
    """Between what is followed and the nearer vector of the voiceprint."""


class Doors:
    """Half of the people, each at their own door and at everybody's of their corpus."""

    def __init__(self, people: Mapping[str, tuple[str, list[Said]]], model: Speaker, phrases: int) -> None:
        self.model = model
        self.corpora = {who: corpus for who, (corpus, _) in people.items()}
        self.owners = {
            who: owner for who, (_, said) in people.items() if (owner := _owner(said, phrases)) is not None
        }
        self.knocks = {who: _knocks(said, min(ENROL)) for who, (_, said) in people.items()}
        self._enrolled: dict[tuple[str, int], float] = {}
        self._references: dict[tuple[str, str, tuple[int, ...]], Embedding] = {}

    def kept(self, owner: Owner, kind: str) -> list[int]:
        """Which knocks would be kept: well inside by the enrolled voiceprint alone."""
        return [
            at
            for at, (heard, quality) in enumerate(owner.knocks[kind])
            if near(self.model, heard, owner.voice)
            and at_the_door.llr(self.model, quality, heard, owner.voice) >= THRESHOLD_LLR + MARGIN_LLR
        ]

    def trials(self, at_kind: str, kind: str, count: int) -> tuple[list[Trial], list[Trial]]:
        """(own, strangers') attempts at `kind` once exactly `count` others at `at_kind` are kept, where there
        are as many; of none where `count` is 0."""
        own, others = [], []
        for who, owner in self.owners.items():
            kept = self.kept(owner, at_kind)
            for at, knock in enumerate(owner.knocks[kind]):
                left = [one for one in kept if one != at][:count]
                if len(left) == count:
                    own.append(self._trial(who, owner, at_kind, left, knock))
            if len(kept) >= count:
                for stranger, said in self.knocks.items():
                    if stranger != who and self.corpora[stranger] == self.corpora[who]:
                        others += [
                            self._trial(who, owner, at_kind, kept[:count], knock) for knock in said[kind]
                        ]
        return own, others

    def _trial(
        self, who: str, owner: Owner, kind: str, kept: Sequence[int], knock: tuple[Embedding, Quality]
    ) -> Trial:
        heard, quality = knock
        key = who, id(heard)
        if key not in self._enrolled:
            self._enrolled[key] = at_the_door.llr(self.model, quality, heard, owner.voice)
        if not kept:
            return Trial(who, self._enrolled[key], float("nan"))
        among = who, kind, tuple(kept)
        if among not in self._references:
            mean = np.mean([owner.knocks[kind][at][0] for at in kept], axis=0)
            self._references[among] = mean / np.linalg.norm(mean)
        followed_llr = in_noise.llr(self.model, quality, heard, self._references[among])
        return Trial(who, self._enrolled[key], followed_llr)

    def walked(self, kind: str, forced: int, histories: int, dice: np.random.Generator) -> list[Walk]:
        """Histories of DAYS days at one door: on `forced` of them one of the five closest strangers is let
        in, whatever the door says, on the others its owner; and what the stranger is worth afterwards."""
        found, nearest = [], dict[str, list[str]]()
        owners = [who for who, owner in self.owners.items() if len(owner.knocks[kind]) >= LEAST]
        for _ in range(histories):
            who = owners[int(dice.integers(len(owners)))]
            owner = self.owners[who]
            closest = (
                nearest.get(who)
                or sorted(
                    (
                        u
                        for u in self.knocks
                        if u != who and self.corpora[u] == self.corpora[who] and self.knocks[u][kind]
                    ),
                    key=lambda u: (
                        -max(self.model.llr(h, owner.voice.vector) for h, _ in self.knocks[u][kind])
                    ),
                )[:CLOSEST]
            )
            nearest[who] = closest
            if not closest:
                continue
            stranger = self.knocks[closest[int(dice.integers(len(closest)))]][kind]
            days = set(dice.choice(DAYS, forced, replace=False).tolist())
            growing: Growing | None = None
            taken = 0
            for day in range(DAYS):
                said = stranger if day in days else owner.knocks[kind]
                heard, _ = said[int(dice.integers(len(said)))]
                after = with_another(
                    growing,
                    FITTED_ON,
                    day,
                    heard,
                    lambda row, v=owner.voice: near(self.model, row, v),  # type: ignore[misc]
                )
                taken += after is not None and day in days
                growing = growing if after is None else after
            rows = None if growing is None else growing.vectors
            held = replace(owner.voice, follows=True, followed=rows)
            before = [at_the_door.llr(self.model, q, h, owner.voice) for h, q in stranger]
            since = [
                followed.raised(self.model, q, h, held, llr)
                for (h, q), llr in zip(stranger, before, strict=True)
            ]
            drift = 0.0
            if rows is not None:
                mean = rows.mean(axis=0)
                vectors = [owner.voice.vector] + ([] if owner.voice.door is None else [owner.voice.door])
                drift = min(
                    float(np.degrees(np.arccos(np.clip(mean @ v / np.linalg.norm(mean), -1, 1))))
                    for v in vectors
                )
            found.append(Walk(who, taken, tuple(before), tuple(since), drift))
        return found


def _owner(said: Sequence[Said], phrases: int) -> Owner | None:
    embeddings = [one.embedding for one in said[:phrases] if one.embedding is not None]
    copies = [one.copies for one in said[:phrases] if one.copies is not None]
    if len(embeddings) < min(ENROL):
        return None
    mean = np.mean(embeddings, axis=0)
    voice = Voice(
        (mean / np.linalg.norm(mean)).astype(np.float32),
        FITTED_ON,
        door=door_vector(embeddings, copies),
        phrases=len(embeddings),
    )
    return Owner(voice, _knocks(said, phrases))


def _knocks(said: Sequence[Said], phrases: int) -> dict[str, list[tuple[Embedding, Quality]]]:
    return {kind: [one.at[kind, 0] for one in said[phrases:] if (kind, 0) in one.at] for kind in KINDS}


def share(trials: Sequence[Trial], added: float, raises: float) -> str:
    """Refused in per cent, with an interval over people."""
    by: dict[str, list[bool]] = defaultdict(list)
    for one in trials:
        by[one.owner].append(one.llr(added, raises) < THRESHOLD_LLR)
    if not by:
        return "-"
    sums, sizes = np.array([sum(one) for one in by.values()]), np.array([len(one) for one in by.values()])
    draws = np.random.default_rng(1).integers(len(by), size=(BOOTSTRAPS, len(by)))
    low, high = np.percentile(100 * sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), [2.5, 97.5])
    return f"{100 * sums.sum() / sizes.sum():.1f} [{low:.1f}, {high:.1f}]"


def let_in(trials: Sequence[Trial], added: float, raises: float) -> int:
    return sum(one.llr(added, raises) >= THRESHOLD_LLR for one in trials)


def judged(doors: Doors) -> Iterator[str]:
    """By number kept and kind of door: right people refused and strangers in, as now and by each way."""
    for count in COUNTS:
        every: tuple[list[Trial], list[Trial]] = ([], [])
        elsewhere: tuple[list[Trial], list[Trial]] = ([], [])
        for kind in KINDS:
            own, others = doors.trials(kind, kind, count)
            every[0].extend(own)
            every[1].extend(others)
            yield _line(f"{count} kept, {kind}", own, others)
            if count and kind != ELSEWHERE:
                own, others = doors.trials(ELSEWHERE, kind, count)
                elsewhere[0].extend(own)
                elsewhere[1].extend(others)
        yield _line(f"{count} kept, all", *every)
        if count:
            yield _line(f"{count} kept, {ELSEWHERE}, and judged elsewhere", *elsewhere)


def _line(name: str, own: Sequence[Trial], others: Sequence[Trial]) -> str:
    cells = [f"{share(own, -99.0, 0.0)}, {let_in(others, -99.0, 0.0)}"]
    cells += [f"{share(own, *way)}, {let_in(others, *way)}" for way in WAYS]
    return f"| {name} (n {len(own)}, strangers {len(others):,}) | " + " | ".join(cells) + " |"


def told(forced: int, walks: Sequence[Walk]) -> str:
    """One line of what walking comes to."""
    seeded = sum(one.taken > 0 for one in walks)
    before = sum(llr >= THRESHOLD_LLR for one in walks for llr in one.before)
    since = sum(llr >= THRESHOLD_LLR for one in walks for llr in one.since)
    tries = sum(len(one.before) for one in walks)
    rises = [b - a for one in walks for a, b in zip(one.before, one.since, strict=True)]
    kinds_before = sum(any(llr >= THRESHOLD_LLR for llr in one.before) for one in walks)
    kinds_since = sum(any(llr >= THRESHOLD_LLR for llr in one.since) for one in walks)
    return (
        f"forced {forced} of {DAYS} days: {len(walks)} histories, the stranger kept in {seeded}; "
        f"stranger in {before} -> {since} of {tries} attempts, in {kinds_before} -> {kinds_since} histories; "
        f"largest rise {max(rises):.2f} LLR, median {np.median(rises):.2f}; "
        f"farthest {max(one.degrees for one in walks):.1f} degrees"
    )


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--part", default="0/1", help="Measure this part only, as 0/2.")
@click.option("--walks", default=600, help="Histories for each number of days and half of the people.")
def main(manifest: Path, root: Path, keep: Path, part: str, walks: int) -> None:
    """Measure; then print who is refused and who is in, and what comes of being let in by force."""
    keep.mkdir(parents=True, exist_ok=True)
    mine, of = map(int, part.split("/"))
    model = SpeakerModel.open(slots.active(models_dir()))
    sounds = Sounds.of(manifest, root)
    people = everybody(read_manifest(manifest, root))
    with Bars() as bars:
        tick = bars.bar("people", len(people))
        for at, (who, files) in enumerate(sorted(people.items(), key=_shuffled)):
            file = keep / f"{hashlib.sha256(who.encode()).hexdigest()[:16]}.pickle"
            if at % of == mine and not file.exists():
                said = [measured(one, number, sounds, model) for number, one in enumerate(files)]
                file.with_suffix(".new").write_bytes(pickle.dumps((who, files[0].folder, said)))
                file.with_suffix(".new").rename(file)
            tick()
    if of > 1:
        return
    everyone = [pickle.loads(file.read_bytes()) for file in sorted(keep.glob("*.pickle"))]  # noqa: S301 - its own
    for fitting in (True, False):
        half = {who: (corpus, said) for who, corpus, said in everyone if fits(who) == fitting}
        for phrases in ENROL:
            doors = Doors(half, model, phrases)
            click.echo(
                f"{'fitting' if fitting else 'judged'} half, {len(doors.owners)} enrolled by {phrases}; "
                f"ways (added, raises at most): as now, {', '.join(map(str, WAYS))}"
            )
            for line in judged(doors):
                click.echo(line)
            for forced in FORCED:
                dice = np.random.default_rng([forced, fitting, phrases])
                kinds = [kind for kind in KINDS if kind != "clean"]
                found = [w for kind in kinds for w in doors.walked(kind, forced, walks // len(kinds), dice)]
                click.echo(told(forced, found))


if __name__ == "__main__":
    main()
