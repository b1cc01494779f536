"""What a door remembers around its decisions: the sound first, a habit only after a grant."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device.access.decision import Decision, Notice, Outcome, Reason
from device.access.replay_guard import Habits, ReplayGuard, forget_habit
from device.clock import Now
from device.evidence.judge import Evidence
from device.liveness import ContextEvidence, LivenessError
from device.liveness.timing import MIN_SEEN, Timing
from device.secure_store import NotEnrolledError
from tests.device.door_world import evidence
from tests.device.liveness.sounds import NOON, mac, noise

NOW = Now(NOON, 100.0)
USUAL = Timing(0.9, 13.0)


class People:
    """The vault's record ids."""

    def __init__(self) -> None:
        self.records = {"anna": uuid.UUID(int=1), "bruno": uuid.UUID(int=2)}

    def record_of(self, uid: str) -> uuid.UUID:
        try:
            return self.records[uid]
        except KeyError:
            raise NotEnrolledError("nobody is enrolled under this id") from None


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def door(tmp_path: Path, people: People) -> Iterator[ReplayGuard]:
    opened = ReplayGuard(tmp_path, mac, people.record_of, at_least=0, now=NOON, noted=lambda version: None)
    yield opened
    opened.close()


@pytest.fixture
def habits(tmp_path: Path, people: People) -> Iterator[Habits]:
    opened = Habits(tmp_path / "memory.db", mac, people.record_of)
    yield opened
    opened.close()


def heard(door: ReplayGuard, seed: int = 1) -> Evidence:
    marks = door.memory.fingerprinter(noise(2.0, seed))
    return replace(evidence(), context=ContextEvidence(reuse_llr=5.0, fingerprint=marks))


def decision(outcome: Outcome, person: str = "anna") -> Decision:
    return Decision(outcome, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME, person=person)


def attempt(door: ReplayGuard, outcome: Outcome = Outcome.GRANTED, uid: str = "anna", seed: int = 1) -> float:
    noted = door.note(heard(door, seed), "able baker charlie dog", uid, 0.9, NOW)
    assert isinstance(noted, Evidence)
    door.settle(decision(outcome, uid))
    assert noted.context.timing_llr is not None
    return noted.context.timing_llr


def test_an_attempt_is_remembered_before_anybody_decides(door: ReplayGuard) -> None:
    door.note(heard(door), "phrase", "anna", 1.0, NOW)
    assert len(door.memory) == 1


def test_a_refused_attempt_is_remembered_too(door: ReplayGuard) -> None:
    attempt(door, Outcome.DENIED_VOICE)
    assert len(door.memory) == 1


def test_evidence_without_marks_becomes_a_fault(door: ReplayGuard) -> None:
    """A judge that was not given the memory must not open a door that has one."""
    noted = door.note(evidence(), "phrase", "anna", 1.0, NOW)
    assert isinstance(noted, LivenessError)


def test_what_kept_the_judge_from_evidence_passes_through(door: ReplayGuard) -> None:
    error = RuntimeError("no microphone")
    assert door.note(error, "phrase", "anna", 1.0, NOW) is error
    door.settle(decision(Outcome.DENIED_FAULT))


def test_a_memory_that_cannot_be_written_is_a_fault(door: ReplayGuard) -> None:
    door.memory.close()
    with pytest.raises(Exception, match="closed"):
        door.memory._file._db.execute("SELECT 1")
    assert isinstance(door.note(heard(door), "phrase", "anna", 1.0, NOW), LivenessError)


def test_timing_is_learnt_from_granted_attempts_alone(door: ReplayGuard) -> None:
    for seed in range(MIN_SEEN + 1):
        attempt(door, Outcome.DENIED_VOICE, seed=seed)
    assert attempt(door, seed=20) == 0.0
    for seed in range(MIN_SEEN):
        attempt(door, seed=30 + seed)
    assert attempt(door, seed=50) > 0.5


def test_under_duress_nothing_is_learnt(door: ReplayGuard) -> None:
    for seed in range(MIN_SEEN + 1):
        attempt(door, Outcome.DURESS, seed=seed)
    assert attempt(door, seed=20) == 0.0


def test_one_persons_habit_is_not_anothers(door: ReplayGuard) -> None:
    for seed in range(MIN_SEEN):
        attempt(door, seed=seed)
    assert attempt(door, uid="bruno", seed=20) == 0.0


def test_a_habit_survives_a_restart_sealed(habits: Habits, tmp_path: Path, people: People) -> None:
    for _ in range(MIN_SEEN):
        habits.learn("anna", USUAL)
    habits.close()
    again = Habits(tmp_path / "memory.db", mac, people.record_of)
    assert again.llr("anna", USUAL) > 0.5
    written = b"".join(path.read_bytes() for path in tmp_path.glob("memory.db*"))
    assert b"anna" not in written
    again.close()


def test_forgetting_a_person_erases_the_habit_while_the_unit_runs(habits: Habits, tmp_path: Path) -> None:
    for _ in range(MIN_SEEN):
        habits.learn("anna", USUAL)
    forget_habit(tmp_path, mac, "anna")
    assert habits.llr("anna", USUAL) == 0.0


def test_an_old_habit_says_nothing_about_a_new_enrolment(habits: Habits, people: People) -> None:
    for _ in range(MIN_SEEN):
        habits.learn("anna", USUAL)
    people.records["anna"] = uuid.UUID(int=3)
    assert habits.llr("anna", USUAL) == 0.0


def test_a_habit_of_somebody_forgotten_elsewhere_is_not_used(habits: Habits, people: People) -> None:
    for _ in range(MIN_SEEN):
        habits.learn("anna", USUAL)
    del people.records["anna"]
    assert habits.llr("anna", USUAL) == 0.0
    habits.learn("anna", USUAL)


def test_habits_of_people_who_are_gone_are_erased_at_the_next_start(habits: Habits, people: People) -> None:
    for _ in range(MIN_SEEN):
        habits.learn("anna", USUAL)
        habits.learn("bruno", USUAL)
    habits.keep_only(lambda: ["bruno"])
    assert len(habits._file.habits()) == 1
    assert habits.llr("bruno", USUAL) > 0.5


def test_a_damaged_habit_is_no_habit(habits: Habits) -> None:
    for _ in range(MIN_SEEN):
        habits.learn("anna", USUAL)
    habits._file._db.execute("UPDATE habits SET sealed = x'00112233'")
    assert habits.llr("anna", USUAL) == 0.0


def test_forgetting_where_nothing_was_heard_is_no_mistake(tmp_path: Path) -> None:
    forget_habit(tmp_path / "nowhere", mac, "anna")
