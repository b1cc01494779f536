"""What a running unit does for itself, on a real store and a real log: and what the log then says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from device.clock import Now
from device.secure_store import Consent, Store, StoreSettings, Template, open_store
from device.secure_store.errors import StoreError, TpmBusyError
from device.settings import Settings
from device.unit import upkeep
from device.unit.assembly import Unit
from device.unit.audit import Witness
from device.unit.notes import AUDIT_FILE, note_person
from device.unit.upkeep import DAY_S, Upkeep
from sync.events import AuditEvent, Record, pseudonym
from sync.outbox import Outbox
from tests.sync.parts import SoftwareSigner

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

    def upkeep(self) -> Upkeep:
        witness = Witness(self.log.next_boot(), self.clock().monotonic_s, b"k" * 32, "software", "rules-3")
        parts = SimpleNamespace(clock=self.clock, store=self.store, log=self.log, witness=witness)
        return Upkeep(cast(Unit, parts), "door-1")

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
            tmp_path / AUDIT_FILE,
            unit="site-1/unit-1",
            doors={"door-1"},
            now_ms=lambda: int(clock().wall.timestamp() * 1000),
        ) as log,
    ):
        yield Door(clock, store, log)


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


def test_people_whose_consent_ran_out_are_forgotten_once_a_day(door: Door) -> None:
    for uid, days in (("4711", 0.5), ("4712", 0.6), ("4713", 30)):
        enrol(door.store, uid, days)
    keeper = door.upkeep()
    keeper.look()
    door.clock.passes(DAY_S - 1)
    keeper.look()
    assert (door.store.vault.uids(), door.told()) == (("4711", "4712", "4713"), [])
    door.clock.passes(1)
    keeper.look()
    assert door.store.vault.uids() == ("4713",)
    assert door.told() == [("CONSENT_EXPIRED", "consent_expired", 2)]


class Trouble:
    """A key store or vault that does not answer; everything else is the real one's."""

    def __init__(self, real: object, err: Exception) -> None:
        self._real, self.err = real, err

    def __getattr__(self, name: str) -> object:
        if name in ("status", "purge_expired"):
            raise self.err
        return getattr(self._real, name)


def test_trouble_is_told_when_it_comes_and_again_only_after_it_went(door: Door) -> None:
    keeper = door.upkeep()
    keeper.look()
    keystore = door.store.keystore
    for broken in (True, True, False, True):
        busy = Trouble(keystore, TpmBusyError("busy"))
        door.store.keystore = busy if broken else keystore  # type: ignore[assignment]
        keeper.look()
    door.store.keystore = keystore
    assert door.told() == [("FAULT", "tpm_fault", None)] * 2


def test_a_vault_that_cannot_be_read_is_told_and_stops_nothing(door: Door) -> None:
    vault = door.store.vault
    door.store.vault = Trouble(vault, StoreError("gone"))  # type: ignore[assignment]
    keeper = door.upkeep()
    keeper.look()
    door.store.vault = vault
    assert ("FAULT", "store_fault", None) in door.told()


def test_the_thread_does_its_first_look_at_once_and_outlives_what_it_did_not_expect(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY_S", 0.01)
    enrol(door.store, "4711", 0.5)
    door.clock.passes(DAY_S)
    vault = door.store.vault
    door.store.vault = Trouble(vault, RuntimeError("a bug"))  # type: ignore[assignment]
    keeper = door.upkeep()
    with keeper:
        time.sleep(0.1)
        door.store.vault = vault
        door.clock.passes(DAY_S)
        deadline = time.monotonic() + 10
        while door.store.vault.uids() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert door.store.vault.uids() == ()


def test_an_enrolment_beside_the_door_leaves_a_pseudonym_and_a_record_and_no_badge(
    door: Door, tmp_path: Path
) -> None:
    enrol(door.store, "badge-4711", 30)
    record = door.store.vault.record_id("badge-4711")
    settings = replace(Settings(), store=LAPTOP)
    more = {"uid": "badge-4711", "record": record, "count": 3}
    with door.upkeep():
        note_person(door.store, settings, tmp_path, door.clock, "ENROLLED", "operator", **more)  # type: ignore[arg-type]
    (event,) = [event for event in door.events() if event.kind == "ENROLLED"]
    key = door.store.pseudonym_key()
    assert (event.person, event.attempt, event.count) == (pseudonym(key, "badge-4711"), record, 3)
    assert event.boot == 1
    assert b"4711" not in (tmp_path / AUDIT_FILE).read_bytes()
