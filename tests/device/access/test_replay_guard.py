"""What a door remembers around its decisions: the sound, before anybody decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device.access.decision import Decision, Notice, Outcome, Reason
from device.access.replay_guard import ReplayGuard
from device.clock import Now
from device.evidence.judge import Evidence
from device.liveness import ContextEvidence, LivenessError
from tests.device.door_world import evidence
from tests.device.liveness.sounds import NOON, mac, noise

NOW = Now(NOON, 100.0)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[ReplayGuard]:
    opened = ReplayGuard(tmp_path, mac, at_least=0, now=NOON, noted=lambda version: None)
    yield opened
    opened.close()


def heard(door: ReplayGuard, seed: int = 1) -> Evidence:
    marks = door.memory.fingerprinter(noise(2.0, seed))
    return replace(evidence(), context=ContextEvidence(reuse_llr=5.0, fingerprint=marks))


def decision(outcome: Outcome, person: str = "anna") -> Decision:
    return Decision(outcome, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME, person=person)


def attempt(door: ReplayGuard, outcome: Outcome) -> None:
    assert isinstance(door.note(heard(door), NOW), Evidence)
    door.settle(decision(outcome))


def test_an_attempt_is_remembered_before_anybody_decides(door: ReplayGuard) -> None:
    door.note(heard(door), NOW)
    assert len(door.memory) == 1


def test_a_refused_attempt_is_remembered_too(door: ReplayGuard) -> None:
    attempt(door, Outcome.DENIED_VOICE)
    assert len(door.memory) == 1


def test_evidence_without_marks_becomes_a_fault(door: ReplayGuard) -> None:
    """A judge that was not given the memory must not open a door that has one."""
    noted = door.note(evidence(), NOW)
    assert isinstance(noted, LivenessError)


def test_what_kept_the_judge_from_evidence_passes_through(door: ReplayGuard) -> None:
    error = RuntimeError("no microphone")
    assert door.note(error, NOW) is error
    door.settle(decision(Outcome.DENIED_FAULT))


def test_a_memory_that_cannot_be_written_is_a_fault(door: ReplayGuard) -> None:
    door.memory.close()
    assert isinstance(door.note(heard(door), NOW), LivenessError)


class Noting:
    """A memory that says what it was told of doors that opened."""

    def __init__(self) -> None:
        self.numbers = 0
        self.doors_opened: list[int] = []

    def remember(self, marks: object, now: object) -> int:
        self.numbers += 1
        return self.numbers

    def opened(self, number: int) -> None:
        self.doors_opened.append(number)

    def close(self) -> None:
        pass


def test_only_an_answer_that_opened_the_door_is_kept_longest(door: ReplayGuard) -> None:
    answer, real = heard(door), door.memory
    door.memory = noting = Noting()
    real.close()
    for outcome in (Outcome.DENIED_VOICE, Outcome.GRANTED, Outcome.STEP_UP, Outcome.DURESS):
        door.note(answer, NOW)
        door.settle(decision(outcome))
    assert noting.doors_opened == [2, 4]
