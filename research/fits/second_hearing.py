"""Whether a second hearing of the same sound lets more right phrases in: by a larger model or the same one.

    P="python -m research.fits.second_hearing"
    $P collect --manifest M.tsv --root DIR --models DIR --half fit --keep F.jsonl
    $P fit F.jsonl [--judge T.jsonl]
    $P others --manifest M.tsv --root DIR --models DIR

People with an even SHA-256 are fitted on, the others judged. Phrases have three words or more. Each recording
is heard as recorded and in one place of three (a room, beside voices, ward sounds; drawn by its path) through
the door's endpointer, and asked for its own text, its text with one word replaced, and another of its corpus.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import click
import numpy as np
import numpy.typing as npt
import soxr

from device.audio import load_utterance
from device.audio.utterance import Wave
from device.evidence import second_hearing
from device.evidence.phrase import agreement, another, normalise, redact
from device.model_store import slots
from device.models.words.transcriber import Transcriber
from device.settings import WordsEngine
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from research.fits.conditions import Sounds, at_the_door

CORPORA = ("an4", "so762", "so762_child")
PLACES = ("room", "babble", "ward")
LEAST_WORDS, MOST = 3, 2
NEAR = 3
THRESHOLD_LLR = 2.0
RIDGE, FOLDS = 0.001, 10

Array = npt.NDArray[np.float64]
Row = dict[str, Any]


def denoised(wave: Wave) -> Wave:
    """Each of 257 bands less twice its quietest tenth, at least a tenth of it: plain spectral subtraction."""
    size, hop = 512, 128
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    padded = np.pad(wave, size)
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window, axis=1)
    level = np.abs(spectra)
    floor = np.percentile(level, 10, axis=0)
    kept = np.maximum(0.1, 1.0 - 2.0 * floor / np.maximum(level, 1e-9))
    out, weight = np.zeros(len(padded)), np.full(len(padded), 1e-6)
    for at, block in enumerate(np.fft.irfft(spectra * kept, axis=1) * window):
        out[at * hop : at * hop + size] += block
        weight[at * hop : at * hop + size] += window**2
    return np.asarray((out / weight)[size : size + len(wave)], np.float32)


HEARINGS: Mapping[str, tuple[WordsEngine, Callable[[Wave], Wave]]] = {
    "tiny": (WordsEngine.ONNX, lambda wave: wave),
    "base": (WordsEngine.WHISPER_BASE, lambda wave: wave),
    "slower": (
        WordsEngine.ONNX,
        lambda wave: np.asarray(soxr.resample(wave, 16_000, 17_800), np.float32),
    ),
    "denoised": (WordsEngine.ONNX, denoised),
    "more silence": (WordsEngine.ONNX, lambda wave: np.pad(wave, (4_800, 40_000))),
}


def asked(recording: Recording, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(kind, phrase) of every trial, drawn by the recording's path."""
    said, dice = recording.text, random.Random(recording.path)
    yield "right", said
    words = said.lower().split()
    for _ in range(NEAR):
        while True:
            at = dice.randrange(len(words))
            changed = " ".join([*words[:at], another(words[at], dice), *words[at + 1 :]])
            if normalise(changed) != normalise(said):
                break
        yield "near", changed
    others = [text for text in texts if normalise(text) != normalise(said)]
    yield "wrong", min(others, key=lambda text: (abs(len(text.split()) - len(words)), dice.random()))


def heard(words: Transcriber, wave: Wave, phrases: Sequence[str]) -> list[Row]:
    """One row for each phrase: its LLR as at the door, its clues, and what was heard."""
    return [
        {
            "llr": max(words.llr(clues), words._among(wave, transcript, phrase)),
            "transcript": transcript,
            **asdict(clues),
        }
        for phrase, (clues, transcript) in zip(phrases, words.clues_of_many(wave, phrases), strict=True)
    ]


def spoken(recordings: Sequence[Recording], half: str) -> list[Recording]:
    """Up to MOST recordings of everybody of that half, in the order of their paths' hashes."""
    by: dict[str, list[Recording]] = defaultdict(list)
    for one in recordings:
        wanted = one.label == "bonafide" and one.folder in CORPORA and len(one.text.split()) >= LEAST_WORDS
        if wanted and fits(one.speaker) == (half == "fit"):
            by[one.speaker].append(one)
    chosen = [
        files[round(at)]
        for files in by.values()
        for at in np.linspace(0, len(files) - 1, min(MOST, len(files)))
    ]
    return sorted(chosen, key=lambda one: hashlib.sha256(one.path.encode()).digest())


