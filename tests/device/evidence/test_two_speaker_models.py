"""Who has come over to another speaker model is held against both, and no score rises above the older one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from device.evidence.gallery import Galleries, Gallery
from device.evidence.judge import Judge, JudgeError
from device.evidence.voice.held import Generations, Voice, lower_llr
from tests.device.evidence.test_judge import Steady, utterance

OLDER, NEWER = "older@1", "newer@1"
EDGES = (-math.inf, -1e300, -3.0, -0.0, 0.0, 2.9999999, 3.0, 11.9, 1e300, math.inf, math.nan)


class Says:
    """A speaker model that finds what it is told to, or fails."""

    def __init__(self, version: str, llr: float, failing: Exception | None = None) -> None:
        self.version = version
        self.found = llr
        self.failing = failing
        self.probes: list[np.ndarray] = []

    def embed(self, wave: np.ndarray) -> np.ndarray:
        assert wave.any(), "the wave is there as long as a model hears it"
        if self.failing is not None:
            raise self.failing
        self.probes.append(np.ones(192, np.float32))
        return self.probes[-1]

    def llr(self, probe: np.ndarray, template: np.ndarray) -> float:
        return self.found

    def template(self, embeddings: object) -> np.ndarray:
        return np.ones(192, np.float32)


def voice(*, grown: bool) -> Voice:
    beside = Voice(np.ones(192, np.float32), NEWER) if grown else None
    return Voice(np.ones(192, np.float32), OLDER, grows=not grown, grown=beside)


def judged(
    older: float, newer: float, *, followed: bool, grown: bool = True
) -> tuple[float, tuple[str, ...]]:
    """(the voice's LLR, what said so), while the newer model follows or when it has followed."""
    models = Says(OLDER, older), Says(NEWER, newer)
    if followed:
        judge = Judge(Steady(), models[1], Steady(), predecessor=models[0])
    else:
        judge = Judge(Steady(), models[0], Steady(), successor=models[1])
    try:
        assert judge.generations == Generations(OLDER, NEWER)
        found = judge(utterance(), "one two", voice(grown=grown))
        if found.heard is not None:
            found.heard.take(10.0)
    finally:
        judge.close()
    assert found.speaker_llr is not None
    assert not any(probe.any() for model in models for probe in model.probes), "probes are overwritten"
    return found.speaker_llr, found.model_versions


@pytest.mark.parametrize(("enrolled", "grown"), [*itertools.product(EDGES, EDGES)])
def test_no_score_is_above_that_of_the_enrolled_voiceprint(enrolled: float, grown: float) -> None:
    found = lower_llr(enrolled, grown)
    if math.isnan(enrolled) or math.isnan(grown):
        assert math.isnan(found), "which opens nothing"
    else:
        assert found == min(enrolled, grown)


@pytest.mark.parametrize("followed", [False, True])
def test_whatever_the_newer_model_says_nobody_scores_higher_at_the_door(followed: bool) -> None:
    dice = np.random.default_rng(8)
    for older, newer in dice.uniform(-12.0, 12.0, (50, 2)):
        found, versions = judged(older, newer, followed=followed)
        assert found <= older
        assert found == min(older, newer)
        assert versions[1:3] == (OLDER, NEWER)


@pytest.mark.parametrize("followed", [False, True])
def test_until_the_voiceprint_is_ready_the_older_model_decides_alone(followed: bool) -> None:
    found, versions = judged(4.0, -9.0, followed=followed, grown=False)
    assert found == 4.0
    assert NEWER not in versions


@pytest.mark.parametrize("broken", [0, 1])
def test_a_model_of_two_that_fails_means_no_evidence(broken: int) -> None:
    failing = [RuntimeError("out of memory") if number == broken else None for number in range(2)]
    judge = Judge(Steady(), Says(OLDER, 9.0, failing[0]), Steady(), successor=Says(NEWER, 9.0, failing[1]))
    with pytest.raises(JudgeError, match=r"a check failed: a fault of the program \(RuntimeError\)") as told:
        judge(utterance(), "one two", voice(grown=True))
    assert str(told.value.__cause__) == "out of memory"
    judge.close()


def test_a_voiceprint_of_a_model_that_is_not_here_is_no_evidence() -> None:
    judge = Judge(Steady(), Says(OLDER, 9.0), Steady())
    with pytest.raises(JudgeError, match="no model of this unit"):
        judge(utterance(), "one two", voice(grown=True))
    judge.close()


def test_people_of_both_models_are_searched_together() -> None:
    row = np.ones(192, np.float32) / np.float32(math.sqrt(192))
    people = Galleries({NEWER: Gallery({"CARLA": row}), OLDER: Gallery({"ANNA": row, "BRUNO": -row})})
    judge = Judge(Steady(), Says(OLDER, 5.0), Steady(), successor=Says(NEWER, 6.0))
    found = judge(utterance(), "one two", people)
    judge.close()
    assert found.identified is not None
    assert (found.identified.uid, found.speaker_llr, found.identified.among) == ("CARLA", 6.0, 3)
    assert Galleries({OLDER: Gallery({})}).identify({}) is None
