"""Does a pasted answer open? Splices of the manifest's speakers beside the same people speaking.

Only speakers on whom nothing was fitted (`calibrate.fits`) are spliced and heard. Words and voice are taken
as passed: the pieces are the person's own. What is left is the live check, and its evidence for joins.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from device.access.policy import Thresholds
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.evidence.judge import SpoofCheck
from device.liveness.joins import JoinNetworks, shipped_network
from device.liveness.weights import Weights, shipped
from quantize.evaluate.checks.phrase import Rate, rate
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.figures.detection import Detection, Trials, measure
from quantize.evaluate.figures.metrics import Costs
from quantize.evaluate.recordings.borders import Aligner
from quantize.evaluate.recordings.manifest import NOISE, Recording
from quantize.evaluate.recordings.sound import read_wave
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
from quantize.playback import Loudspeaker, Playback, Room, coded, pink, rms
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
    """Of the splices of one way and style, how many passed."""

    people: int
    live_alone: Rate
    """One rendition, by the live check without the evidence for joins."""
    first: Rate
    """One rendition, by both, where no second phrase is asked."""
    at_once: Rate
    """One rendition, where a second phrase is asked in doubt, without one."""
    one: Rate
    """The same at once or with a second phrase, answered by the next rendition."""
    best: Rate
    """At least one of RENDITIONS different challenges answered, each with a second phrase where asked."""


@dataclass(frozen=True, slots=True)
class SplicesResult:
    """By way and style ("faded, digits"), by way, and "all"."""

    version: str
    threshold_llr: float
    live_threshold_llr: float
    cells: dict[str, Cell]
    people: dict[str, Rate]
    """By condition: people whom the evidence for joins refuses, where no second phrase is asked."""
    people_asked: dict[str, Rate]
    """People of whom a second phrase is asked in doubt ..."""
    people_refused: dict[str, Rate]
    """... and who are refused at once, or with the second, another recording of theirs."""
    pieces: dict[str, Rate]
    """One rendition that passes both, where some piece was pasted twice and where none was; also by style."""
    joins: dict[str, Detection] = field(default_factory=dict)
    """By way: people as recorded and in every condition against the splices, by the evidence for joins."""
    without_borders: bool = False
    """No aligner was installed, so only the ways that cut by energy were measured."""


@dataclass(frozen=True, slots=True)
class _Bars:
    """LLRs: live; joins, below which is refused; joins, from which nobody doubts."""

    live_llr: float
    joins_llr: float
    clear_llr: float

    @classmethod
    def of(cls, limits: Thresholds) -> _Bars:
        return cls(limits.live_llr, limits.joins_llr or 0.0, limits.beside("joins_llr") or 0.0)

    def first(self, one: _Heard) -> bool:
        return one.live_llr >= self.live_llr and one.joins_llr >= self.joins_llr

    def clear(self, one: _Heard) -> bool:
        return one.live_llr >= self.live_llr and one.joins_llr >= self.clear_llr

    def opens(self, one: _Heard, second: _Heard) -> bool:
        return self.clear(one) or (self.first(one) and self.first(second))


@dataclass(frozen=True, slots=True)
class _Heard:
    person: str
    live_llr: float
    joins_llr: float
    twice: bool = False
    second_llr: float = math.inf
    """Of a person in doubt: the joins' LLR of another recording of theirs."""


_Tried: TypeAlias = Mapping[str, Sequence[tuple[_Heard, bool]]]
"""By person: renditions, and whether each opened."""


