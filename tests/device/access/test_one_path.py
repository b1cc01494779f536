"""Door, command and facade agree: what a rehearsal says is what the door then does, in whatever situation."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from device.access.controller import STEP_UP_WINDOW_S
from device.access.decision import Decision, Outcome, Reason
from device.access.memory.history import recall
from device.access.rehearsal import Rehearsal
from device.access.rules.explain import explain
from device.evidence.judge import Evidence
from device.liveness import ContextEvidence
from device.unit.audit import AuditTrail, EventContext
from tests.device.access.test_policy_controller import DURESS_WORD, RULES
from tests.device.door_world import GOOD, World, evidence, mac

MEMORY = Path("/dev/shm")
PEOPLE = ("ANNA", "BRUNO", "SARA", "VERA", "nobody")
DOORS = (*RULES.doors, "no-such-door")
CONTEXT = EventContext(1, 0.0, b"k" * 32, "software")
SEEN: Counter[str] = Counter()


@pytest.fixture
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    made = World(folder, RULES, enrolled={"ANNA", "BRUNO", "SARA", "VERA"})
    yield made
    made.history.close()
    shutil.rmtree(folder)


def rehearsal(world: World) -> Rehearsal:
    """As another process of the unit has it."""
    return Rehearsal(
        world.controller.rules,
        lambda: recall(world.folder / "history", world.counter, mac),
        mac,
        enrolled=lambda uid: uid in world.enrolled,
        same_voice_llr=lambda a, b: world.alike_llr,
    )


def heard_in(dice: random.Random) -> Evidence | BaseException:
    kind = dice.random()
    if kind < 0.6:
        return evidence()
    if kind < 0.7:
        return evidence(transcript=f"PHRASE {DURESS_WORD}", phrase=-1.0)
    if kind < 0.75:  # what lay over the words: excused so many times, and then it counts
        return dice.choice(
            [
                evidence(live=-8.0, quality=replace(GOOD, steady_lines=20)),
                replace(evidence(phrase=-8.0), coughs=1),
                replace(evidence(), context=ContextEvidence(joins_llr=-8.0, uncoughed_llr=2.0)),
                replace(evidence(), context=ContextEvidence(joins_llr=-1.0)),
            ]
        )
    if kind < 0.95:
        scores = [dice.choice([-8.0, 1.25, 8.0]) for _ in range(3)]
        return evidence(*scores)
    return dice.choice([evidence(voice=None), TypeError("x"), evidence(phrase=float("nan"))])


def something_happens(world: World, dice: random.Random) -> None:
    world.later(dice.choice([0.0, 0.0, 1.0, 20.0, 40.0, 130.0, 700.0, 4000.0]))
    kind = dice.random()
    if kind < 0.04:
        world.controller.lock_down(dice.choice(["*", "ward", "airlock"]), dice.random() < 0.4)
    elif kind < 0.06:
        world.controller.pardon(dice.choice(PEOPLE))
    elif kind < 0.08:
        world.wall += timedelta(hours=dice.choice([-300, -2, 2, 9]))
    elif kind < 0.09:
        world.controller.trust_clock(world.now)
    elif kind < 0.10:
        world.reboot()
        world.controller.keep_time(world.now)  # as upkeep does at a start
    elif kind < 0.11:
        world.alike_llr = -world.alike_llr
    if world.now.wall.weekday() > 4 or not 7 <= world.now.wall.hour < 18:
        world.wall += timedelta(hours=dice.choice([0, 5, 11]))


def agree(world: World, situations: int, seed: int) -> None:
    dice = random.Random(seed)
    done, uid, door = 0, "ANNA", "ward"
    while done < situations:
        something_happens(world, dice)
        heard = heard_in(dice)
        if dice.random() < 0.7:  # else the same person again at the same door
            uid, door = dice.choice(PEOPLE), dice.choice(DOORS)
        greeting = world.greet(uid, door)
        if isinstance(greeting, Decision):
            told, phrase = greeting, ""
            said = rehearsal(world).decide(door, uid, heard, phrase, world.now)
        else:
            world.later(2.0)
            phrase = greeting.phrase
            if isinstance(heard, Evidence):
                heard = replace(heard, transcript=heard.transcript.replace("PHRASE", phrase))
            said = rehearsal(world).decide(door, uid, heard, phrase, world.now)
            told = world.answer(greeting, heard, uid=uid, door=door)
        if told.outcome is Outcome.STEP_UP:
            world.later(STEP_UP_WINDOW_S + 1.0)  # a rehearsal knows of no phrase before this one
        assert replace(told, challenge="") == said, f"the door says {told}, the rehearsal {said}"
        trail = AuditTrail(None, CONTEXT, lambda: RULES, lambda: world.now)  # type: ignore[arg-type]
        text = explain(trail.event_of(told, heard if isinstance(heard, Evidence) else None), RULES)
        assert ("opened (" in text) == told.opens == said.opens
        SEEN[told.outcome] += 1
        SEEN[told.code] += 1
        done += 1


def test_door_and_rehearsal_agree_on_generated_situations(world: World) -> None:
    SEEN.clear()
    agree(world, 1_500, seed=1)
    missing = {
        *(Outcome.GRANTED, Outcome.DURESS, Outcome.LOCK_DOWN, Outcome.PASSBACK_DETECTED),
        *(Outcome.AWAITING_SECOND_PERSON, Outcome.LOCKOUT_MAX_ATTEMPTS, Outcome.DENIED_SCHEDULE),
        *(Reason.CLOCK_BEHIND, Reason.SAME_PERSON_TWICE, Reason.MUST_WAIT, Reason.NO_SUCH_DOOR),
        Reason.DISTURBED,
    } - set(SEEN)
    assert not missing, "the situations must be worth something"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
def test_door_and_rehearsal_agree_on_ten_thousand_generated_situations(world: World, seed: int) -> None:
    agree(world, 1_000, seed)


def test_a_rehearsal_that_cannot_read_the_history_says_so_and_never_yes(world: World) -> None:
    assert world.attempt().opens
    path = world.folder / "history"
    path.write_bytes(path.read_bytes()[:-1])
    said = rehearsal(world).decide("ward", "ANNA", evidence(), "", world.now)
    assert (said.outcome, said.code) == (Outcome.DENIED_FAULT, Reason.HISTORY_FAULT)


def test_a_second_person_completes_the_pair_that_waits_at_the_door(world: World) -> None:
    assert rehearsal(world).decide("pharmacy", "BRUNO", evidence(), "", world.now).outcome is (
        Outcome.AWAITING_SECOND_PERSON
    )
    assert world.attempt(uid="ANNA", door="pharmacy").outcome is Outcome.AWAITING_SECOND_PERSON
    assert rehearsal(world).decide("pharmacy", "BRUNO", evidence(), "", world.now).opens
    assert not rehearsal(world).decide("pharmacy", "ANNA", evidence(), "", world.now).opens
    assert world.attempt(uid="BRUNO", door="pharmacy").opens
