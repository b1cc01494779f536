"""How far `ostiary inspect` may be believed: 200 recordings of people on whom nothing was fitted.

    python -m quantize.evaluate.splices.inspection --manifest M.tsv --root DIR --out DIR

A quarter each: people as recorded, synthesis and conversion, splices, and people and splices through a codec.
How well the ratios hold (Cllr, reliability), and whether the joins are found where they are.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import soundfile

from device.audio import AudioSettings
from device.audio.recording import read_recording
from device.inspection.findings import APART_S, MARK_LOGIT, peaks
from device.liveness.joins import shipped_network
from device.liveness.weights import shipped
from device.settings import models_dir
from quantize.evaluate.checks.opened import open_spoof
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.figures import plots
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.figures.detection import Detection, Trials, measure
from quantize.evaluate.recordings.borders import Aligner
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.evaluate.recordings.splicing import STYLES, WAYS, Splice, draw
from quantize.evaluate.splices.measure import COSTS, read_sources
from quantize.playback import Wave

EACH = 50
SHORTEST_S = 1.2
PEOPLE, MADE, SPLICED, CODED = "people", "synthetic", "spliced", "re-encoded"
CODECS = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"))
BARS = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
"""Logits at which marks are counted, for the curve."""


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """One recording and what is true of it."""

    kind: str
    unit: str
    wave: Wave
    made: bool
    joins_s: tuple[float, ...] | None
    """None where nothing is joined."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What becomes of joins at one bar."""

    bar: float
    found: int
    joins: int
    false_a_minute: float
    """Marks further than APART_S from any join, in all recordings."""
    false_share: float
    """Of the marks."""


@dataclass(frozen=True, slots=True)
class Held:
    """How the findings held."""

    files: dict[str, int]
    live: Detection
    joins: Detection
    marks: list[Marks]


def files(recordings: Sequence[Recording], root: Path, bars: Bars, kept: Path) -> Iterator[File]:
    """The 200, the same every time."""
    sources = read_sources(recordings, root, Aligner.open(), bars.bar, kept)
    dice = np.random.default_rng(11)
    every = [(name, source) for name, theirs in sorted(sources.items()) for source in theirs]
    people = [(name, source) for name, source in every if len(source.wave) >= SHORTEST_S * 16_000]
    plain = [people[at] for at in dice.permutation(len(people))[: EACH + EACH // 2]]
    splices = list(_splices(sources, dice, EACH + EACH // 2))
    for number, (name, source) in enumerate(plain):
        coded = number >= EACH
        wave = _coded(source.wave, number) if coded else source.wave
        yield File(CODED if coded else PEOPLE, name, wave, False, None)
    for number, (name, splice) in enumerate(splices):
        coded = number >= EACH
        wave = _coded(splice.wave, number) if coded else splice.wave
        yield File(CODED if coded else SPLICED, name, wave, False, splice.joins_s)
    machines = [one for one in recordings if one.label == "spoof" and not fits(one.system)]
    heard = 0
    for at in dice.permutation(len(machines)):
        one = machines[at]
        samples = read_recording(root / one.path, AudioSettings().file)
        if len(samples) < SHORTEST_S * 16_000 or heard == EACH:
            continue
        heard += 1
        yield File(MADE, one.system, samples.astype(np.float32) / np.float32(32768.0), True, None)


def _splices(sources: dict, dice: np.random.Generator, count: int) -> Iterator[tuple[str, Splice]]:  # type: ignore[type-arg]
    able = [name for name, theirs in sorted(sources.items()) if len(theirs) > 1]
    done = 0
    for turn in range(50 * count):
        name = able[int(dice.integers(len(able)))]
        splice = draw(sources[name], WAYS[turn % len(WAYS)], STYLES[int(dice.integers(len(STYLES)))], dice)
        if splice is not None:
            yield name, splice
            done += 1
        if done == count:
            return


def _coded(wave: Wave, number: int) -> Wave:
    container, codec = CODECS[number % len(CODECS)]
    stream = io.BytesIO()
    soundfile.write(stream, wave, 16_000, format=container, subtype=codec)
    stream.seek(0)
    again: Wave = soundfile.read(stream, dtype="float32")[0]
    return again


def judge(every: Sequence[File], progress: Callable[[], None]) -> Held:
    """Score each file by the door's live check and the evidence for joins."""
    live, network, weights = open_spoof(models_dir()), shipped_network(), shipped()
    llrs, joined, frames = [], [], []
    for one in every:
        heard = network(one.wave)
        llrs.append(live.evidence(one.wave).llr)
        joined.append(weights.joins.llr(heard.score))
        frames.append(heard.frames)
        progress()
    counts: dict[str, int] = {}
    for one in every:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    genuine = [n for n, one in enumerate(every) if not one.made and one.joins_s is None]
    return Held(
        counts,
        _measured(every, llrs, genuine, [n for n, one in enumerate(every) if one.made]),
        _measured(every, joined, genuine, [n for n, one in enumerate(every) if one.joins_s is not None]),
        [_marks(every, frames, bar) for bar in sorted({*BARS, MARK_LOGIT})],
    )


def _measured(
    every: Sequence[File], llrs: Sequence[float], targets: Sequence[int], others: Sequence[int]
) -> Detection:
    return measure(
        Trials(
            np.array([llrs[n] for n in targets]),
            np.array([llrs[n] for n in others]),
            [(every[n].unit,) for n in targets],
            [(every[n].unit,) for n in others],
        ),
        COSTS,
        0.0,
    )


def _marks(every: Sequence[File], frames: Sequence[np.ndarray], bar: float) -> Marks:  # type: ignore[type-arg]
    found = joins = false = marks = 0
    seconds = 0.0
    for one, logits in zip(every, frames, strict=True):
        places = [at for at, _ in peaks(logits, bar)]
        true = one.joins_s or ()
        found += sum(any(abs(at - place) <= APART_S for place in places) for at in true)
        joins += len(true)
        false += sum(all(abs(at - place) > APART_S for at in true) for place in places)
        marks += len(places)
        seconds += len(one.wave) / 16_000
    return Marks(bar, found, joins, false / seconds * 60.0, false / max(1, marks))


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(manifest: Path, root: Path, out: Path) -> None:
    """Write inspection.json and two reliability plots."""
    with Bars() as bars:
        every = list(files(read_manifest(manifest, root), root, bars, out / "word-borders.json"))
        held = judge(every, bars.bar("inspected", len(every)))
    out.mkdir(parents=True, exist_ok=True)
    (out / "inspection.json").write_text(json.dumps(dataclasses.asdict(held), indent=1) + "\n", "utf-8")
    picture = plots.calibration_plot({"live": held.live, "joins": held.joins})
    (out / "inspection.svg").write_text(picture, "utf-8")
    click.echo(f"{held.files}")
    for name, found in (("live", held.live), ("joins", held.joins)):
        figures = {key: found.figures[key] for key in ("cllr", "min_cllr", "eer", "frr", "far")}
        click.echo(
            f"{name:<6}"
            + ", ".join(f"{key} {f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for key, f in figures.items())
        )
    for one in held.marks:
        click.echo(
            f"logit {one.bar:g}: {one.found} of {one.joins} joins within {APART_S:g} s, "
            f"{one.false_a_minute:.2f} false marks a minute, {one.false_share:.1%} of the marks"
        )


if __name__ == "__main__":
    main()