def evaluate_splices(
    recordings: Sequence[Recording],
    root: Path,
    live: SpoofCheck,
    thresholds: Thresholds,
    bar: Callable[[str, int], Callable[[], None]],
    replicates: int = 300,
    kept: Path | None = None,
) -> SplicesResult | None:
    """All figures on splices; None when no speaker has enough recordings.

    `thresholds` are those of a door that asks for a second phrase in doubt; `kept` is a file for word
    borders, which take a minute to find.
    """
    network, weights = shipped_network(), shipped()
    sources = read_sources(recordings, root, Aligner.open(), bar, kept)
    noises = [read_wave(root / one.path) for one in recordings if one.label == NOISE]
    drawn = list(renditions(sources))
    if not drawn:
        return None
    progress = bar("splices", len(drawn))
    spliced: dict[str, list[_Heard]] = defaultdict(list)
    for name, person, splice in drawn:
        spliced[name].append(_hear(person, splice, live, network, weights))
        progress()
    bars = _Bars.of(thresholds)
    people = {}
    for condition in CONDITIONS:
        people[condition] = [
            _person(person, wave, again, bars, network, weights)
            for person, wave, again in heard(sources, condition, noises)
        ]
    return _measured(spliced, people, bars, replicates, weights.version, sources)


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
        wave = read_wave(root / one.path)
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
) -> Iterator[tuple[str, Wave, Callable[[], Wave]]]:
    """(person, what the door hears of one of their recordings, what it hears of the next one: the same
    once more where there is no other), in a condition."""
    every = [(person, at) for person, theirs in sorted(sources.items()) for at in range(len(theirs))]
    for number, (person, at) in enumerate(every[:: max(1, -(-len(every) // MOST_HEARD))]):
        seed = [number, CONDITIONS.index(condition)]
        theirs = sources[person]
        following = theirs[(at + 1) % len(theirs)].wave
        again = partial(rendered, following, condition, noises, np.random.default_rng([*seed, 2]))
        yield person, rendered(theirs[at].wave, condition, noises, np.random.default_rng(seed)), again


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


def _person(
    person: str,
    wave: Wave,
    again: Callable[[], Wave],
    bars: _Bars,
    network: JoinNetworks,
    weights: Weights,
) -> _Heard:
    llr = weights.joins.llr(network(wave).score)
    if not bars.joins_llr <= llr < bars.clear_llr:
        return _Heard(person, math.inf, llr)
    return _Heard(person, math.inf, llr, second_llr=weights.joins.llr(network(again()).score))


def _hear(person: str, splice: Splice, live: SpoofCheck, network: JoinNetworks, weights: Weights) -> _Heard:
    wave = splice.wave
    long_enough = wave if len(wave) >= SAMPLE_RATE_HZ else np.resize(wave, SAMPLE_RATE_HZ)
    return _Heard(
        person, live.evidence(long_enough).llr, weights.joins.llr(network(wave).score), splice.twice
    )


def _measured(
    spliced: Mapping[str, Sequence[_Heard]],
    people: Mapping[str, Sequence[_Heard]],
    bars: _Bars,
    replicates: int,
    version: str,
    sources: Mapping[str, Sequence[Source]],
) -> SplicesResult:
    groups: dict[str, list[tuple[_Heard, bool]]] = defaultdict(list)
    for name, found in spliced.items():
        answered = _answered(found, bars)
        for group in (name, name.partition(",")[0], "all"):
            groups[group].extend(answered)
    cells = {}
    for name, tried in groups.items():
        together: dict[str, list[tuple[_Heard, bool]]] = defaultdict(list)
        for one in tried:
            together[one[0].person].append(one)
        persons = list(together)

        best = [_any_rendition([opened for _, opened in together[person]]) for person in persons]
        cells[name] = Cell(
            len(persons),
            _share(together, replicates, lambda h, _: h.live_llr >= bars.live_llr),
            _share(together, replicates, lambda h, _: bars.first(h)),
            _share(together, replicates, lambda h, _: bars.clear(h)),
            _share(together, replicates, lambda _, opened: opened),
            rate(persons, best, replicates),
        )
    pieces = {}
    for twice, what in ((True, TWICE), (False, ONCE)):
        for style in ("", *STYLES):
            some = [
                one
                for name, found in spliced.items()
                if name.endswith(style)
                for one in _answered(found, bars)
                if one[0].twice is twice
            ]
            if some:
                pieces[f"{what}, {style}" if style else what] = rate(
                    [h.person for h, _ in some], [[opened] for _, opened in some], replicates
                )

    def of_people(what: Callable[[_Heard], bool]) -> dict[str, Rate]:
        return {
            condition: rate([h.person for h in found], [[what(h)] for h in found], replicates)
            for condition, found in people.items()
        }

    everybody = [one for found in people.values() for one in found]
    return SplicesResult(
        version,
        bars.joins_llr,
        bars.live_llr,
        cells,
        of_people(lambda h: not bars.first(h)),
        of_people(lambda h: bars.first(h) and not bars.clear(h)),
        of_people(lambda h: not bars.first(h) or (not bars.clear(h) and h.second_llr < bars.joins_llr)),
        pieces,
        {
            way: measure(
                _trials(everybody, [h for h, _ in tried]),
                COSTS,
                bars.joins_llr,
                replicates=min(replicates, 100),
            )
            for way, tried in groups.items()
            if "," not in way
        },
        not any(source.words for theirs in sources.values() for source in theirs),
    )


def _share(tried: _Tried, replicates: int, passes: Callable[[_Heard, bool], bool]) -> Rate:
    return rate(list(tried), [[passes(*one) for one in theirs] for theirs in tried.values()], replicates)


def _answered(found: Sequence[_Heard], bars: _Bars) -> list[tuple[_Heard, bool]]:
    """Each rendition, and whether it opened: the next one of the same person answers a second phrase."""
    theirs: dict[str, list[_Heard]] = defaultdict(list)
    for one in found:
        theirs[one.person].append(one)
    return [
        (one, bars.opens(one, several[(at + 1) % len(several)]))
        for several in theirs.values()
        for at, one in enumerate(several)
    ]


def _any_rendition(passed: Sequence[bool]) -> list[bool]:
    """For each RENDITIONS in a row, whether one of them passed."""
    return [any(passed[at : at + RENDITIONS]) for at in range(0, len(passed), RENDITIONS)]


def _trials(people: Sequence[_Heard], spliced: Sequence[_Heard]) -> Trials:
    return Trials(
        targets=np.array([one.joins_llr for one in people]),
        nontargets=np.array([one.joins_llr for one in spliced]),
        target_units=[(one.person,) for one in people],
        nontarget_units=[(one.person,) for one in spliced],
    )
