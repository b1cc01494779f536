"""Who is refused for their voice three times in a week is asked to enrol again: at the next opening."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import cast

import pytest

from device import app
from device.access.claims import Claim, ClaimKind
from device.access.controller import AccessController
from device.access.decision import DEFAULT_FACTORS, Decision, Factor, Notice, Outcome
from device.access.memory.history import History
from device.access.policy import Thresholds, decide
from device.access.rules import default_rules
from device.access.voices import is_enrolled
from device.audio import FileSource
from device.clock import Now
from device.evidence.judge import Evidence
from device.feedback import Cue, Feedback, language, languages
from device.secure_store import Store, StoreSettings, open_store
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Tools, Unit, open_unit
from device.unit.audit import AuditTrail, EventContext
from device.unit.enrolment import enrol, named
from device.unit.voices.enrol_again import KIND, asked_to_enrol, of_the_voice_alone, today
from sync.events import AuditEvent, Record, pseudonym
from sync.outbox import Outbox, OutboxError
from tests.device.door.plain_door import PlainDoor
from tests.device.door_world import evidence
from tests.device.secure_store.people import voiceprint
from tests.device.test_app import Recorder, saying
from tests.speech import Reading
from tests.sync.parts import SoftwareSigner

UID, KEY = "4711", b"k" * 32
START = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
GOOD, OTHER_VOICE = evidence(), evidence(voice=-2.0)


def decided(found: Evidence, factors: frozenset[Factor] = DEFAULT_FACTORS) -> Decision:
    made = decide(found, Thresholds(live_llr=0.5), required=factors, claimed=True)
    return replace(made, person=UID, door="door-1")


@dataclass
class Door:
    """A unit's store, history, log and clock, without its models."""

    folder: Path
    store: Store
    history: History
    log: Outbox
    now: Now
    broken: bool = False

    def __post_init__(self) -> None:
        self.controller = AccessController(
            "site-1/unit-1",
            default_rules("door-1"),
            self.history,
            self.store.mac,
            enrolled=partial(is_enrolled, self.store.vault),
        )
        self.controller.time.trust(self.now)
        context = EventContext(self.log.next_boot(), 0.0, KEY, "software")
        self.trail = AuditTrail(self.log, context, lambda: None, lambda: self.now)

    def decides(self, found: Evidence, *, days: float = 0.0, monotonic_days: float | None = None) -> Decision:
        """So many days later."""
        passed_s = 86_400.0 * (days if monotonic_days is None else monotonic_days)
        self.now = Now(self.now.wall + timedelta(days=days), self.now.monotonic_s + passed_s)
        self.controller.time.look(self.now)
        parts = SimpleNamespace(
            store=self.store, controller=self.controller, clock=lambda: self.now, trail=self.trail
        )
        return asked_to_enrol(cast(Unit, parts), decided(found))

    def events(self) -> list[AuditEvent]:
        self.log.seal(SoftwareSigner())
        batch = self.log.batch_after(0)
        return [] if batch is None else [Record.from_bytes(body).event for body in batch.bodies]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    settings = StoreSettings(profile="laptop", keystore="software")
    with (
        open_store(tmp_path, settings, warn=lambda _: None) as store,
        Outbox(
            StateFolder(tmp_path).audit_log, unit="site-1/unit-1", doors={"door-1"}, now_ms=lambda: 1
        ) as log,
        closing(
            History(tmp_path / "history", store.keystore.counter("attempts"), store.mac, opened_s=0.0)
        ) as history,
    ):
        store.vault.enrol(UID, voiceprint(1))
        yield Door(tmp_path, store, history, log, Now(START, 50.0))


def test_the_third_refusal_in_a_week_is_in_the_log_and_the_next_opening_asks_once(door: Door) -> None:
    for _ in range(2):
        assert not door.decides(OTHER_VOICE, days=2).enrol_again
    assert not door.decides(GOOD).enrol_again
    assert door.events() == []
    third = door.decides(OTHER_VOICE, days=2)
    assert not third.enrol_again, "a refusal tells nobody which check refused"
    (event,) = door.events()
    assert (event.kind, event.reason, event.count) == (KIND, "enrol_again", 3)
    assert event.person == pseudonym(KEY, UID)
    door.decides(OTHER_VOICE)
    assert len(door.events()) == 1, "said once"
    assert door.decides(GOOD, days=1).enrol_again
    assert not door.decides(GOOD).enrol_again
    assert door.history.voice_refusals(UID) is None


