"""Does a pasted answer open? Splices of the manifest's speakers beside the same people speaking.

Only speakers on whom nothing was fitted (`calibrate.fits`) are spliced and heard. Words and voice are taken
as passed: the pieces are the person's own. What is left is the live check, and its evidence for joins.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from device.audio import AudioSettings
from device.audio.recording import read_recording
from device.audio.utterance import SAMPLE_RATE_HZ
from device.evidence.judge import SpoofCheck
from device.liveness.joins import JoinNetwork, shipped_network
from device.liveness.weights import Weights, shipped
from quantize.evaluate.checks.phrase import Rate, rate
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.figures.detection import Detection, Trials, measure
from quantize.evaluate.figures.metrics import Costs
from quantize.evaluate.recordings.borders import Aligner
from quantize.evaluate.recordings.manifest import NOISE, Recording
from quantize.evaluate.recordings.splicing import (
    STYLES,
    WAYS,
    Source,
    Splice,
    able_people,
    draw,
    levelled,
    with_pauses,
)
from quantize.playback import Loudspeaker, Playback, Room, Wave, coded, pink, rms
from sync.plain_file import LARGE_BYTES, plain_text

COSTS = Costs(target_prior=0.95, miss=1.0, false_accept=10.0)
"""As for other attacks: one attempt in twenty, an opening costs ten refusals."""
RENDITIONS = 7
MOST_DRAWS = 4 * RENDITIONS
MOST_PEOPLE = 12
"""In each way and style, evenly spread over those whose recordings allow it."""
MOST_HEARD = 120
"""Recordings of people in each condition."""
CLEAN = "as recorded"
CONDITIONS = (
    *(CLEAN, "noise, 20 dB", "noise, 12 dB", "room, 0.3 s", "room, 0.8 s", "with pauses"),
    *("coded, MP3", "coded, Opus"),
)
TWICE, ONCE = "a piece pasted twice", "every piece once"
_FLAT = Loudspeaker(50.0, 7_900.0, 1, (), 0.05)
"""A mouth: what a room hears without a loudspeaker."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of the splices of one way and style."""

    people: int
    live_alone: Rate
    """One rendition, by the live check without the evidence for joins."""
    one: Rate
    """One rendition, by both."""
    best: Rate
    """At least one of RENDITIONS different challenges answered."""


@dataclass(frozen=True, slots=True)
class SplicesResult:
    """By way and style ("faded, digits"), by way, and "all"."""

    version: str
    threshold_llr: float
    live_threshold_llr: float
    cells: dict[str, Cell]
    people: dict[str, Rate]
    """By condition: people whom the evidence for joins refuses."""
    pieces: dict[str, Rate]
    """One rendition that passes both, where some piece was pasted twice and where none was; also by style."""
    joins: dict[str, Detection] = field(default_factory=dict)
    """By way: people as recorded and in every condition against the splices, by the evidence for joins."""
    without_borders: bool = False
    """No aligner was installed, so only the ways that cut by energy were measured."""


@dataclass(frozen=True, slots=True)
class _Heard:
    person: str
    live_llr: float
    joins_llr: float
    twice: bool = False


def evaluate_splices(
    recordings: Sequence[Recording],
    root: Path,
    live: SpoofCheck,
    thresholds: tuple[float, float],
    bar: Callable[[str, int], Callable[[], None]],
    replicates: int = 300,
    kept: Path | None = None,
) -> SplicesResult | None:
    """Everything about splices; None when no speaker has enough recordings.

    `thresholds` are the door's for liveness and for joins; `kept` is a file for word borders, which take a
    minute to find.
    """
    network, weights = shipped_network(), shipped()
    sources = read_sources(recordings, root, Aligner.open(), bar, kept)
    noises = [_read(root, one) for one in recordings if one.label == NOISE]
    drawn = list(renditions(sources))
    if not drawn:
        return None
    progress = bar("splices", len(drawn))
    spliced: dict[str, list[_Heard]] = defaultdict(list)
    for name, person, splice in drawn:
        spliced[name].append(_hear(person, splice, live, network, weights))
        progress()
    people = {
        condition: [
            _Heard(person, 0.0, weights.joins.llr(network(wave).score))
            for person, wave in heard(sources, condition, noises)
        ]
        for condition in CONDITIONS
    }
    return _measured(spliced, people, thresholds, replicates, weights.version, sources)


def read_sources(
    recordings: Sequence[Recording],
    root: Path,
    aligner: Aligner | None,
    bar: Callable[[str, int], Callable[[], None]],
    kept: Path | None = None,
) -> dict[str, list[Source]]:
    """The bona fide recordings of speakers on whom nothing was fitted, with the borders of their words."""
    chosen = [r for r in recordings if r.label == "bonafide" and r.speaker and not fits(r.speaker)]
    known = json.loads(plain_text(kept, LARGE_BYTES)) if kept is not None and kept.is_file() else {}
    progress = bar("word borders", len(chosen))
    found: dict[str, list[Source]] = defaultdict(list)
    for one in chosen:
        wave = _read(root, one)
        if one.path not in known:
            known[one.path] = aligner.borders(wave, one.text) if aligner and one.text else ()
        words = tuple((str(word), float(start), float(end)) for word, start, end in known[one.path])
        found[one.speaker].append(Source(one.path, wave, words))
        progress()
    if kept is not None and aligner is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(known) + "\n", "utf-8")
    return dict(found)


