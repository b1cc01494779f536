"""By how many phrases to enrol: who is refused for their voice, and which strangers are in, by one to five.

    python -m research.fits.enrolled_by --manifest M.tsv --root DIR --keep FILE

People with an even SHA-256 and eight recordings or more enrol: three by path, then the first two of five
others; the last three of those knock at their own door, in five places (`research.fits.door_vector`).
Strangers are everybody of that half and of the same corpus, with up to five recordings each.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Protocol

import click
import numpy as np
import numpy.typing as npt

from device.evidence.enrolled import Voices
from device.evidence.voice import at_the_door, in_noise
from device.evidence.voice.held import Voice
from device.evidence.voice.phrases import CALIBRATED_BY
from device.model_store import slots
from device.models.speaker import MIN_ENROLMENT, SpeakerModel
from device.settings import models_dir
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.evaluate.recordings.trials import ENROLMENT_FILES, speaker_plan
from research.fits.at_the_door import LEAST_WORDS, THRESHOLD_LLR
from research.fits.conditions import Sounds
from research.fits.door_vector import MOST, PLACES, Knock, heard

MORE = 2
BOOTSTRAPS = 2_000

Embedding = npt.NDArray[np.float32]


class Compares(Protocol):
    """A speaker model, as far as two voiceprints go."""

    def llr(self, probe: Embedding, template: Embedding) -> float: ...


@dataclass(frozen=True, slots=True)
class Person:
    """One person: each enrolment recording as it is and as copies, and what they said at the door."""

    corpus: str
    embeddings: list[Embedding]
    """Of three recordings, or of five where they can enrol by so many."""
    copies: list[Embedding]
    knocks: dict[str, list[Knock]]
    """By place; of those who enrol by five, the first two are of recordings that enrol."""

    @property
    def enrols(self) -> bool:
        return len(self.embeddings) == ENROLMENT_FILES + MORE


def measured(recordings: Sequence[Recording], sounds: Sounds, model: SpeakerModel) -> dict[str, Person]:
    """Everybody of the fitting half who has two phrases to say."""
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
            chosen = [files[round(at)] for at in np.linspace(0, len(files) - 1, min(len(files), MOST))]
            more = chosen[:MORE] if len(chosen) == MOST else []
            enrol = (*plan.enrolments[who][:ENROLMENT_FILES], *more)
            said = [one for r in enrol if (one := heard(r, "clean", sounds)) is not None]
            voices = Voices.of(model, [one.wave() for one in said])
            knocks = {place: list(_knocks(chosen, place, sounds, model)) for place in PLACES}
            people[who] = Person(files[0].folder, voices.embeddings, voices.copies, knocks)
            tick()
    return people


def _knocks(files: Sequence[Recording], place: str, sounds: Sounds, model: SpeakerModel) -> Iterator[Knock]:
    for recording in files:
        if (said := heard(recording, place, sounds)) is not None:
            yield Knock(in_noise.heard(model, said.quality, said.wave()), said.quality)


def scored(
    people: Mapping[str, Person], phrases: int, model: SpeakerModel, counted: int
) -> dict[str, tuple[dict[str, list[float]], list[float]]]:
    """By place: LLRs of the right people, by person, and of strangers, as the door has them of voiceprints
    that count as of `counted` phrases."""
    doors = {}
    for who, person in people.items():
        if person.enrols:
            voices = Voices(embeddings=person.embeddings[:phrases], copies=person.copies[:phrases])
            mean = np.mean(voices.embeddings, axis=0)  # of fewer than three, which no door takes, as well
            vector = mean / np.linalg.norm(mean)
            doors[who] = Voice(vector, model.version, door=voices.door(), phrases=counted)
    found: dict[str, tuple[dict[str, list[float]], list[float]]] = {p: ({}, []) for p in PLACES}
    for who, person in people.items():
        for place, knocks in person.knocks.items():
            own, others = found[place]
            for other, voice in doors.items():
                if people[other].corpus == person.corpus:
                    llrs = [at_the_door.llr(model, k.quality, k.heard, voice) for k in knocks]
                    if other == who:
                        own[who] = llrs[MORE:]
                    else:
                        others += llrs
    return found


def one_voice(people: Mapping[str, Person], phrases: int, model: Compares) -> tuple[int, int]:
    """How many pairs of different people a door for two persons takes for one voice, and of how many."""
    means = {who: np.mean(one.embeddings[:phrases], axis=0) for who, one in people.items() if one.enrols}
    doors = {who: (mean / np.linalg.norm(mean)).astype(np.float32) for who, mean in means.items()}
    pairs = [two for two in combinations(doors, 2) if len({people[who].corpus for who in two}) == 1]
    alike = [not model.llr(doors[one], doors[other]) < 0.0 for one, other in pairs]
    return sum(alike), len(pairs)


def cell(own: Mapping[str, Sequence[float]], others: Sequence[float]) -> str:
    """Refused in per cent with an interval over people, and strangers in of how many."""
    refused = [[llr < THRESHOLD_LLR for llr in llrs] for llrs in own.values() if llrs]
    draws = np.random.default_rng(1).integers(len(refused), size=(BOOTSTRAPS, len(refused)))
    sums, sizes = np.array([sum(one) for one in refused]), np.array([len(one) for one in refused])
    low, high = np.percentile(100 * sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), [2.5, 97.5])
    let_in = sum(llr >= THRESHOLD_LLR for llr in others)
    return f"{100 * sums.sum() / sizes.sum():.1f} [{low:.1f}, {high:.1f}], {let_in} of {len(others):,}"


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(manifest: Path, root: Path, keep: Path) -> None:
    """Print who is refused and which strangers are in, by place and number of phrases."""
    model = SpeakerModel.open(slots.active(models_dir()))
    if not keep.exists():
        people = measured(read_manifest(manifest, root), Sounds.of(manifest, root), model)
        keep.write_bytes(pickle.dumps(people))
    people = pickle.loads(keep.read_bytes())  # noqa: S301 - written by this very command
    doors = sum(person.enrols for person in people.values())
    click.echo(f"{len(people)} people, {doors} of whom enrol; phrases | " + " | ".join(PLACES))
    for phrases in range(1, MIN_ENROLMENT + MORE + 1):
        alike, of = one_voice(people, phrases, model)
        click.echo(f"{phrases}: {alike} of {of} pairs are one voice to a door for two persons")
        for counted in dict.fromkeys((CALIBRATED_BY, max(CALIBRATED_BY, phrases))):
            by_place = scored(people, phrases, model, counted)
            let_in = sum(llr >= THRESHOLD_LLR for _, others in by_place.values() for llr in others)
            of = sum(len(others) for _, others in by_place.values())
            own = [llr for mine, _ in by_place.values() for llrs in mine.values() for llr in llrs]
            refused = 100 * np.mean(np.array(own) < THRESHOLD_LLR)
            cells = " | ".join(cell(*found) for found in by_place.values())
            click.echo(
                f"| {phrases}, counted as {counted} | {cells} | {refused:.1f} of "
                f"{len(own)}, strangers {let_in} of {of:,} |"
            )


if __name__ == "__main__":
    main()
