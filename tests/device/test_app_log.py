"""A door whose log takes no more, or whose parts fail: it stays locked, says so, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from device import app
from device.access.challenge import Challenge
from device.access.claims import Claim, ClaimKind
from device.access.decision import Decision, Notice, Outcome, Reason
from device.clock import Now
from device.evidence.judge import Evidence
from device.evidence.listener import Answer
from device.evidence.voice.held import Generations
from device.unit.assembly import Unit
from device.unit.audit import AuditTrail, EventContext
from sync.outbox import Outbox, OutboxLimits
from tests.device.access.test_policy_controller import RULES
from tests.device.door.plain_door import PlainDoor
from tests.device.door_world import World, evidence
from tests.sync.parts import SoftwareSigner

DOOR = "ward"


class Listener:
    """Hears what a test says it hears."""

    def __init__(self, says: Callable[[], Evidence]) -> None:
        self.says = says

    def hear(self, source: object, phrase: str, voice: object, **_: object) -> Answer:
        return Answer(self.says(), 0.5)


class Display:
    def __init__(self) -> None:
        self.told: list[Challenge | Decision] = []

    def tell(self, what: Challenge | Decision) -> None:
        self.told.append(what)

    def __getattr__(self, _: str) -> Callable[[], None]:
        return lambda: None


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Outbox]:
    limits = OutboxLimits(max_events=2, ballast_bytes=0)
    with Outbox(
        tmp_path / "a.db", unit="site-1/unit-1", doors={DOOR}, now_ms=lambda: 0, limits=limits
    ) as made:
        yield made


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, RULES)


def serve(world: World, log: Outbox, claims: int, says: Callable[[], Evidence] = evidence) -> list[Decision]:
    """What becomes of anna, who comes so many times, minutes apart."""
    door = PlainDoor(DOOR, 5.0, lambda: world.monotonic_s, lambda _: None)

    def clock() -> Now:
        world.later(1.0)
        return world.now

    parts = SimpleNamespace(
        controller=world.controller,
        log=log,
        listener=Listener(says),
        clock=clock,
        trail=AuditTrail(
            log, EventContext(1, 0.0, b"k" * 32, "software"), lambda: world.controller.rules, clock
        ),
        replay_guard=SimpleNamespace(note=lambda heard, *_: heard, settle=lambda _: None),
        asks_for_claim=lambda _: True,
        follows_at=lambda _: False,
        store=SimpleNamespace(vault=SimpleNamespace(voiceprints=_nobody, version=lambda _: 1)),
        judge=SimpleNamespace(generations=Generations(None, "s1"), open_soon=lambda language: None),
        prints=SimpleNamespace(leave=lambda *_: None),
        bouts=SimpleNamespace(match=lambda *_: None, note=lambda *_: None),
    )
    display = Display()
    coming = [Claim(ClaimKind.BADGE, "anna")] * claims
    unit = cast(Unit, parts)
    decisions = []
    for decision in app.run(unit, coming, object(), DOOR, door, display, threading.Event()):  # type: ignore[arg-type]
        assert door.is_locked != decision.opens
        door.lock()
        world.later(600.0)
        decisions.append(decision)
    return decisions


def _nobody(*_: object, **__: object) -> object:
    from device.secure_store import NotEnrolledError

    raise NotEnrolledError("nobody")


def test_a_log_that_is_full_shuts_the_door_and_the_door_goes_on(world: World, log: Outbox) -> None:
    decisions = serve(world, log, 4)
    assert [d.outcome for d in decisions] == [
        Outcome.GRANTED, Outcome.GRANTED, Outcome.DENIED_FAULT, Outcome.DENIED_FAULT,
    ]  # fmt: skip
    assert decisions[-1].code is Reason.LOG_FAULT
    assert decisions[-1].notice is Notice.OUT_OF_SERVICE
    signer = SoftwareSigner()
    log.seal(signer)
    held = log.held()
    assert held is not None
    assert log.acknowledge(held.last, held.last_chain)  # somebody made room while the door ran
    assert serve(world, log, 1)[0].outcome is Outcome.GRANTED


def test_a_person_not_let_in_because_of_the_log_is_not_noted_as_inside(world: World, log: Outbox) -> None:
    serve(world, log, 2)
    before = world.history.position("anna")
    assert serve(world, log, 1)[0].code is Reason.LOG_FAULT
    assert world.history.position("anna") == before


def test_a_part_that_fails_in_a_way_nobody_foresaw_ends_one_attempt_and_not_the_process(
    world: World, log: Outbox
) -> None:
    def broken() -> Evidence:
        raise MemoryError("no room")

    first = serve(world, log, 1, broken)[0]
    assert (first.outcome, first.notice) == (Outcome.DENIED_FAULT, Notice.OUT_OF_SERVICE)
    assert serve(world, log, 1)[0].outcome is Outcome.GRANTED
