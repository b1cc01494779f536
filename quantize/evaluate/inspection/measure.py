"""Do the ratios of `ostiary inspect` hold, and does it mark the joins where they are?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.evidence.judge import SpoofCheck
from device.inspection.findings import least_live
from device.inspection.places import APART_S, MARK_LLR, shipped_edits
from quantize.evaluate.checks.phrase import Rate, rate
from quantize.evaluate.figures.detection import Detection, Trials, measure
from quantize.evaluate.figures.intervals import Estimate
from quantize.evaluate.inspection.files import EACH, File, files, whole
from quantize.evaluate.recordings.borders import Aligner
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.splices.measure import COSTS, read_sources

GOALS = {"found": 0.9, "false_a_minute": 0.05}
"""Of joins, within APART_S; "5 % false marks per minute" is read as one false mark in twenty minutes."""
CURVE = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
"""LLRs from which marks are counted, beside the one in use."""

Place = tuple[float, float]
"""(second, LLR) of a mark."""
Bar = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Marks:
    """What becomes of joins where marks need `llr`."""

    llr: float
    found: Rate
    """Of all joins: a mark within APART_S."""
    false_a_minute: Estimate
    """Marks further than APART_S from anything that was edited, in all of the recordings."""
    false_share: float
    """Of the marks."""
    in_people: Estimate
    """False marks a minute in every recording of these people as it is."""


@dataclass(frozen=True, slots=True)
class InspectionResult:
    """How the findings held."""

    versions: tuple[str, ...]
    files: dict[str, int]
    minutes: float
    """Of the recordings by kind together."""
    people: int
    people_minutes: float
    """Of every recording of these people as it is."""
    live: Detection
    """People against synthesis that was never heard."""
    joins: Detection
    """Recordings of people as they are against edited ones."""
    in_use: Marks
    curve: tuple[Marks, ...]
    by_edit: dict[str, Rate]
    """Joins found at the ratio in use, by what was done."""
    joins_by_edit: dict[str, float]
    """Median LLR of one go, of recordings so edited."""
    without_borders: bool


def evaluate_inspection(
    recordings: Sequence[Recording],
    root: Path,
    live: SpoofCheck,
    bar: Bar,
    replicates: int = 300,
    kept: Path | None = None,
) -> InspectionResult | None:
    """All figures; None where nobody can be edited or there is no synthesis. `kept` is a file for word
    borders."""
    sources = read_sources(recordings, root, Aligner.open(), bar, kept)
    every = list(files(recordings, sources, root, EACH))
    if not any(one.made for one in every) or not any(one.edit for one in every):
        return None
    edits = shipped_edits()
    step = bar("inspected", len(every))
    llrs, joined, found = [], [], []
    for one in every:
        heard = edits(one.wave)
        llrs.append(edits.weights.live.llr(least_live(one.wave, live)))
        joined.append(heard.one_go_llr)
        found.append(heard.places)
        step()
    people = list(whole(sources))
    step = bar("marks in people", len(people))
    theirs = []
    for one in people:
        theirs.append(edits(one.wave).places)
        step()
    versions = (live.version, edits.weights.version)
    borders = any(source.words for some in sources.values() for source in some)
    return measured(every, llrs, joined, found, people, theirs, replicates, versions, not borders)


def measured(
    every: Sequence[File],
    llrs: Sequence[float],
    joined: Sequence[float],
    found: Sequence[Sequence[Place]],
    people: Sequence[File],
    theirs: Sequence[Sequence[Place]],
    replicates: int,
    versions: tuple[str, ...],
    without_borders: bool = False,
) -> InspectionResult:
    """From LLRs of a live person and of one go, and marks, of each file, and marks in whole recordings."""
    genuine = [n for n, one in enumerate(every) if not one.made and not one.edit]
    made = [n for n, one in enumerate(every) if one.made]
    edited = [n for n, one in enumerate(every) if one.edit]

    def against(ratios: Sequence[float], others: Sequence[int]) -> Detection:
        return measure(
            Trials(
                np.array([ratios[n] for n in genuine]),
                np.array([ratios[n] for n in others]),
                [(every[n].unit,) for n in genuine],
                [(every[n].unit,) for n in others],
            ),
            COSTS,
            0.0,
            replicates=replicates,
        )

    def marks(llr: float) -> Marks:
        joins = [(every[n].unit, _found(every[n], found[n], llr)) for n in edited]
        counts = [_counted(one, places, llr) for one, places in zip(every, found, strict=True)]
        alone = [_counted(one, places, llr) for one, places in zip(people, theirs, strict=True)]
        total = sum(all_marks for _, all_marks in counts)
        return Marks(
            llr,
            rate([unit for unit, _ in joins], [hits for _, hits in joins], replicates),
            _a_minute(every, [false for false, _ in counts], replicates),
            sum(false for false, _ in counts) / max(1, total),
            _a_minute(people, [false for false, _ in alone], replicates),
        )

    by_edit: dict[str, list[int]] = defaultdict(list)
    for n in edited:
        by_edit[every[n].edit].append(n)
    return InspectionResult(
        versions,
        dict(Counter(one.kind for one in every)),
        sum(one.seconds for one in every) / 60.0,
        len({one.unit for one in people}),
        sum(one.seconds for one in people) / 60.0,
        against(llrs, made),
        against(joined, edited),
        marks(MARK_LLR),
        tuple(marks(llr) for llr in CURVE),
        {
            name: rate(
                [every[n].unit for n in some],
                [_found(every[n], found[n], MARK_LLR) for n in some],
                replicates,
            )
            for name, some in sorted(by_edit.items())
        },
        {name: float(np.median([joined[n] for n in some])) for name, some in sorted(by_edit.items())},
        without_borders,
    )


def _found(one: File, places: Sequence[Place], llr: float) -> list[bool]:
    """For each join, whether a mark lies within APART_S."""
    marks = [at for at, how in places if how > llr]
    return [any(abs(at - mark) <= APART_S for mark in marks) for at in one.joins_s]


def _counted(one: File, places: Sequence[Place], llr: float) -> tuple[int, int]:
    """(false marks, all marks)."""
    marks = [at for at, how in places if how > llr]
    edited = (*one.joins_s, *one.edges_s)
    return sum(all(abs(at - mark) > APART_S for at in edited) for mark in marks), len(marks)


def _a_minute(every: Sequence[File], counts: Sequence[int], replicates: int) -> Estimate:
    """So many a minute, drawn anew by person or system; none at all is at most three in that time."""
    hits: dict[str, float] = defaultdict(float)
    minutes: dict[str, float] = defaultdict(float)
    for one, count in zip(every, counts, strict=True):
        hits[one.unit] += count
        minutes[one.unit] += one.seconds / 60.0
    marks, time = np.array(list(hits.values())), np.array(list(minutes.values()))
    value = float(marks.sum() / time.sum())
    drawn = np.random.default_rng(1).integers(len(marks), size=(max(1, replicates), len(marks)))
    low, high = np.percentile(marks[drawn].sum(axis=1) / time[drawn].sum(axis=1), [2.5, 97.5])
    return Estimate(value, float(low), float(high) if marks.sum() else 3.0 / float(time.sum()))


def summary(result: InspectionResult) -> dict[str, Any]:
    """The figures in use, by plain names."""
    names: Mapping[str, Detection] = {"live": result.live, "one_go": result.joins}
    return {
        **{
            name: {figure: found.figures[figure].value for figure in ("cllr", "min_cllr", "eer")}
            for name, found in names.items()
        },
        "joins_found": [result.in_use.found.accepted, result.in_use.found.trials],
        "false_marks_a_minute": result.in_use.false_a_minute.value,
        "false_marks_a_minute_in_people": result.in_use.in_people.value,
        "goals": GOALS,
    }
