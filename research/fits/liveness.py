"""Fits the weights of the context checks on half of the speakers, judges them on the other half.

    python -m research.fits.liveness --manifest M.tsv --root DIR [--retakes DIR] [--write]

Reuse: every recording is looked up among all others, for the rate at which somebody new is taken for a
playback, and played through random loudspeakers and rooms, for the rate at which a playback is missed.
Consistency: the two halves of one recording, and of a splice of two people. `--write` puts the maps into
device/liveness/weights.toml.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

import device.liveness
from device.audio import QualityError, Utterance, load_utterance
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.liveness import Fingerprint, Fingerprinter, consistency
from device.liveness.search import Index, best_line
from device.settings import models_dir
from quantize.evaluate.checks.opened import open_speaker
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.figures.calibrate import Linear, fit, fits
from quantize.evaluate.figures.intervals import Share
from quantize.evaluate.figures.metrics import cllr
from quantize.evaluate.figures.named import PRODUCT_MODEL
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.playback import random_playback

WEIGHTS_FILE = Path(device.liveness.__file__).with_name("weights.toml")
SHORTEST_S = 1.2
PHRASE_S = 2.5
"""A phrase of five words takes about this long and longer."""
FIT_PRIOR = 0.5
SECRET = bytes(32)
"""Any secret: scores do not depend on it."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """One recording as the door would have it."""

    recording: Recording
    wave: Wave
    utterance: Utterance
    marks: Fingerprint


@dataclass(frozen=True, slots=True)
class Pool:
    """Scores of one kind of trial, with the speaker behind each."""

    scores: list[float]
    speakers: list[str]

    def add(self, score: float, one: Heard) -> None:
        self.scores.append(score)
        self.speakers.append(one.recording.unit)

    def half(self, fitting: bool) -> npt.NDArray[np.float64]:
        chosen = [s for s, who in zip(self.scores, self.speakers, strict=True) if fits(who) == fitting]
        return np.asarray(chosen, dtype=np.float64)


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--models", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--retakes",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=(
        "Prompts of one professional who says the same words in many of them, such as "
        "/usr/share/asterisk/sounds/en_US_f_Allison."
    ),
)
@click.option("--playbacks", default=400, show_default=True, type=click.IntRange(10, 100_000))
@click.option("--most", type=click.IntRange(20), help="At most this many recordings, evenly spread.")
@click.option("--write", is_flag=True, help="Put the maps into device/liveness/weights.toml.")
def main(
    manifest: Path,
    root: Path,
    models: Path | None,
    retakes: Path | None,
    playbacks: int,
    most: int | None,
    write: bool,
) -> None:
    """Fit the weights of the context checks and print their errors on speakers kept apart."""
    recordings = [
        r
        for r in read_manifest(manifest, root)
        if r.label == "bonafide" and r.folder in ("an4", "so762", "libri")
    ]
    if most is not None:
        recordings = recordings[:: max(1, len(recordings) // most)]
    rng = np.random.default_rng(7)
    with Bars() as bars:
        heard = load(root, recordings, bars)
        new, played = reuse(heard, rng, playbacks, bars)
        voice = open_speaker(PRODUCT_MODEL, models or models_dir(), Path())
        whole, spliced = constancy(heard, voice, rng, bars)
    reuse_map = _report("reuse", new, played, "new people", "playbacks")
    _repeats(heard, retakes, reuse_map)
    consistency_map = _report("consistency", whole, spliced, "one voice", "splices of two")
    if write:
        maps = {"reuse": reuse_map, "consistency": consistency_map}
        write_weights(WEIGHTS_FILE, maps, f"liveness-{datetime.now(UTC):%Y%m%d}")


def load(root: Path, recordings: Sequence[Recording], bars: Bars) -> list[Heard]:
    """Every recording that the door would judge and that is long enough to carry marks."""
    mark = Fingerprinter(SECRET)
    progress = bars.bar("marks", len(recordings))
    found = []
    for recording in recordings:
        progress()
        try:
            utterance = load_utterance(root / recording.path)
        except QualityError:
            continue
        if utterance.duration_s >= SHORTEST_S:
            wave = utterance.wave()
            found.append(Heard(recording, wave, utterance, mark(wave)))
    return found


def reuse(heard: Sequence[Heard], rng: np.random.Generator, playbacks: int, bars: Bars) -> tuple[Pool, Pool]:
    """(each recording among all others, playbacks of some among all)."""
    mark = Fingerprinter(SECRET)
    index = Index(sum(len(one.marks.stored) for one in heard))
    for number, one in enumerate(heard):
        index.add(number, one.marks.stored)
    new: list[float] = []
    progress = bars.bar("new", len(heard))
    for number, one in enumerate(heard):
        progress()
        new.append(index.search(one.marks, without=number).score)
    long = [one for one in heard if one.utterance.duration_s >= PHRASE_S]
    chosen = [long[i] for i in rng.integers(len(long), size=playbacks)]
    progress = bars.bar("playbacks", len(chosen))
    played: list[float] = []
    for one in chosen:
        progress()
        played.append(index.search(mark(random_playback(rng)(one.wave, rng))).score)
    return (
        Pool([-s for s in new], [one.recording.unit for one in heard]),
        Pool([-s for s in played], [one.recording.unit for one in chosen]),
    )


def constancy(
    heard: Sequence[Heard], voice: consistency.Embedder, rng: np.random.Generator, bars: Bars, most: int = 240
) -> tuple[Pool, Pool]:
    """(cosines of the halves of one recording, of splices of two people's)."""
    long = [one for one in heard if len(_speech(one)) >= 2 * consistency.MIN_HALF_S * SAMPLE_RATE_HZ]
    chosen = [long[i] for i in rng.permutation(len(long))[:most]]
    progress = bars.bar("halves", 2 * len(chosen))
    whole, spliced = Pool([], []), Pool([], [])
    for one, other in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        progress(), progress()
        speech = _speech(one)
        whole.add(consistency.score(voice, speech) or 0.0, one)
        if one.recording.unit != other.recording.unit:
            half = len(speech) // 2
            joined = np.concatenate([speech[:half], _speech(other)[-half:]])
            spliced.add(consistency.score(voice, joined) or 0.0, one)
    return whole, spliced


def _speech(one: Heard) -> Wave:
    first, last = (
        round(s * SAMPLE_RATE_HZ) for s in (one.utterance.speech_start_s, one.utterance.speech_end_s)
    )
    return one.wave[first:last]


def _report(name: str, good: Pool, bad: Pool, what_good: str, what_bad: str) -> Linear | None:
    """Fit on one half, print the error rates at LLR 0 on the other."""
    if min(len(pool.half(fitting)) for pool in (good, bad) for fitting in (True, False)) < 2:
        click.echo(f"{name}: too few {what_good} or {what_bad} in this manifest; weights left as they are")
        return None
    fitted = _fit(good.half(True), bad.half(True))
    person, attack = fitted.llr(good.half(False)), fitted.llr(bad.half(False))
    click.echo(
        f"{name}: llr = {float(fitted.weights[0]):.3f} * score + {fitted.offset:.3f}; speakers kept apart: "
        f"Cllr {cllr(person, attack):.2f} bit (1 says nothing), "
        f"{_share(person < 0)} of {what_good} below 0, {_share(attack >= 0)} of {what_bad} at 0 or above; "
        f"scores of {what_good} 50/1/0 %: {_quantiles(good.half(False), (50, 1, 0))}, "
        f"of {what_bad} 50/99/100 %: {_quantiles(bad.half(False), (50, 99, 100))}"
    )
    return fitted


def _fit(good: npt.NDArray[np.float64], bad: npt.NDArray[np.float64]) -> Linear:
    """Logistic regression. Without an overlap of scores its slope has no bound.

    So each side is then given one error, a trial at the other's edge (in the spirit of Platt 1999, 2.2).
    """
    if good.min() > bad.max():
        good, bad = np.append(good, bad.max()), np.append(bad, good.min())
    return fit(good, bad, FIT_PRIOR)


def _repeats(heard: Sequence[Heard], retakes: Path | None, fitted: Linear | None) -> None:
    """The same words again: by other people, and by one professional in many prompts."""
    by_text: dict[str, list[Heard]] = defaultdict(list)
    for one in heard:
        if one.recording.text:
            by_text[one.recording.text.casefold()].append(one)
    same_words = [(a, b) for group in by_text.values() for i, a in enumerate(group) for b in group[:i]]
    same = np.array([best_line(b.marks.stored, a.marks.asked).score for a, b in same_words])
    if len(same):
        click.echo(f"same words, {len(same_words)} pairs of people: {_highest(same, fitted)}")
    count = len(heard)
    click.echo(f"recordings {count}, each among all others: {count * (count - 1)} pairs")
    if retakes is None:
        return
    mark = Fingerprinter(SECRET)
    prompts: list[tuple[str, Fingerprint]] = []
    for path in sorted(retakes.glob("*.wav")):
        try:
            utterance = load_utterance(path)
        except QualityError:
            continue
        if utterance.duration_s >= SHORTEST_S:
            prompts.append((path.stem, mark(utterance.wave())))
    index = Index(sum(len(marks.stored) for _, marks in prompts))
    for number, (_, marks) in enumerate(prompts):
        index.add(number, marks.stored)
    found = np.array([index.search(marks, without=n).score for n, (_, marks) in enumerate(prompts)])
    pairs_of_prompts = len(prompts) * (len(prompts) - 1)
    click.echo(
        f"one professional, {len(prompts)} prompts ({pairs_of_prompts} pairs): {_highest(found, fitted)}"
    )
    for n in np.argsort(-found)[:8]:
        click.echo(f"  {prompts[n][0]}: {found[n]:.2f}")


def _highest(scores: npt.NDArray[np.float64], fitted: Linear | None) -> str:
    below = "" if fitted is None else f", {_share(fitted.llr(-scores) < 0)} below LLR 0"
    return f"highest {scores.max():.2f}, 99 % {np.quantile(scores, 0.99):.2f}{below}"


def _share(hits: npt.NDArray[np.bool_]) -> str:
    return f"{int(hits.sum())} of {len(hits)}, {Share(int(hits.sum()), len(hits))}"


def _quantiles(scores: npt.NDArray[np.float64], at: tuple[int, ...]) -> str:
    return " / ".join(f"{value:.2f}" for value in np.percentile(scores, at))


def write_weights(path: Path, maps: dict[str, Linear | None], version: str) -> None:
    """Replace the numbers of the maps that were fitted; every other line stays."""
    section = ""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line[1 : line.index("]")]
        fitted = maps.get(section)
        if line.startswith("version"):
            line = f'version = "{version}"'
        elif fitted is not None and line.startswith("scale"):
            line = f"scale = {float(fitted.weights[0]):.4f}"
        elif fitted is not None and line.startswith("offset"):
            line = f"offset = {fitted.offset:.4f}"
        lines.append(line)
    path.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