@click.group()
def main() -> None:
    """Whether a second hearing of the same sound lets more right phrases in."""


@main.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--models", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--half", required=True, type=click.Choice(["fit", "judge"]))
@click.option("--hearing", "names", multiple=True, default=("tiny", "base"), type=click.Choice([*HEARINGS]))
@click.option("--keep", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--most", type=int, help="so many recordings at most")
def collect(
    manifest: Path, root: Path, models: Path, half: str, names: tuple[str, ...], keep: Path, most: int | None
) -> None:
    """One line for each sound and phrase; what is in KEEP is not heard again."""
    sounds, everything = Sounds.of(manifest, root), spoken(read_manifest(manifest, root), half)
    texts = {name: sorted({r.text for r in everything if r.folder == name}) for name in CORPORA}
    chosen = everything[:most]
    lines = [json.loads(row) for row in keep.read_text("utf-8").splitlines()] if keep.exists() else []
    known = {(one["path"], one["place"], one["hearing"]) for one in lines}
    bundle = slots.active(models)
    opened = {
        engine: Transcriber.open(bundle, threads=1, engine=engine)
        for engine in {HEARINGS[name][0] for name in names}
    }
    with keep.open("a", encoding="utf-8") as out:
        for recording in chosen:
            drawn = PLACES[hashlib.sha256(recording.path.encode()).digest()[0] % len(PLACES)]
            trials = list(asked(recording, texts[recording.folder]))
            for place in ("clean", drawn):
                left = [name for name in names if (recording.path, place, name) not in known]
                said = at_the_door(recording, place, sounds) if left else None
                for name in left if said else ():
                    engine, treated = HEARINGS[name]
                    found = heard(opened[engine], treated(said.wave()), [phrase for _, phrase in trials])
                    for at, ((kind, phrase), one) in enumerate(zip(trials, found, strict=True)):
                        row = {
                            "path": recording.path, "place": place, "hearing": name, "trial": at,
                            "kind": kind, "corpus": recording.folder, "speaker": recording.speaker,
                            "phrase": phrase, "snr_db": said.quality.snr_db, **one,
                        }  # fmt: skip
                        out.write(json.dumps(row) + "\n")
                out.flush()


@dataclass(frozen=True, slots=True)
class Trials:
    """One entry for each sound and phrase that every hearing judged."""

    kind: npt.NDArray[np.str_]
    corpus: npt.NDArray[np.str_]
    place: npt.NDArray[np.str_]
    speaker: npt.NDArray[np.str_]
    first: Array
    second: Array
    shared: Array
    """Agreement of what the second heard, redacted, with the phrase, in [0, 1]."""

    @classmethod
    def of(cls, files: Sequence[Path], second: str) -> Self:
        """`second` names the hearing after "tiny"."""
        by: dict[tuple[str, str, int], dict[str, Row]] = defaultdict(dict)
        for row in (json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()):
            by[row["path"], row["place"], row["trial"]][row["hearing"]] = row
        pairs = [(both["tiny"], both[second]) for both in by.values() if {"tiny", second} <= both.keys()]
        names = ("kind", "corpus", "place", "speaker")
        told = [np.array([first[name] for first, _ in pairs]) for name in names]
        shared = [agreement(redact(two["transcript"], two["phrase"]), two["phrase"]) for _, two in pairs]
        llrs = (np.array([pair[at]["llr"] for pair in pairs]) for at in (0, 1))
        return cls(*told, *llrs, np.array(shared))

    def weights(self) -> Array:
        """Equal priors for right and not; of the latter a fifth near misses, as the clues were weighed."""
        shares = {"right": 0.5, "near": 0.1, "wrong": 0.4}
        return np.array([shares[kind] / max(1, int((self.kind == kind).sum())) for kind in self.kind])

    def doubtful(self) -> npt.NDArray[np.bool_]:
        """Where both count: the first doubts, and the second heard some of the phrase."""
        asked = (self.first >= second_hearing.ASKED_ABOVE_LLR) & (self.first < second_hearing.ASKED_BELOW_LLR)
        return asked & (self.shared >= second_hearing.LEAST_AGREEMENT)


def fitted(trials: Trials, chosen: npt.NDArray[np.bool_]) -> Array:
    """(first, second, offset) of a logistic regression on the chosen doubtful trials.

    Trials weigh as they do among all of them, so that the result is an LLR like the first alone.
    """
    mask = trials.doubtful() & chosen
    x = np.c_[trials.first[mask], trials.second[mask], np.ones(int(mask.sum()))]
    y, w = (trials.kind[mask] == "right").astype(float), trials.weights()[mask]
    b, shrink = np.zeros(3), np.diag([RIDGE, RIDGE, 1e-9])
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ b, -50.0, 50.0)))
        curve = (x * (w * p * (1.0 - p))[:, None]).T @ x + shrink
        b = b - np.linalg.solve(curve, x.T @ (w * (p - y)) + shrink @ b)
    return np.asarray(b)


