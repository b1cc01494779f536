from __future__ import annotations

import numpy as np
import pytest

from quantize.errors import QuantizeError
from quantize.evaluate.checks.speaker import decision_flips, evaluate_speaker, score_matrix, views
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import SpeakerPlan, speaker_plan


def recordings(folder: str, speaker: str, group: str = "", gender: str = "") -> list[Recording]:
    return [
        Recording(f"{folder}/{speaker}/{i}.flac", "bonafide", speaker, "", "", group, gender)
        for i in range(5)
    ]


@pytest.fixture
def plan() -> SpeakerPlan:
    return speaker_plan(
        recordings("x", "ann", "native", "female")
        + recordings("x", "bob", "native", "male")
        + recordings("y", "cid", "accented")
        + recordings("y", "dee", "accented")
    )


@pytest.fixture
def embeddings(plan: SpeakerPlan) -> dict[str, np.ndarray]:
    """Four voices at right angles, each utterance a little off its voice."""
    rng = np.random.default_rng(7)
    voices = {speaker: np.eye(8)[i] for i, speaker in enumerate(plan.enrolments)}
    found = {}
    for recording in plan.recordings():
        vector = voices[recording.speaker] + 0.1 * rng.normal(size=8)
        found[recording.path] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return found


def test_every_probe_knocks_at_every_door(plan: SpeakerPlan, embeddings: dict[str, np.ndarray]) -> None:
    matrix = score_matrix(plan, embeddings)
    assert matrix.scores.shape == (4, 8)
    trials = matrix.trials(lambda speaker: True)
    assert (len(trials.targets), len(trials.nontargets)) == (8, 24)
    assert trials.targets.min() > trials.nontargets.max()
    assert all(len(unit) == 1 for unit in trials.target_units)
    assert all(enrolled != knocking for enrolled, knocking in trials.nontarget_units)


def test_a_group_is_judged_among_itself(plan: SpeakerPlan, embeddings: dict[str, np.ndarray]) -> None:
    result = evaluate_speaker("int8", score_matrix(plan, embeddings), plan, None, None, replicates=0)
    assert set(result.views) == {"all", "x", "y", "native", "accented"}, "one woman and one man are no group"
    assert (result.views["x"].targets, result.views["x"].nontargets) == (4, 4)
    assert result.views["native"] == result.views["x"]


def test_views_name_corpora_groups_and_genders(plan: SpeakerPlan) -> None:
    assert views(plan)["accented"] == frozenset({"cid", "dee"})


def test_what_could_not_be_scored_takes_no_part(plan: SpeakerPlan, embeddings: dict[str, np.ndarray]) -> None:
    for path in ("x/ann/0.flac", "x/ann/1.flac", "x/ann/2.flac", "y/cid/3.flac"):
        del embeddings[path]
    matrix = score_matrix(plan, embeddings)
    assert matrix.speakers == ("bob", "cid", "dee")
    assert [probe.path for probe in matrix.probes if probe.speaker == "cid"] == ["y/cid/4.flac"]


def test_one_speaker_alone_is_no_evaluation(plan: SpeakerPlan) -> None:
    with pytest.raises(QuantizeError, match="fewer than two speakers"):
        score_matrix(plan, {})


def test_flips_count_decisions_and_not_scores(plan: SpeakerPlan, embeddings: dict[str, np.ndarray]) -> None:
    matrix = score_matrix(plan, embeddings)
    moved = type(matrix)(matrix.speakers, matrix.probes, matrix.scores - 0.05)
    assert decision_flips(matrix, moved, 0.5, matrix.speakers) == 0.0
    only_the_best = float(matrix.scores.max()) - 1e-6
    assert decision_flips(matrix, moved, only_the_best, matrix.speakers) == pytest.approx(
        1 / matrix.scores.size
    )
    assert decision_flips(matrix, moved, -2.0, matrix.speakers) == 0.0
