"""The door vector's calibration, and what it is worth: people as at a desk, in rooms, in noise and far away.

    python -m research.fits.door_vector --manifest M.tsv --root DIR --keep FILE

People with an even SHA-256 enrol as recorded and knock in five places (`research.fits.conditions`, and two
metres away in livelier rooms), strangers of their own corpus at each door, heard as the judge hears them.
Shifts are fitted on nine tenths of the people, so that a share of strangers passes; the others are judged.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from device.audio import load_utterance
from device.audio.utterance import Quality, Utterance, Wave
from device.errors import DeviceError
from device.evidence.enrolled import Voices
from device.evidence.voice import in_noise
from device.evidence.voice.at_the_door import DOOR_LLR, LIVELY_DB_S
from device.evidence.voice.in_noise import GIVEN_BACK_LLR, NOISY_SNR_DB
from device.model_store import slots
from device.models.speaker import SpeakerModel
from device.settings import models_dir
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.door.measure import wav
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.evaluate.recordings.trials import ENROLMENT_FILES, speaker_plan
from quantize.playback import Room, pink, reverberate, rms
from research.fits.at_the_door import LEAST_WORDS, OFFSET, SCALE, THRESHOLD_LLR
from research.fits.conditions import LEVEL, Sounds, at_the_door

PLACES = ("clean", "room", "babble", "ward", "far")
MOST = 5
SHARES = (0.001, 0.0007, 0.0005)
"""Of strangers that pass where the shifts are fitted."""
ROUNDS, PARTS = 10, 10
BOOTSTRAPS = 2_000
DESK, LIVELY, NOISY = 0, 1, 2

Embedding = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Knock:
    """One answer as the judge hears it."""

    heard: Embedding
    quality: Quality


@dataclass(frozen=True, slots=True)
class Person:
    """One person of the fitting half."""

    corpus: str
    desk: Embedding
    door: Embedding
    knocks: dict[str, list[Knock]]
    """By place."""


def heard(recording: Recording, place: str, sounds: Sounds) -> Utterance | None:
    """Through the door's endpointer; None where it would not be judged."""
    if place != "far":
        return at_the_door(recording, place, sounds)
    try:
        return load_utterance(wav(far(recording, sounds)))
    except DeviceError:
        return None


def far(recording: Recording, sounds: Sounds) -> Wave:
    """Two metres away in a lively room; the draws follow from the path."""
    seed = hashlib.sha256(repr((recording.path, "far", 0)).encode()).digest()[:8]
    dice = np.random.default_rng(int.from_bytes(seed, "little"))
    room = Room(dice.uniform(0.4, 0.9), dice.uniform(-6, 0))
    wave = reverberate(sounds.around.wave(recording.path), room, dice)
    wave = np.pad(wave * np.float32(LEVEL / max(rms(wave), 1e-9)), int(dice.uniform(0.3, 0.9) * 16_000))
    noise = pink(len(wave), dice)
    return wave + noise * np.float32(rms(wave) * 10 ** (-dice.uniform(20, 40) / 20) / max(rms(noise), 1e-9))


def measured(recordings: Sequence[Recording], sounds: Sounds, model: SpeakerModel) -> dict[str, Person]:
    """Everybody of the fitting half who can enrol and has two phrases to say."""
    plan = speaker_plan(recordings)
    by: dict[str, list[Recording]] = defaultdict(list)
    for one in plan.probes:
        if fits(one.speaker) and (not one.text or len(one.text.split()) >= LEAST_WORDS):
            by[one.speaker].append(one)
    by = {who: files for who, files in by.items() if len(files) >= 2}
    people = {}
    with Bars() as bars:
        tick = bars.bar("people", len(by))
        for who, files in by.items():
            said = [heard(r, "clean", sounds) for r in plan.enrolments[who][:ENROLMENT_FILES]]
            voices = Voices.of(model, [one.wave() for one in said if one is not None])
            chosen = [files[round(a)] for a in np.linspace(0, len(files) - 1, min(len(files), MOST))]
            door = voices.door()
            if len(voices.embeddings) >= 2 and door is not None:
                mean = np.mean(voices.embeddings, axis=0)
                knocks = {p: list(_knocks(chosen, p, sounds, model)) for p in PLACES}
                people[who] = Person(files[0].folder, mean / np.linalg.norm(mean), door, knocks)
            tick()
    return people


def _knocks(files: Sequence[Recording], place: str, sounds: Sounds, model: SpeakerModel) -> Iterator[Knock]:
    for recording in files:
        if (said := heard(recording, place, sounds)) is not None:
            yield Knock(in_noise.heard(model, said.quality, said.wave()), said.quality)


