"""What a running unit does for itself, on a real store and a real log: and what the log then says."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from device.access.controller import AccessController
from device.access.memory.history import History
from device.access.memory.timekeeping import Timekeeper, TimeSeen
from device.access.rules import Person, Rules, default_rules
from device.access.voices import is_enrolled
from device.clock import Now
from device.secure_store import Consent, Growing, Store, StoreSettings, Template, open_store
from device.secure_store.errors import ConsentError, StoreError, TpmBusyError
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Unit, open_trail
from device.unit.audit import AuditTrail, EventContext
from device.unit.upkeep import DAY_S, LOOK_EVERY_S, Upkeep
from sync.events import AuditEvent, Record, pseudonym
from sync.outbox import Outbox
from tests.sync.parts import SoftwareSigner
from tests.waiting import wait_until

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LAPTOP = StoreSettings(profile="laptop", keystore="software")


class Clock:
    def __init__(self) -> None:
        self.now = Now(START, 50.0)

    def __call__(self) -> Now:
        return self.now

    def passes(self, seconds: float) -> None:
        wall = self.now.wall + timedelta(seconds=seconds)
        self.now = Now(wall, self.now.monotonic_s + seconds)


@dataclass
class Door:
    """The parts of a unit that upkeep looks after."""

    clock: Clock
    store: Store
    log: Outbox
    controller: AccessController
    history: History
    rules: Rules = field(default_factory=lambda: replace(default_rules("door-1"), version=3))
    follows: bool = True

    def upkeep(
        self, certificate: Callable[[datetime], str] = lambda _: "", every_s: float = LOOK_EVERY_S
    ) -> Upkeep:
        context = EventContext(self.log.next_boot(), self.clock().monotonic_s, b"k" * 32, "software")
        trail = AuditTrail(self.log, context, lambda: self.rules, self.clock)
        parts = SimpleNamespace(
            clock=self.clock,
            store=self.store,
            log=self.log,
            trail=trail,
            controller=self.controller,
            follows_at=lambda _: self.follows,
        )
        return Upkeep(cast(Unit, parts), "door-1", certificate=certificate, every_s=every_s)

    def events(self) -> list[AuditEvent]:
        self.log.seal(SoftwareSigner())
        found, position = [], 0
        while batch := self.log.batch_after(position):
            found += [Record.from_bytes(body).event for body in batch.bodies]
            position = batch.size
        return found

    def told(self) -> list[tuple[str, str, int | None]]:
        return [(event.kind, event.reason, event.count) for event in self.events()]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    clock = Clock()
    with (
        open_store(tmp_path, LAPTOP, clock=lambda: clock().wall, warn=lambda _: None) as store,
        Outbox(
            StateFolder(tmp_path).audit_log,
            unit="site-1/unit-1",
            doors={"door-1"},
            now_ms=lambda: int(clock().wall.timestamp() * 1000),
        ) as log,
        closing(
            History(tmp_path / "history", store.keystore.counter("attempts"), store.mac, opened_s=0.0)
        ) as history,
    ):
        enrolled = partial(is_enrolled, store.vault)
        controller = AccessController(
            "site-1/unit-1", default_rules("door-1"), history, store.mac, enrolled=enrolled
        )
        yield Door(clock, store, log, controller, history)


def enrol(store: Store, uid: str, days: float) -> None:
    rng = np.random.default_rng(len(uid))
    vector = rng.standard_normal(192).astype(np.float32)
    consent = Consent("m.admin", START, LAPTOP.consent_text_version, START + timedelta(days=days))
    store.vault.enrol(uid, Template("campplus-1", vector / np.float32(np.linalg.norm(vector)), 3), consent)


def test_a_unit_says_that_it_started_without_a_tpm_and_that_it_stopped(door: Door) -> None:
    with door.upkeep():
        pass
    assert door.told() == [
        ("BOOT", "started", None), ("FAULT", "software_keystore", None), ("SHUTDOWN", "stopped", None),
    ]  # fmt: skip
    assert {(event.boot, event.policy, event.keystore) for event in door.events()} == {
        (1, "rules-3", "software")
    }


def settle(door: Door, looking: Upkeep) -> None:
    """The unit runs until its clock may be believed."""
    for _ in range(4):
        looking.look()
        door.clock.passes(DAY_S)


def test_people_whose_consent_ran_out_are_forgotten_one_after_the_other_once_a_day(door: Door) -> None:
    looking = door.upkeep()
    settle(door, looking)
    for uid, days in (("4711", 4.5), ("4712", 4.6), ("4713", 30)):
        enrol(door.store, uid, days)
    looking.look()
    assert (door.store.vault.uids(), door.told()) == (("4711", "4712", "4713"), [])
    door.clock.passes(DAY_S)
    looking.look()
    looking.look()
    assert door.store.vault.uids() == ("4712", "4713"), "the one of longest ago"
    door.clock.passes(DAY_S)
    looking.look()
    assert door.store.vault.uids() == ("4713",)
    assert door.told() == [("CONSENT_EXPIRED", "consent_expired", 1)] * 2


def test_a_start_with_a_clock_of_2040_erases_nobody_and_is_in_the_log(door: Door) -> None:
    for number in range(20):
        enrol(door.store, "9" * (number + 1), 300)
    looking = door.upkeep()
    settle(door, looking)
    door.clock.now = Now(datetime(2040, 1, 1, tzinfo=UTC), door.clock.now.monotonic_s + 60.0)
    for _ in range(2):
        looking.look()
        door.clock.passes(DAY_S)
    assert len(door.store.vault.uids()) == 20
    with pytest.raises(ConsentError):  # meanwhile nobody is let in on a consent that ran out
        door.store.vault.template("9")
    assert door.told() == [("CLOCK_SET", "clock_fault", 1)]
    for _ in range(2):
        door.clock.passes(DAY_S)
        looking.look()
    assert 15 <= len(door.store.vault.uids()) < 20, "after days of 2040, slowly: somebody can still say stop"


def test_the_first_look_of_a_start_with_a_clock_of_2045_is_in_the_log_and_a_long_weekend_is_not(
    door: Door,
) -> None:
    door.upkeep().look()
    kept = door.controller.time.seen
    for days, told in ((4, 0), (18 * 365, 1)):
        starts = Timekeeper(kept)
        starts.look(Now(START + timedelta(days=days), 3.0))
        assert starts.jumps() == told
    never = Timekeeper(TimeSeen())
    never.look(Now(START, 3.0))
    assert never.jumps() == 0, "a new unit has seen no time"


def test_a_clock_set_back_is_told_once_and_stays_a_fault_until_somebody_acts(door: Door) -> None:
    looking = door.upkeep()
    looking.look()
    door.clock.now = Now(START - timedelta(days=9), door.clock.now.monotonic_s + 60.0)
    for _ in range(3):
        looking.look()
        door.clock.passes(300)
    assert door.told() == [("CLOCK_SET", "clock_fault", 1), ("FAULT", "clock_fault", None)]
    assert "trust-clock" in looking.trouble()
    door.controller.trust_clock(door.clock())
    looking.look()
    assert looking.trouble() == ""


def test_a_person_who_is_purged_is_gone_from_the_memory_of_attempts_too(door: Door) -> None:
    looking = door.upkeep()
    settle(door, looking)
    enrol(door.store, "4711", 4.5)
    door.history.charge("person:4711", 0.0)
    door.clock.passes(DAY_S)
    looking.look()
    assert door.history.failing() == {}


def test_attempts_of_people_who_are_not_known_here_go_at_the_start_and_each_day(door: Door) -> None:
    """A power cut came after the vault had dropped ANNA, and before her attempts were forgotten."""
    door.controller.rules = replace(door.rules, people={"4712": Person("4712", frozenset())})
    enrol(door.store, "4711", 300)
    for who in ("person:ANNA", "person:4711", "person:4712", "door:door-1"):
        door.history.charge(who, 0.0)
    looking = door.upkeep()
    looking.look()
    assert door.history.failing() == {"person:4711": 1, "person:4712": 1, "door:door-1": 1}
    door.history.charge("person:BRUNO", 0.0)
    looking.look()
    assert "person:BRUNO" in door.history.failing()
    door.clock.passes(DAY_S)
    looking.look()
    assert "person:BRUNO" not in door.history.failing()


def test_attempts_of_a_person_whose_record_is_damaged_stay(door: Door, tmp_path: Path) -> None:
    enrol(door.store, "4711", 300)
    door.history.charge("person:4711", 0.0)
    vault = door.store.vault
    door.store.vault = Damaged(vault)  # type: ignore[assignment]
    door.upkeep().look()
    door.store.vault = vault
    assert door.history.failing() == {"person:4711": 1}


class Damaged:
    """A vault whose only record cannot be read."""

    def __init__(self, real: object) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def status(self) -> object:
        return SimpleNamespace(damaged=("a record",))

    def uids(self) -> tuple[str, ...]:
        return ()


def test_who_is_purged_is_in_the_log_though_the_memory_of_attempts_cannot_be_written(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looking, into_place = door.upkeep(), os.replace
    settle(door, looking)
    enrol(door.store, "4711", 4.5)
    door.history.charge("person:4711", 0.0)
    door.clock.passes(DAY_S)

    def replace(made: Path, path: Path) -> None:
        if Path(path).name == "history":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        into_place(made, path)

    monkeypatch.setattr(os, "replace", replace)
    looking.look()
    assert door.store.vault.uids() == ()
    assert door.told() == [("CONSENT_EXPIRED", "consent_expired", 1), ("FAULT", "store_fault", None)]
    assert "nobody whose consent" not in caplog.text


class Trouble:
    """A key store or vault that does not answer; everything else is the real one's."""

    def __init__(self, real: object, err: Exception) -> None:
        self._real, self.err = real, err

    def __getattr__(self, name: str) -> object:
        if name in ("status", "purge_expired"):
            raise self.err
        return getattr(self._real, name)


