"""What helps the voice check away from the desk: other templates, and other parts of what was said.

    python -m research.fits.at_the_door --manifest M.tsv --root DIR --keep FILE

People with an even SHA-256 enrol as recorded and knock in four places (`research.fits.conditions`), strangers
of their own corpus at each door. A template may add copies of its recordings: in rooms, in rooms with noise
that is modulated like talk, in rooms among voices. A probe may be heard whole, or only where it stands out.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from device.audio.utterance import Utterance, Wave
from device.evidence.voice.in_noise import NOISY_SNR_DB
from device.model_store import slots
from device.models.speaker import SpeakerModel
from device.settings import models_dir
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.evaluate.recordings.trials import ENROLMENT_FILES, speaker_plan
from quantize.playback import Room, pink, reverberate, rms
from research.fits.conditions import Sounds, at_the_door

PLACES = ("clean", "room", "babble", "ward")
MOST = 3
LEAST_WORDS = 3
COPIES = ("room", "noise", "voices")
RANGES_DB = {"above 22 dB": 22.0, "above 15 dB": 15.0}
SCALE, OFFSET, THRESHOLD_LLR = 32.3069, -14.5706, 3.0
GIVEN_BACK = (0.0, 0.5)
LEAST_BLOCKS = 60

Embedding = npt.NDArray[np.float32]
Embedded = dict[str, Embedding]
Templates = Mapping[str, Mapping[str, float]]
"""By name: which copies count, and how much."""

TEMPLATES: Templates = {
    "as recorded": {"plain": 1.0},
    "and in two rooms": {"plain": 1.0, "room": 2.0},
    "and in rooms with modulated noise, half": {"plain": 1.0, "noise": 0.5},
    "the same, alike": {"plain": 1.0, "noise": 1.0},
    "and in rooms, half, and with noise, half": {"plain": 1.0, "room": 0.5, "noise": 0.5},
    "and in rooms among voices, alike": {"plain": 1.0, "voices": 1.0},
}


@dataclass(frozen=True, slots=True)
class Person:
    """One person's recordings as embeddings."""

    corpus: str
    enrolled: list[Embedded]
    knocks: dict[str, list[Embedded]]
    """By place."""