class Trials:
    """Every knock at every door."""

    def __init__(self, people: Mapping[str, Person]) -> None:
        everybody = list(people.values())
        self.people = len(everybody)
        rows = [
            (at, place, knock)
            for at, person in enumerate(everybody)
            for place in PLACES
            for knock in person.knocks[place]
        ]
        self.who = np.array([at for at, _, _ in rows])
        self.place = np.array([place for _, place, _ in rows])
        snr_db = np.array([knock.quality.snr_db for _, _, knock in rows])
        decay_db_s = np.array([knock.quality.decay_db_s for _, _, knock in rows])
        lively = np.where(decay_db_s < LIVELY_DB_S, LIVELY, DESK)
        self.kind = np.where(snr_db < NOISY_SNR_DB, NOISY, lively)
        self.corpora = np.array([person.corpus for person in everybody])
        self.own = self.who[:, None] == np.arange(self.people)[None]
        self.strangers = (self.corpora[self.who][:, None] == self.corpora[None]) & ~self.own
        probes = np.array([knock.heard for _, _, knock in rows])
        raw = [
            SCALE * probes @ np.array([getattr(p, name) for p in everybody]).T + OFFSET
            for name in ("desk", "door")
        ]
        self.desk, self.door = raw[0] + GIVEN_BACK_LLR * (self.kind == NOISY)[:, None], raw[1]

    def llrs(self, vector: Array, shifts: Mapping[int, float]) -> Array:
        """As in use at a desk, and `vector`'s with a shift elsewhere."""
        found = self.desk.copy()
        for kind, shift in shifts.items():
            found[self.kind == kind] = vector[self.kind == kind] + shift
        return found

    def fitted(self, vector: Array, share: float, among: Flags, kinds: Sequence[int]) -> dict[int, float]:
        """The shifts by which `share` of the strangers `among` people pass at each other's doors."""
        shifts = {}
        for kind in kinds:
            rows = (self.kind == kind) & among[self.who]
            scores = vector[rows][:, among][self.strangers[rows][:, among]]
            shifts[kind] = float(THRESHOLD_LLR - np.quantile(scores, 1 - share))
        return shifts

    def splits(self) -> Iterator[Flags]:
        """Nine tenths of each corpus's people, ROUNDS times over."""
        dice = np.random.default_rng(1)
        for _ in range(ROUNDS):
            part = np.zeros(self.people, int)
            for corpus in sorted(set(self.corpora)):
                mine = np.flatnonzero(self.corpora == corpus)
                part[dice.permutation(mine)] = np.arange(len(mine)) % PARTS
            yield from (part != number for number in range(PARTS))

    def judged(self, vector: Array, share: float, kinds: Sequence[int]) -> str:
        """Those left out in turn: refused, and strangers in, per cent by place."""
        counts: dict[str, Array] = {place: np.zeros(4) for place in PLACES}
        for among in self.splits():
            llrs = self.llrs(vector, self.fitted(vector, share, among, kinds))
            for place in PLACES:
                counts[place] += self._counted(llrs, (self.place == place) & ~among[self.who])
        return _cells(counts)

    def told(self, llrs: Array) -> str:
        """The same of everybody, at one set of scores."""
        return _cells({place: self._counted(llrs, self.place == place) for place in PLACES})

    def changed(self, llrs: Array) -> Iterator[str]:
        """By place, less what was before: points refused, with an interval over people, and strangers in."""
        dice = np.random.default_rng(0)
        for place in PLACES:
            rows = self.place == place
            sets = [scores[rows] for scores in (self.desk, llrs)]
            before, after = ((one[self.own[rows]] < THRESHOLD_LLR).astype(float) for one in sets)
            let_in = [int((one[self.strangers[rows]] >= THRESHOLD_LLR).sum()) for one in sets]
            each = [(after - before)[self.who[rows] == at] for at in range(self.people)]
            each = [one for one in each if len(one)]
            draws = dice.integers(len(each), size=(BOOTSTRAPS, len(each)))
            low, high = np.percentile(
                [np.concatenate([each[i] for i in d]).mean() for d in draws], [2.5, 97.5]
            )
            points = 100 * (after - before).mean()
            yield f"{place}: {points:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], strangers in {let_in}"

    def _counted(self, llrs: Array, rows: Flags) -> Array:
        own, others = llrs[rows][self.own[rows]], llrs[rows][self.strangers[rows]]
        refused, let_in = (own < THRESHOLD_LLR).sum(), (others >= THRESHOLD_LLR).sum()
        return np.array([refused, len(own), let_in, len(others)], np.float64)


def _cells(counts: Mapping[str, Array]) -> str:
    return " | ".join(f"{100 * a / b:.1f}, {100 * c / d:.2f}" for a, b, c, d in counts.values())


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(manifest: Path, root: Path, keep: Path) -> None:
    """Print what is refused, and which strangers are in, by place and way; then the shifts."""
    if not keep.exists():
        sounds = Sounds.of(manifest, root)
        model = SpeakerModel.open(slots.active(models_dir()))
        keep.write_bytes(pickle.dumps(measured(read_manifest(manifest, root), sounds, model)))
    people: dict[str, Person] = pickle.loads(keep.read_bytes())  # noqa: S301 - written by this very command
    trials = Trials(people)
    for place in PLACES:
        rows = trials.place == place
        kinds = [int((trials.kind[rows] == kind).sum()) for kind in (DESK, LIVELY, NOISY)]
        click.echo(
            f"{place}: desk, lively, noisy {kinds}, strangers' attempts {trials.strangers[rows].sum()}"
        )
    click.echo(f"{trials.people} people; " + ", ".join(PLACES))
    click.echo(f"| one vector, as before | {trials.told(trials.desk)} |")
    everybody = np.ones(trials.people, bool)
    for name, vector in (("the vector as enrolled", trials.desk), ("door vector", trials.door)):
        for where, kinds in (("lively", (LIVELY,)), ("lively or noisy", (LIVELY, NOISY))):
            for share in SHARES:
                shifts = trials.fitted(vector, share, everybody, kinds)
                told = f"{name}, {where}, shifts for {100 * share:.2f} % ({shifts} of everybody)"
                click.echo(f"| {told} | {trials.judged(vector, share, kinds)} |")
    shipped = trials.llrs(trials.door, {LIVELY: DOOR_LLR})
    click.echo(f"| as shipped, not left out | {trials.told(shipped)} |")
    for line in trials.changed(shipped):
        click.echo(line)


if __name__ == "__main__":
    main()
