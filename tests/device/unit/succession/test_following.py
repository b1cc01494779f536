"""A voiceprint follows its owner at a real door: real networks, real speech, days that pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from device import app
from device.access.claims import Claim, ClaimKind
from device.access.decision import Decision, Outcome
from device.access.voices import claimed
from device.audio import FileSource
from device.cli import cli
from device.secure_store import Vault
from device.settings import Settings
from device.unit.assembly import Tools, Unit, open_unit
from device.unit.enrolment import enrol, named
from device.unit.recordings import decide_recording
from device.unit.succession import following
from sync.events import AuditEvent, Record
from sync.outbox import OutboxError
from tests.device.door.plain_door import PlainDoor
from tests.device.test_app import Recorder, saying
from tests.device.unit.succession.test_growth import Days
from tests.speech import Reading

UID = "4711"


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.fixture
def unit(tmp_path: Path, models: Path, reader: list[Reading], days: Days) -> Iterator[Unit]:
    settings = Settings()
    with open_unit(settings, tmp_path, models, clock=days) as opened:
        tools = Tools(opened.judge, opened.store, settings, tmp_path, days)
        enrol(tools, UID, named([reader[n].path for n in (0, 1, 3)]), reason="operator")
        yield opened


def attempt(unit: Unit, said: Reading) -> Decision:
    door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
    claim = [Claim(ClaimKind.BADGE, UID)]
    parts = saying(unit, said.text)
    (made,) = app.run(parts, claim, FileSource(said.path), "door-1", door, Recorder(), Event())
    return made


def events(unit: Unit) -> list[AuditEvent]:
    unit.log.seal(unit.store.audit_signer)
    held = unit.log.held(1000)
    found = [] if held is None else [Record.from_bytes(body).event for body in held.bodies]
    return [one for one in found if one.kind.startswith("VOICE_")]


def with_rules(unit: Unit, *, follow: bool) -> None:
    rules = unit.controller.rules
    risks = {name: replace(risk, voices_follow=follow) for name, risk in rules.risks.items()}
    unit.controller.adopt(replace(rules, version=rules.version + 1, risks=risks))


def test_it_keeps_one_granted_attempt_a_day_on_record_and_an_administrator_takes_it_back(
    unit: Unit, reader: list[Reading], days: Days, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = unit.store.vault
    assert attempt(unit, reader[4]).outcome is Outcome.GRANTED
    (first,) = vault.followed()[UID]
    assert [(one.kind, one.reason, one.count) for one in events(unit)] == [
        ("VOICE_FOLLOWED", "well_inside", 1)
    ]
    assert attempt(unit, reader[2]).outcome is Outcome.GRANTED
    assert vault.followed()[UID] == (first,), "one a day"
    days.passed += 1
    assert attempt(unit, reader[2]).outcome is Outcome.DENIED_REPLAY
    assert vault.followed()[UID] == (first,), "a refusal is nothing to follow"
    with claimed(vault, UID, unit.judge.generations, follows=True) as voice:
        assert voice is not None
        assert voice.followed is not None
    with claimed(vault, UID, unit.judge.generations) as voice:
        assert voice is not None
        assert (voice.follows, voice.followed) == (False, None), (
            "recordings and the facade compare as enrolled"
        )
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    done = CliRunner().invoke(cli, ["store", "followed", "--drop", UID])
    assert done.exit_code == 0, done.output
    assert "dropped for 1 people" in done.stdout
    assert vault.followed() == {}
    assert [(one.kind, one.reason) for one in events(unit)][-1] == ("VOICE_FOLLOWS_DROPPED", "operator")
    again = CliRunner().invoke(cli, ["store", "followed", "--drop-all", "--json"])
    assert '"dropped": 0' in again.stdout


def test_by_rule_it_keeps_nothing(unit: Unit, reader: list[Reading], days: Days) -> None:
    with_rules(unit, follow=False)
    assert attempt(unit, reader[4]).outcome is Outcome.GRANTED
    by_setting = replace(unit, voices_follow=False)
    with_rules(unit, follow=True)
    days.passed += 1
    assert attempt(by_setting, reader[2]).outcome is Outcome.GRANTED
    assert (unit.store.vault.followed(), events(unit)) == ({}, [])


class Full:
    """A trail whose log takes no event of one kind; all else stays real."""

    def __init__(self, unit: Unit, kind: str) -> None:
        self.unit, self.kind = unit, kind

    def note(self, kind: str, *args: object, **named: object) -> None:
        if kind == self.kind:
            raise OutboxError("full")
        self.unit.trail.note(kind, *args, **named)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self.unit.trail, name)


def test_a_log_that_takes_nothing_leaves_the_voiceprint_as_it_was(unit: Unit, reader: list[Reading]) -> None:
    full = replace(unit, trail=Full(unit, following.KEPT))  # type: ignore[arg-type]
    assert attempt(full, reader[4]).outcome is Outcome.GRANTED
    assert unit.store.vault.followed() == {}


class CutError(BaseException):
    """The power goes."""


class Cut:
    """A vault before whose change the power goes; all else stays real."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def follow(self, *_: object) -> None:
        raise CutError

    def __getattr__(self, name: str) -> object:
        return getattr(self.vault, name)


def test_a_power_cut_between_event_and_vault_leaves_an_event_too_many_and_no_more(
    unit: Unit, reader: list[Reading], days: Days
) -> None:
    store = SimpleNamespace(vault=Cut(unit.store.vault))
    with pytest.raises(CutError):
        attempt(replace(unit, store=store), reader[4])  # type: ignore[arg-type]
    assert [one.kind for one in events(unit)] == ["VOICE_FOLLOWED"]
    assert unit.store.vault.followed() == {}
    days.passed += 1
    assert attempt(unit, reader[2]).outcome is Outcome.GRANTED
    assert [one.count for one in events(unit)] == [1, 1]


def test_a_recording_that_is_decided_beside_the_door_feeds_nothing_and_forgetting_erases_all(
    unit: Unit, reader: list[Reading], tmp_path: Path, days: Days
) -> None:
    settings = Settings()
    tools = Tools(unit.judge, unit.store, settings, tmp_path, days)
    said = reader[4]
    made, _ = decide_recording(tools, said.path, door="door-1", uid=UID, phrase=said.text)
    assert made.outcome is Outcome.GRANTED
    assert unit.store.vault.followed() == {}
    assert attempt(unit, said).outcome is Outcome.GRANTED
    followed = unit.store.vault.follows(UID)
    assert followed is not None
    unit.store.vault.forget(UID)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    row = followed.vectors[0]
    assert not any(row[at : at + 2].tobytes() in stored for at in range(len(row) - 1))
    assert unit.store.vault.followed() == {}
    assert attempt(unit, reader[2]).outcome is Outcome.DENIED_UNKNOWN