def standing_out(wave: Wave, range_db: float) -> Wave:
    """The blocks of 10 ms within `range_db` of the loudest twentieth, and two beside each."""
    blocks = wave[: len(wave) // 160 * 160].reshape(-1, 160)
    sharpened = np.diff(wave[: blocks.size], prepend=0.0).reshape(blocks.shape)
    level_db = 10.0 * np.log10(np.square(sharpened).mean(axis=1) + 1e-12)
    loud = level_db >= np.percentile(level_db, 95) - range_db
    if loud.sum() < LEAST_BLOCKS:
        loud[np.argsort(-level_db)[:LEAST_BLOCKS]] = True
    return np.asarray(blocks[np.convolve(loud, np.ones(5), "same") > 0.5].reshape(-1))


def like_talk(length: int, dice: np.random.Generator) -> Wave:
    """Four streams of pink noise that swell and fall eight times a second."""
    at = np.arange(0, length + 2_000, 2_000)
    streams = [
        pink(length, dice) * np.interp(np.arange(length), at, np.maximum(0.0, dice.normal(0.5, 0.6, len(at))))
        for _ in range(4)
    ]
    return np.asarray(np.sum(streams, axis=0), np.float32)


def copies(wave: Wave, others: Sequence[Wave], model: SpeakerModel, dice: np.random.Generator) -> Embedded:
    """Two of each kind, their mean."""
    found: dict[str, list[Embedding]] = defaultdict(list)
    for _ in range(2):
        room = reverberate(wave, Room(dice.uniform(0.25, 0.7), dice.uniform(0, 8)), dice)
        found["room"].append(model.embed(room))
        share = np.float32(10 ** (-dice.uniform(8, 18) / 20))
        chosen = dice.choice(len(others), 4, replace=False)
        talk = np.sum([np.resize(others[int(at)], len(room)) / rms(others[int(at)]) for at in chosen], axis=0)
        for kind, noise in (("noise", like_talk(len(room), dice)), ("voices", talk)):
            mixed = room + noise * np.float32(rms(room) / rms(noise)) * share
            found[kind].append(model.embed(mixed.astype(np.float32)))
    return {kind: np.mean(rows, axis=0) for kind, rows in found.items()}


def probe(said: Utterance, model: SpeakerModel) -> Embedded:
    """Whole, and where it stands out if it is noisy."""
    wave = said.wave()
    whole = model.embed(wave)
    noisy = said.quality.snr_db < NOISY_SNR_DB
    parts = {n: model.embed(standing_out(wave, db)) if noisy else whole for n, db in RANGES_DB.items()}
    return {"whole": whole, **parts, "noisy": np.array([noisy], np.float32)}


def measured(recordings: Sequence[Recording], sounds: Sounds, model: SpeakerModel) -> dict[str, Person]:
    """Everybody of the fitting half who can enrol and has two phrases to say."""
    plan = speaker_plan(recordings)
    by: dict[str, list[Recording]] = defaultdict(list)
    for one in plan.probes:
        if fits(one.speaker) and (not one.text or len(one.text.split()) >= LEAST_WORDS):
            by[one.speaker].append(one)
    by = {who: files for who, files in by.items() if len(files) >= 2}
    clean = {
        who: [
            u.wave() for r in plan.enrolments[who][:ENROLMENT_FILES] if (u := at_the_door(r, "clean", sounds))
        ]
        for who in by
    }
    people = {}
    with Bars() as bars:
        tick = bars.bar("people", len(by))
        for who, files in by.items():
            others = [wave for other, waves in clean.items() if other != who for wave in waves]
            enrolled = []
            for at, wave in enumerate(clean[who]):
                seed = hashlib.sha256(f"{who} {at}".encode()).digest()[:8]
                dice = np.random.default_rng(int.from_bytes(seed, "little"))
                enrolled.append({"plain": model.embed(wave), **copies(wave, others, model, dice)})
            chosen = (
                files
                if len(files) <= MOST
                else [files[round(a)] for a in np.linspace(0, len(files) - 1, MOST)]
            )
            knocks = {
                place: [probe(u, model) for r in chosen if (u := at_the_door(r, place, sounds))]
                for place in PLACES
            }
            if len(enrolled) >= 2:
                people[who] = Person(files[0].folder, enrolled, knocks)
            tick()
    return people


def template(person: Person, weights: Mapping[str, float]) -> Embedding:
    mean = sum(
        share * np.mean([one[name] for one in person.enrolled], axis=0) for name, share in weights.items()
    )
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def llrs(
    people: Mapping[str, Person], weights: Mapping[str, float], part: str, given_back: float = 0.0
) -> dict[str, tuple[list[float], list[float]]]:
    """(own, strangers) by place; `given_back` is added where the place was noisy."""
    doors = {who: template(person, weights) for who, person in people.items()}
    found: dict[str, tuple[list[float], list[float]]] = {place: ([], []) for place in PLACES}
    for who, person in people.items():
        for place, knocks in person.knocks.items():
            for door, voice in doors.items():
                if people[door].corpus == person.corpus:
                    found[place][door != who].extend(
                        SCALE * float(one[part] @ voice) + OFFSET + given_back * float(one["noisy"][0])
                        for one in knocks
                    )
    return found


def line(name: str, found: Mapping[str, tuple[list[float], list[float]]]) -> str:
    """Refused and strangers in at LLR 3, and refused where 0.1 % of all strangers are in, in per cent."""
    at = float(np.quantile(np.concatenate([others for _, others in found.values()]), 0.999))
    cells = []
    for own, others in found.values():
        refused, beyond = np.array(own) < THRESHOLD_LLR, np.array(own) < at
        let_in = np.array(others) >= THRESHOLD_LLR
        cells.append(f"{100 * refused.mean():.1f}, {100 * let_in.mean():.2f}, {100 * beyond.mean():.1f}")
    return f"| {name} | {' | '.join(cells)} |"


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(manifest: Path, root: Path, keep: Path) -> None:
    """Print each way by place: refused, strangers in (both at LLR 3), refused at 0.1 % of strangers."""
    if not keep.exists():
        sounds = Sounds.of(manifest, root)
        model = SpeakerModel.open(slots.active(models_dir()))
        keep.write_bytes(pickle.dumps(measured(read_manifest(manifest, root), sounds, model)))
    people: dict[str, Person] = pickle.loads(keep.read_bytes())  # noqa: S301 - written by this very command
    first = llrs(people, TEMPLATES["as recorded"], "whole")
    counts = {place: (len(own), len(others)) for place, (own, others) in first.items()}
    click.echo(f"{len(people)} people; own and strangers' attempts: {counts}")
    for name, weights in TEMPLATES.items():
        for part in ("whole", *RANGES_DB):
            for given_back in GIVEN_BACK:
                label = f"{name}; probe {part}; {given_back} given back"
                click.echo(line(label, llrs(people, weights, part, given_back)))


if __name__ == "__main__":
    main()
