"""Is it the right voice? Every probe against every enrolled speaker, per corpus, group and gender."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quantize.errors import QuantizeError
from quantize.evaluate.figures.detection import Detection, Trials, measure
from quantize.evaluate.figures.metrics import Array, Costs
from quantize.evaluate.figures.named import POOLED
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import SpeakerPlan

COSTS = Costs(target_prior=0.01)
"""NIST SRE's hard operating point: one target in a hundred attempts, both errors priced alike."""

Embedding = npt.NDArray[np.float32]
Embeddings = Mapping[str, Embedding]
"""By path: unit vectors, all of one length."""


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Cosines of every probe against every enrolled speaker: `scores[speaker, probe]`."""

    speakers: tuple[str, ...]
    probes: tuple[Recording, ...]
    scores: Array

    @property
    def same(self) -> npt.NDArray[np.bool_]:
        """Where the probe's speaker is the enrolled one; shape like `scores`."""
        owners = np.array([probe.speaker for probe in self.probes])
        return np.asarray(np.array(self.speakers)[:, None] == owners[None, :])

    def trials(
        self, keep_speaker: Callable[[str], bool], llr: Callable[[Array], Array] | None = None
    ) -> Trials:
        """The trials whose enrolled speaker and whose probe's speaker `keep_speaker` both accepts."""
        rows = [i for i, speaker in enumerate(self.speakers) if keep_speaker(speaker)]
        columns = [i for i, probe in enumerate(self.probes) if keep_speaker(probe.speaker)]
        scores, same = self.scores[np.ix_(rows, columns)], self.same[np.ix_(rows, columns)]
        if llr is not None:
            scores = llr(scores.ravel()).reshape(scores.shape)
        names = [self.speakers[i] for i in rows]
        owners = [self.probes[i].speaker for i in columns]
        pairs = [[(name, owner) for owner in owners] for name in names]
        return Trials(
            targets=scores[same],
            nontargets=scores[~same],
            # The same name twice would square that speaker's count in the bootstrap.
            target_units=[(pairs[r][c][0],) for r, c in np.argwhere(same)],
            nontarget_units=[pairs[r][c] for r, c in np.argwhere(~same)],
        )


@dataclass(frozen=True, slots=True)
class SpeakerResult:
    """One model's figures: by view ("all", a corpus, a group, a gender)."""

    model: str
    llrs: bool
    threshold_llr: float | None
    views: dict[str, Detection] = field(default_factory=dict)


def template(embeddings: list[Embedding]) -> Embedding:
    """The mean voice of several utterances, unit norm."""
    mean = np.mean(np.stack(embeddings), axis=0)
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def score_matrix(plan: SpeakerPlan, embeddings: Embeddings) -> Matrix:
    """Enrol everyone, then score every probe against everyone; recordings without an embedding are left out.

    Raises QuantizeError where fewer than two speakers remain, or no probe.
    """
    voices = {
        speaker: template([embeddings[r.path] for r in files if r.path in embeddings])
        for speaker, files in plan.enrolments.items()
        if any(r.path in embeddings for r in files)
    }
    probes = tuple(r for r in plan.probes if r.path in embeddings and r.speaker in voices)
    if len(voices) < 2 or not probes:
        raise QuantizeError("fewer than two speakers could be enrolled and probed; see the recordings")
    heard = np.stack([embeddings[r.path] for r in probes])
    scores = np.stack(list(voices.values())) @ heard.T
    return Matrix(tuple(voices), probes, scores.astype(np.float64))


def views(plan: SpeakerPlan) -> dict[str, frozenset[str]]:
    """Everyone together, then each corpus, accent group and gender that has at least two speakers."""
    chosen: dict[str, set[str]] = {POOLED: set(plan.enrolments)}
    for files in plan.enrolments.values():
        first = files[0]
        for name in (first.folder, first.group, first.gender):
            if name:
                chosen.setdefault(name, set()).add(first.speaker)
    return {name: frozenset(members) for name, members in chosen.items() if len(members) >= 2}


def evaluate_speaker(
    model: str,
    matrix: Matrix,
    plan: SpeakerPlan,
    llr: Callable[[Array], Array] | None,
    threshold_llr: float | None,
    replicates: int = 300,
) -> SpeakerResult:
    """Figures of one model in every view; without `llr` the scores stay raw and only rank."""
    found: dict[str, Detection] = {}
    measured: dict[frozenset[str], Detection] = {}
    for name, members in views(plan).items():
        # A corpus is often also a group; the same trials need not be measured twice.
        if members not in measured:
            trials = matrix.trials(members.__contains__, llr)
            threshold = threshold_llr if llr is not None else None
            measured[members] = measure(trials, COSTS, threshold, llr is not None, replicates)
        found[name] = measured[members]
    return SpeakerResult(model, llr is not None, threshold_llr if llr is not None else None, found)


def decision_flips(one: Matrix, other: Matrix, threshold: float, speakers: Collection[str]) -> float:
    """The share of trials among `speakers` that two models decide differently at the same score threshold."""
    rows = np.array([speaker in speakers for speaker in one.speakers])
    columns = np.array([probe.speaker in speakers for probe in one.probes])
    flipped = (one.scores >= threshold) != (other.scores >= threshold)
    return float(np.mean(flipped[np.ix_(rows, columns)]))
