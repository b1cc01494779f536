"""Were the right words said? Each recording against its own text and against one it does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantize.evaluate.detection import Detection, Trials, measure
from quantize.evaluate.metrics import Costs
from quantize.evaluate.trials import PhraseTrial

COSTS = Costs(target_prior=0.99, miss=1.0, false_accept=100.0)
"""A wrong phrase once in a hundred attempts; letting one through costs a hundred repetitions."""


@dataclass(frozen=True, slots=True)
class PhraseScores:
    """What the words check said of one recording."""

    right_llr: float
    wrong_llr: float
    transcript: str


@dataclass(frozen=True, slots=True)
class PhraseResult:
    """By view ("all", a corpus, an accent group). FRR: right phrases refused; FAR: wrong ones accepted."""

    model: str
    threshold_llr: float
    views: dict[str, Detection]
    right_phrase_accepted: dict[str, float]
    wrong_phrase_accepted: dict[str, float]


def evaluate_phrase(
    model: str,
    trials: Sequence[PhraseTrial],
    scores: Mapping[str, PhraseScores],
    threshold_llr: float,
    replicates: int = 300,
) -> PhraseResult:
    """Figures of the words check at its deployed threshold and over all thresholds."""
    scored = [trial for trial in trials if trial.recording.path in scores]
    chosen: dict[str, list[PhraseTrial]] = {"all": list(scored)}
    for trial in scored:
        for name in {trial.recording.folder, trial.recording.group} - {""}:
            chosen.setdefault(name, []).append(trial)
    views: dict[str, Detection] = {}
    for name, members in chosen.items():
        twin = next((seen for seen in views if chosen[seen] == members), None)
        views[name] = (
            views[twin]
            if twin is not None
            else measure(_detection(members, scores), COSTS, threshold_llr, replicates=replicates)
        )
    return PhraseResult(
        model=model,
        threshold_llr=threshold_llr,
        views=views,
        right_phrase_accepted={name: 1 - view.figures["frr"].value for name, view in views.items()},
        wrong_phrase_accepted={name: view.figures["far"].value for name, view in views.items()},
    )


def _detection(members: Sequence[PhraseTrial], scores: Mapping[str, PhraseScores]) -> Trials:
    units = [(trial.recording.unit,) for trial in members]
    return Trials(
        targets=np.array([scores[trial.recording.path].right_llr for trial in members]),
        nontargets=np.array([scores[trial.recording.path].wrong_llr for trial in members]),
        target_units=units,
        nontarget_units=units,
    )