def table(name: str, trials: Trials, llr: Array) -> None:
    """Right phrases refused, and others accepted, at the lowest threshold."""
    cells = []
    for place in ("clean", "elsewhere"):
        here = (trials.place == "clean") == (place == "clean")
        right, near, wrong = (here & (trials.kind == kind) for kind in ("right", "near", "wrong"))
        cells.append(
            f"{place}: {int((llr[right] < THRESHOLD_LLR).sum())} of {int(right.sum())} right refused, "
            f"{int((llr[near] >= THRESHOLD_LLR).sum())} of {int(near.sum())} near and "
            f"{int((llr[wrong] >= THRESHOLD_LLR).sum())} of {int(wrong.sum())} others accepted"
        )
    click.echo(f"{name:34} {'; '.join(cells)}")


@main.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--models", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--sounds", "most", default=40, show_default=True)
@click.option("--texts", "each", default=40, show_default=True)
def others(manifest: Path, root: Path, models: Path, most: int, each: int) -> None:
    """Other texts of the corpus held against recordings of the judged half, as recorded: who gets in."""
    chosen = spoken(read_manifest(manifest, root), "judge")
    bundle = slots.active(models)
    first, second = (
        Transcriber.open(bundle, threads=1, engine=engine)
        for engine in (WordsEngine.ONNX, WordsEngine.WHISPER_BASE)
    )
    counts = dict.fromkeys(("asked", "accepted by the first", "heard twice", "accepted by both"), 0)
    for recording in chosen[:most]:
        dice = random.Random(recording.path)
        texts = sorted({one.text for one in chosen if one.folder == recording.folder})
        wrong = [text for text in texts if normalise(text) != normalise(recording.text)]
        wrong = dice.sample(wrong, min(each, len(wrong)))
        wave = load_utterance(root / recording.path).wave()
        scores = first.scores(wave, wrong)
        twice = [at for at, one in enumerate(scores) if second_hearing.asked(one.llr)]
        again = second.scores(wave, [wrong[at] for at in twice]) if twice else []
        both = [second_hearing.both(scores[at], one) for at, one in zip(twice, again, strict=True)]
        counts["asked"] += len(wrong)
        counts["accepted by the first"] += sum(one.llr >= THRESHOLD_LLR for one in scores)
        counts["heard twice"] += len(twice)
        counts["accepted by both"] += sum(one.llr >= THRESHOLD_LLR for one in both)
    click.echo(", ".join(f"{count} {name}" for name, count in counts.items()))


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--judge", "judged", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--second", default="base", type=click.Choice([*HEARINGS]))
def fit(files: tuple[Path, ...], judged: tuple[Path, ...], second: str) -> None:
    """Weights fitted with each tenth of the speakers left out, then all of them, held against JUDGED."""
    trials = Trials.of(files, second)
    names = sorted(set(trials.speaker))
    weights = fitted(trials, np.ones(len(trials.kind), bool))
    click.echo(f"{len(names)} speakers, {len(trials.kind)} trials, {int(trials.doubtful().sum())} doubtful")
    click.echo("FIRST, SECOND, OFFSET = " + ", ".join(f"{one:.3f}" for one in weights))
    left_out = trials.first.copy()
    for fold in range(FOLDS):
        mine = np.isin(trials.speaker, names[fold::FOLDS])
        b = fitted(trials, ~mine)
        hit = mine & trials.doubtful()
        left_out[hit] = b[0] * trials.first[hit] + b[1] * trials.second[hit] + b[2]
    table("first alone", trials, trials.first)
    table("second alone", trials, trials.second)
    table("second where the first doubts", trials, np.where(trials.doubtful(), trials.second, trials.first))
    table("both where the first doubts", trials, left_out)
    if judged:
        others = Trials.of(judged, second)
        llr = weights[0] * others.first + weights[1] * others.second + weights[2]
        click.echo(f"judged: {len(set(others.speaker))} speakers")
        table("first alone", others, others.first)
        table("second alone", others, others.second)
        table(
            "second where the first doubts", others, np.where(others.doubtful(), others.second, others.first)
        )
        table("both where the first doubts", others, np.where(others.doubtful(), llr, others.first))


if __name__ == "__main__":
    main()