def renditions(sources: Mapping[str, Sequence[Source]]) -> Iterator[tuple[str, str, Splice]]:
    """("way, style", person, splice): RENDITIONS for each of up to MOST_PEOPLE people in each."""
    for way in WAYS:
        for style in STYLES:
            able = [one for one in able_people(sources, way, style) if len(sources[one]) > 1]
            for person in able[:: max(1, -(-len(able) // MOST_PEOPLE))]:
                seed = [ord(letter) for letter in f"{way} {style} {person}"]
                dice = np.random.default_rng(seed)
                drawn = (draw(sources[person], way, style, dice) for _ in range(MOST_DRAWS))
                for splice in islice((one for one in drawn if one is not None), RENDITIONS):
                    yield f"{way}, {style}", person, splice


def heard(
    sources: Mapping[str, Sequence[Source]], condition: str, noises: Sequence[Wave]
) -> Iterator[tuple[str, Wave]]:
    """(person, what the door hears of one of their recordings) in a condition."""
    every = [(person, source) for person, theirs in sorted(sources.items()) for source in theirs]
    for number, (person, source) in enumerate(every[:: max(1, -(-len(every) // MOST_HEARD))]):
        dice = np.random.default_rng([number, CONDITIONS.index(condition)])
        yield person, rendered(source.wave, condition, noises, dice)


def rendered(wave: Wave, condition: str, noises: Sequence[Wave], dice: np.random.Generator) -> Wave:
    """`wave` in one of CONDITIONS."""
    kind, _, amount = condition.partition(", ")
    if kind == "with pauses":
        wave = with_pauses(wave, dice)
    elif kind == "room":
        room = Room(float(amount.removesuffix(" s")), float(dice.uniform(0.0, 8.0)))
        wave = Playback(_FLAT, room, 35.0)(wave, dice)
    elif kind == "coded":
        wave = coded(wave, amount)
    elif kind == "noise":
        noise = pink(len(wave), dice)
        if noises:
            recorded = noises[int(dice.integers(len(noises)))]
            noise = np.take(recorded, np.arange(len(wave)) + dice.integers(len(recorded)), mode="wrap")
        below = 10.0 ** (-float(amount.removesuffix(" dB")) / 20.0)
        wave = wave + noise * np.float32(rms(wave) / max(rms(noise), 1e-9) * below)
    return levelled(wave)


def _hear(person: str, splice: Splice, live: SpoofCheck, network: JoinNetwork, weights: Weights) -> _Heard:
    wave = splice.wave
    long_enough = wave if len(wave) >= SAMPLE_RATE_HZ else np.resize(wave, SAMPLE_RATE_HZ)
    return _Heard(
        person, live.evidence(long_enough).llr, weights.joins.llr(network(wave).score), splice.twice
    )


def _measured(
    spliced: Mapping[str, Sequence[_Heard]],
    people: Mapping[str, Sequence[_Heard]],
    thresholds: tuple[float, float],
    replicates: int,
    version: str,
    sources: Mapping[str, Sequence[Source]],
) -> SplicesResult:
    live_llr, joins_llr = thresholds
    groups: dict[str, list[_Heard]] = defaultdict(list)
    cells = {}
    for name, found in spliced.items():
        for group in (name, name.partition(",")[0], "all"):
            groups[group].extend(found)
    for name, found in groups.items():
        together: dict[str, list[_Heard]] = defaultdict(list)
        for one in found:
            together[one.person].append(one)
        persons = list(together)
        passed = [[h.live_llr >= live_llr and h.joins_llr >= joins_llr for h in together[p]] for p in persons]
        cells[name] = Cell(
            len(persons),
            rate(persons, [[h.live_llr >= live_llr for h in together[p]] for p in persons], replicates),
            rate(persons, passed, replicates),
            rate(persons, [_sevens(each) for each in passed], replicates),
        )
    pieces = {}
    for twice, what in ((True, TWICE), (False, ONCE)):
        for style in ("", *STYLES):
            some = [
                h
                for name, found in spliced.items()
                if name.endswith(style)
                for h in found
                if h.twice is twice
            ]
            passed = [[h.live_llr >= live_llr and h.joins_llr >= joins_llr] for h in some]
            if some:
                pieces[f"{what}, {style}" if style else what] = rate(
                    [h.person for h in some], passed, replicates
                )
    everybody = [one for found in people.values() for one in found]
    return SplicesResult(
        version,
        joins_llr,
        live_llr,
        cells,
        {
            condition: rate([h.person for h in found], [[h.joins_llr < joins_llr] for h in found], replicates)
            for condition, found in people.items()
        },
        pieces,
        {
            way: measure(_trials(everybody, found), COSTS, joins_llr, replicates=min(replicates, 100))
            for way, found in groups.items()
            if "," not in way
        },
        not any(source.words for theirs in sources.values() for source in theirs),
    )


def _sevens(passed: Sequence[bool]) -> list[bool]:
    """For every RENDITIONS in a row, whether any of them passed."""
    return [any(passed[at : at + RENDITIONS]) for at in range(0, len(passed), RENDITIONS)]


def _trials(people: Sequence[_Heard], spliced: Sequence[_Heard]) -> Trials:
    return Trials(
        targets=np.array([one.joins_llr for one in people]),
        nontargets=np.array([one.joins_llr for one in spliced]),
        target_units=[(one.person,) for one in people],
        nontarget_units=[(one.person,) for one in spliced],
    )


def _read(root: Path, recording: Recording) -> Wave:
    samples = read_recording(root / recording.path, AudioSettings().file)
    return samples.astype(np.float32) / np.float32(32768.0)