@pytest.mark.parametrize(
    "found",
    [
        evidence(phrase=-2.0, voice=-2.0),
        evidence(live=-2.0, voice=-2.0),
        evidence(phrase=-2.0),
        evidence(live=-2.0),
    ],
)
def test_a_refusal_of_words_or_liveness_says_nothing_of_the_voice(door: Door, found: Evidence) -> None:
    for _ in range(4):
        door.decides(found)
    assert door.history.voice_refusals(UID) is None
    assert not door.decides(GOOD).enrol_again


def test_a_door_that_asks_for_less_counts_nobody() -> None:
    assert of_the_voice_alone(decided(OTHER_VOICE))
    assert not of_the_voice_alone(decided(OTHER_VOICE, frozenset({Factor.CLAIM, Factor.VOICE, Factor.LIVE})))
    assert not of_the_voice_alone(decided(GOOD))
    assert not of_the_voice_alone(replace(decided(OTHER_VOICE), outcome=Outcome.STEP_UP))


def test_refusals_of_last_week_do_not_count(door: Door) -> None:
    for _ in range(6):
        assert not door.decides(OTHER_VOICE, days=4).enrol_again
    assert door.events() == []
    assert not door.decides(GOOD).enrol_again


def test_a_clock_that_jumps_neither_keeps_refusals_for_ever_nor_makes_them_often(door: Door) -> None:
    door.decides(OTHER_VOICE)
    door.decides(OTHER_VOICE)
    door.decides(OTHER_VOICE, days=400, monotonic_days=0.0)  # set ahead
    assert not door.decides(GOOD).enrol_again
    door.decides(OTHER_VOICE, days=-400, monotonic_days=0.0)  # and back
    assert door.events() == []
    assert not door.decides(GOOD, days=1).enrol_again


def test_who_enrolled_anew_or_was_forgotten_is_not_asked(door: Door) -> None:
    for _ in range(3):
        door.decides(OTHER_VOICE)
    door.store.vault.enrol(UID, voiceprint(2))
    assert not door.decides(GOOD).enrol_again
    for _ in range(3):
        door.decides(OTHER_VOICE)
    door.controller.forget(UID)
    door.store.vault.forget(UID)
    assert not door.decides(GOOD).enrol_again, "and nobody who is unknown stops the door"
    assert door.history.voice_refusals(UID) is None


class Full:
    """A trail whose log takes nothing."""

    def note(self, *_: object, **__: object) -> None:
        raise OutboxError("full")


def test_a_log_that_takes_nothing_changes_no_decision(door: Door) -> None:
    door.trail = cast(AuditTrail, Full())
    for _ in range(3):
        assert door.decides(OTHER_VOICE) == decided(OTHER_VOICE)


class Seen:
    def __init__(self) -> None:
        self.cues: list[Cue] = []

    def show(self, cue: Cue) -> None:
        self.cues.append(cue)


@pytest.mark.parametrize("code", languages())
def test_the_door_says_it_after_its_welcome_and_to_nobody_who_stays_outside(code: str) -> None:
    spoken, seen = language(code), Seen()
    shows = Feedback(spoken, [seen])
    for made in (GOOD, OTHER_VOICE):
        shows.tell(replace(decided(made), enrol_again=True))
    asked = spoken.notice(Notice.ENROL_AGAIN)
    assert seen.cues[0].text == f"{spoken.notice(Notice.WELCOME)} {asked}"
    assert asked not in seen.cues[1].text


def attempt(unit: Unit, said: Reading) -> Decision:
    door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
    claim, recorder = Claim(ClaimKind.BADGE, UID), Recorder()
    (made,) = app.run(
        saying(unit, said.text), [claim], FileSource(said.path), "door-1", door, recorder, Event()
    )
    assert recorder.decisions == [made], "what was decided is what was told"
    return made


def test_at_a_real_door_another_voice_that_says_the_words_is_counted(
    tmp_path: Path, models: Path, reader: list[Reading], other_reader: list[Reading]
) -> None:
    settings = Settings()
    with open_unit(settings, tmp_path, models) as unit:
        tools = Tools(unit.judge, unit.store, settings, tmp_path)
        enrol(tools, UID, named([one.path for one in other_reader[:3]]), reason="operator")
        made = [attempt(unit, reader[number]) for number in (0, 2, 3, 4)]
        counted = [one for one in made if of_the_voice_alone(one)]
        assert len(counted) >= 3, [one.reason for one in made]
        assert not unit.controller.should_enrol_again(UID, 1, today(unit) - 1), "that was not yesterday"
        assert unit.controller.should_enrol_again(UID, 1, today(unit))
        unit.log.seal(unit.store.audit_signer)
        batch = unit.log.batch_after(0)
        assert batch is not None
        told = [Record.from_bytes(body).event for body in batch.bodies]
        assert [one.count for one in told if one.kind == KIND] == [3]
