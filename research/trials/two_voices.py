"""Ways to ask more of a voice than one score: two phrases together, and what other voices of the unit say.

    python -m research.trials.two_voices --manifest M.tsv --root DIR --keep FILE

People on whom calibrations are fitted, enrolled and heard as in whole attempts (docs/adr/0075).
Strangers are of the same corpus; the others of a unit are never the stranger's own voiceprint.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from device.audio import QualityError, load_utterance
from device.audio.utterance import Quality
from device.evidence.enrolled import Voices
from device.evidence.voice import at_the_door, in_noise
from device.evidence.voice.copies import of_recording
from device.evidence.voice.held import Voice
from device.model_store import slots
from device.models.speaker import InconsistentEnrolmentError, SpeakerModel
from device.settings import models_dir
from quantize.evaluate.door.cast import Cast, cast
from quantize.evaluate.door.heard import Surroundings, heard, named
from quantize.evaluate.door.measure import wav
from quantize.evaluate.door.whole import other_surroundings, surroundings
from quantize.evaluate.recordings.manifest import noises, read_manifest
from quantize.evaluate.recordings.trials import ENROLMENT_FILES
from sync.plain_file import plain_bytes

PLACES = ("clean", "room", "room, babble 15 dB", "room, ward sounds 15 dB", "2 m, lively room")
THRESHOLD_LLR = 3.0
WEIGHT_LLR, USUAL_LLR, NEAREST = 16.2, 5.3, 5
COHORTS = ((60, False), (14, False), (60, True), (30, True), (14, True))
"""(how many others at most, whether of every corpus)."""

Embedding = npt.NDArray[np.float32]
Knocks = dict[tuple[str, str, int], tuple[Quality, Embedding] | None]
Rows = Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
"""By place: of people and of strangers, whatever is measured of each."""
Ways = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Heard:
    """What everybody enrolled by, and what they said at the door."""

    folders: Mapping[str, str]
    voices: Mapping[str, Voice]
    knocks: Knocks

    def of(self, who: str, place: str) -> list[tuple[Quality, Embedding] | None]:
        return [one for (name, there, _), one in self.knocks.items() if (name, there) == (who, place)]


def measure(people: Cast, around: Surroundings, model: SpeakerModel) -> Heard:
    voices: dict[str, Voice] = {}
    for who, files in people.enrolments.items():
        try:
            waves = [load_utterance(wav(around.wave(one.path))).wave() for one in files]
            kept = [(model.embed(wave), of_recording(model, wave)) for wave in waves]
            voices[who] = _voice(kept[:ENROLMENT_FILES], model)
            voices[who] = _voice(kept, model)
        except (QualityError, InconsistentEnrolmentError):
            continue
    knocks: Knocks = {}
    for place, condition in named(PLACES).items():
        for who, files in people.probes.items():
            for number, one in enumerate(files):
                sound = heard(around.wave(one.path), one.path, one.speaker, condition, around)
                try:
                    said = load_utterance(wav(sound))
                    probe = in_noise.heard(model, said.quality, said.wave())
                    knocks[who, place, number] = said.quality, probe
                except QualityError:
                    knocks[who, place, number] = None
    return Heard({who: files[0].folder for who, files in people.probes.items()}, voices, knocks)


def _voice(kept: list[tuple[Embedding, Embedding]], model: SpeakerModel) -> Voice:
    voices = Voices(embeddings=[one for one, _ in kept], copies=[copies for _, copies in kept])
    return voices.voice(model)


def pairs(found: Heard, model: SpeakerModel) -> Rows:
    """(LLR of one phrase, of the next, of both as one mean embedding) of every ordered pair of phrases."""
    rows = {}
    for place in PLACES:
        sides: tuple[list[list[float]], list[list[float]]] = ([], [])
        for who, victim in _meet(found):
            said, voice = found.of(who, place), found.voices[victim]
            for at, one in enumerate(said):
                others = [other for n, other in enumerate(said) if n != at] if who == victim else []
                for other in others or [said[(at + 1) % len(said)]]:
                    sides[who != victim].append(_together(one, other, voice, model))
        rows[place] = np.array(sides[0]), np.array(sides[1])
    return rows


def _together(
    one: tuple[Quality, Embedding] | None,
    other: tuple[Quality, Embedding] | None,
    voice: Voice,
    model: SpeakerModel,
) -> list[float]:
    if one is None or other is None:
        return [_llr(one, voice, model), _llr(other, voice, model), -20.0]
    mean = one[1] + other[1]
    mean /= np.linalg.norm(mean)
    both = [at_the_door.llr(model, quality, mean, voice) for quality, _ in (one, other)]
    return [_llr(one, voice, model), _llr(other, voice, model), float(np.mean(both))]


def _llr(said: tuple[Quality, Embedding] | None, voice: Voice, model: SpeakerModel) -> float:
    return -20.0 if said is None else at_the_door.llr(model, *said, voice)


def _meet(found: Heard) -> Iterator[tuple[str, str]]:
    for who, folder in found.folders.items():
        yield from ((who, victim) for victim in found.voices if found.folders[victim] == folder)


def beside(found: Heard, model: SpeakerModel, most: int, mixed: bool) -> Rows:
    """(LLR, mean cosine with the nearest of the unit's others) of every phrase."""
    rows = {}
    for place in PLACES:
        sides: tuple[list[list[float]], list[list[float]]] = ([], [])
        for who, victim in _meet(found):
            able = (one for one in found.voices if mixed or found.folders[one] == found.folders[victim])
            drawn = sorted((one for one in able if one not in (who, victim)), key=_draw(victim))[:most]
            others = np.stack([found.voices[one].vector for one in drawn])
            for said in found.of(who, place):
                if said is not None:
                    nearest = np.sort(others @ said[1])[-NEAREST:].mean()
                    llr = at_the_door.llr(model, *said, found.voices[victim])
                    sides[who != victim].append([llr, float(nearest)])
        rows[place] = np.array(sides[0]), np.array(sides[1])
    return rows


def _draw(victim: str) -> Callable[[str], bytes]:
    return lambda one: hashlib.sha256(f"{victim}\0{one}".encode()).digest()


def told(name: str, rows: Rows, accepts: Ways) -> str:
    refused = [100.0 * float(np.mean(~accepts(own))) for own, _ in rows.values()]
    strangers = [int(accepts(others).sum()) for _, others in rows.values()]
    each = "  ".join(f"{one:4.1f} {count:2d}" for one, count in zip(refused, strangers, strict=True))
    trials = sum(len(others) for _, others in rows.values())
    return f"{name:<58} {each}  all {np.mean(refused):.2f} % and {sum(strangers)} of {trials:,}"


def _taken(most_llr: float) -> Ways:
    def accepts(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        moved = np.clip(USUAL_LLR - WEIGHT_LLR * rows[:, 1], -3.0, most_llr)
        return np.asarray(rows[:, 0] + moved >= THRESHOLD_LLR)

    return accepts


def _both(sum_llr: float, mean_llr: float, least_llr: float, alone_llr: float = THRESHOLD_LLR) -> Ways:
    def accepts(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        one, other, mean = rows.T
        joint = (one + other >= sum_llr) & (mean >= mean_llr) & (np.minimum(one, other) >= least_llr)
        return np.asarray((one >= THRESHOLD_LLR) | (other >= alone_llr) | joint)

    return accepts


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(manifest: Path, root: Path, keep: Path) -> None:
    """People refused in per cent and strangers let in, place by place, for every way."""
    model = SpeakerModel.open(slots.active(models_dir()), threads=1)
    if not keep.exists():
        recordings, sounds = read_manifest(manifest, root), noises(manifest, root)
        around = other_surroundings(surroundings(recordings, sounds, root), sounds)
        keep.write_bytes(pickle.dumps(measure(cast(recordings, fitted=True), around, model)))
    found: Heard = pickle.loads(plain_bytes(keep, 1 << 28))  # noqa: S301 - our own, of this very script
    click.echo(", ".join(PLACES))
    two, never = pairs(found, model), 99.0
    click.echo(told("one phrase", two, _both(never, never, never, never)))
    click.echo(told("a second that passes alone, as now", two, _both(never, never, never)))
    for mean_llr, least in ((2.0, 0.0), (2.5, 0.0)):
        click.echo(told(f"or a mean LLR of {mean_llr}, each {least}", two, _both(2 * mean_llr, -99, least)))
    for mean_llr, least in ((3.0, 1.0), (3.5, 1.0), (3.5, 0.0), (4.0, 0.0)):
        name = f"or the mean embedding at {mean_llr}, each {least}"
        click.echo(told(name, two, _both(-99, mean_llr, least)))
    click.echo(told("or a second alone at 2.5", two, _both(never, never, never, 2.5)))
    for most, mixed in COHORTS:
        rows = beside(found, model, most, mixed)
        where = f"up to {most} others of {'every' if mixed else 'the same'} corpus"
        click.echo(told(f"{where}: nothing taken or given", rows, lambda r: r[:, 0] >= THRESHOLD_LLR))
        for given in (0.0, 0.5, 2.0):
            click.echo(told(f"{where}: at most {given} given", rows, _taken(given)))


if __name__ == "__main__":
    main()