def test_trouble_is_told_when_it_comes_and_again_only_after_it_went(door: Door) -> None:
    looking = door.upkeep()
    looking.look()
    keystore = door.store.keystore
    for broken in (True, True, False, True):
        busy = Trouble(keystore, TpmBusyError("busy"))
        door.store.keystore = busy if broken else keystore  # type: ignore[assignment]
        looking.look()
    door.store.keystore = keystore
    assert door.told() == [("FAULT", "tpm_fault", None)] * 2


def test_a_vault_that_cannot_be_read_is_told_and_stops_nothing(door: Door) -> None:
    vault = door.store.vault
    door.store.vault = Trouble(vault, StoreError("gone"))  # type: ignore[assignment]
    looking = door.upkeep()
    looking.look()
    door.store.vault = vault
    assert ("FAULT", "store_fault", None) in door.told()


def test_the_thread_does_its_first_look_at_once_and_outlives_what_it_did_not_expect(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    settle(door, door.upkeep())
    enrol(door.store, "4711", 4.5)
    door.clock.passes(DAY_S)
    vault = door.store.vault
    door.store.vault = Trouble(vault, RuntimeError("a bug"))  # type: ignore[assignment]
    looking = door.upkeep(every_s=0.01)
    with looking:
        wait_until(lambda: "health failed" in caplog.text)
        door.store.vault = vault
        door.clock.passes(DAY_S)
        wait_until(lambda: not door.store.vault.uids())
    assert door.store.vault.uids() == ()


def test_an_enrolment_beside_the_door_leaves_a_pseudonym_and_a_record_and_no_badge(
    door: Door, tmp_path: Path
) -> None:
    enrol(door.store, "BADGE4711", 30)
    record = door.store.vault.record_id("BADGE4711")
    settings = replace(Settings(), store=LAPTOP)
    more = {"uid": "BADGE4711", "record": record, "count": 3}
    with door.upkeep(), open_trail(door.store, settings, tmp_path, door.clock) as trail:
        trail.note("ENROLLED", "operator", "door-1", **more)  # type: ignore[arg-type]
    (event,) = [event for event in door.events() if event.kind == "ENROLLED"]
    key = door.store.pseudonym_key()
    assert (event.person, event.attempt, event.count) == (pseudonym(key, "BADGE4711"), record, 3)
    assert event.boot == 1
    assert b"4711" not in StateFolder(tmp_path).audit_log.read_bytes()


def test_what_upkeep_writes_names_the_rules_in_force_and_not_those_of_the_start(door: Door) -> None:
    looking = door.upkeep()
    settle(door, looking)
    enrol(door.store, "4711", 4.5)
    door.rules = replace(door.rules, version=4)
    door.clock.passes(DAY_S)
    looking.look()
    door.store.keystore = Trouble(door.store.keystore, TpmBusyError("busy"))  # type: ignore[assignment]
    looking.look()
    assert [(event.kind, event.policy) for event in door.events()] == [
        ("CONSENT_EXPIRED", "rules-4"),
        ("FAULT", "rules-4"),
    ]


def test_an_event_beside_a_broken_rules_file_is_written_without_its_version(
    door: Door, tmp_path: Path
) -> None:
    StateFolder(tmp_path).rules.write_text("version = ")
    with open_trail(door.store, replace(Settings(), store=LAPTOP), tmp_path, door.clock) as trail:
        trail.note("ENROLLED", "operator", "door-1")
    (event,) = [event for event in door.events() if event.kind == "ENROLLED"]
    assert event.policy is None


def test_a_certificate_that_ends_soon_is_an_event_before_it_ends_and_told_once(door: Door) -> None:
    trouble = ""
    looking = door.upkeep(lambda _: trouble)
    looking.look()
    trouble = "our certificate ends in 19 days"
    for _ in range(3):
        looking.look()
    assert door.told() == [("FAULT", "certificate_ends", None)]
    assert "ends soon" in looking.trouble()
    trouble = ""
    looking.look()
    assert looking.trouble() == ""


def test_where_voices_follow_no_more_what_was_followed_is_dropped_and_on_record(door: Door) -> None:
    enrol(door.store, "4711", 30)
    enrol(door.store, "47112", 30)
    rows = np.eye(192, dtype=np.float32)[:2]
    door.store.vault.follow("4711", Growing("campplus-1", (3, 4), rows))
    door.upkeep().look()
    assert door.store.vault.followed() == {"4711": (3, 4)}
    door.follows = False
    looking = door.upkeep()
    looking.look()
    looking.look()
    assert door.store.vault.followed() == {}
    assert door.told() == [("VOICE_FOLLOWS_DROPPED", "follows_no_more", 2)]
