"""Were the right words said? Each recording against its own text and against one it does not say."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quantize.evaluate.figures.detection import Detection, Trials, measure
from quantize.evaluate.figures.metrics import Costs
from quantize.evaluate.recordings.trials import PhraseTrial

COSTS = Costs(target_prior=0.99, miss=1.0, false_accept=100.0)
"""A wrong phrase once in a hundred attempts; letting one through costs a hundred repetitions."""


@dataclass(frozen=True, slots=True)
class PhraseScores:
    """What the words check said of one recording."""

    right_llr: float
    wrong_llr: float
    transcript: str
    near_llrs: tuple[float, ...] = ()
    other_llrs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of so many were accepted; the interval is a bootstrap over speakers, or the rule of three."""

    accepted: int
    trials: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.accepted / self.trials


@dataclass(frozen=True, slots=True)
class PhraseResult:
    """By view ("all", a corpus, an accent group). FRR: right phrases refused; FAR: wrong ones accepted."""

    model: str
    threshold_llr: float
    views: dict[str, Detection]
    right_phrase_accepted: dict[str, float]
    wrong_phrase_accepted: dict[str, float]
    near_misses: dict[str, Rate] = field(default_factory=dict)
    """By view: one word of the phrase replaced, and accepted."""
    pairings: dict[str, Rate] = field(default_factory=dict)
    """By view: every wrong phrase that was tried, and accepted."""
    clips: dict[str, Rate] = field(default_factory=dict)
    """By kind: clips in which nobody says the phrase, and accepted; with and without the audio gate."""
    attempts: dict[str, dict[str, Rate]] = field(default_factory=dict)
    """By what was counted, by view: what becomes of attempts of at most two phrases (`attempts.py`)."""

    def counts(self) -> dict[str, dict[str, Rate]]:
        """Every kind of trial that must fail, by its title."""
        return {
            "one word wrong": self.near_misses,
            "another phrase": self.pairings,
            "no phrase at all": self.clips,
        }


def evaluate_phrase(
    model: str,
    trials: Sequence[PhraseTrial],
    scores: Mapping[str, PhraseScores],
    threshold_llr: float,
    replicates: int = 300,
) -> PhraseResult:
    """Figures of the words check at its deployed threshold and over all thresholds."""
    chosen = views_of(trials, scores)
    views: dict[str, Detection] = {}
    for name, members in chosen.items():
        same = next((seen for seen in views if chosen[seen] == members), None)
        views[name] = (
            views[same]
            if same is not None
            else measure(_detection(members, scores), COSTS, threshold_llr, replicates=replicates)
        )
    return PhraseResult(
        model=model,
        threshold_llr=threshold_llr,
        views=views,
        right_phrase_accepted={name: 1 - view.figures["frr"].value for name, view in views.items()},
        wrong_phrase_accepted={name: view.figures["far"].value for name, view in views.items()},
        near_misses=_rates(chosen, scores, threshold_llr, lambda found: found.near_llrs),
        pairings=_rates(chosen, scores, threshold_llr, lambda found: (found.wrong_llr, *found.other_llrs)),
    )


def views_of(
    trials: Sequence[PhraseTrial], scores: Mapping[str, PhraseScores]
) -> dict[str, list[PhraseTrial]]:
    """The trials that have scores: all of them, and by folder and group."""
    scored = [trial for trial in trials if trial.recording.path in scores]
    chosen: dict[str, list[PhraseTrial]] = {"all": list(scored)}
    for trial in scored:
        for name in {trial.recording.folder, trial.recording.group} - {""}:
            chosen.setdefault(name, []).append(trial)
    return chosen


def _rates(
    views: Mapping[str, Sequence[PhraseTrial]], scores: Mapping[str, PhraseScores], threshold_llr: float,
    llrs: Callable[[PhraseScores], Sequence[float]],
) -> dict[str, Rate]:  # fmt: skip
    found: dict[str, Rate] = {}
    for name, members in views.items():
        units = [trial.recording.unit for trial in members]
        accepted = [[llr >= threshold_llr for llr in llrs(scores[t.recording.path])] for t in members]
        if any(accepted):
            found[name] = rate(units, accepted)
    return found


def rate(units: Sequence[Hashable], accepted: Sequence[Sequence[bool]], replicates: int = 1000) -> Rate:
    """The share of accepted trials, grouped by the unit (usually a speaker) that each group depends on."""
    names = {name: at for at, name in enumerate(dict.fromkeys(units))}
    sums, sizes = np.zeros(len(names)), np.zeros(len(names))
    for unit, group in zip(units, accepted, strict=True):
        sums[names[unit]] += sum(group)
        sizes[names[unit]] += len(group)
    total, count = int(sums.sum()), int(sizes.sum())
    if total == 0:
        return Rate(0, count, 0.0, min(1.0, 3.0 / count))
    drawn = np.random.default_rng(1).integers(len(names), size=(replicates, len(names)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / np.maximum(sizes[drawn].sum(axis=1), 1), [2.5, 97.5])
    return Rate(total, count, float(low), float(high))


def _detection(members: Sequence[PhraseTrial], scores: Mapping[str, PhraseScores]) -> Trials:
    units = [(trial.recording.unit,) for trial in members]
    return Trials(
        targets=np.array([scores[trial.recording.path].right_llr for trial in members]),
        nontargets=np.array([scores[trial.recording.path].wrong_llr for trial in members]),
        target_units=units,
        nontarget_units=units,
    )
