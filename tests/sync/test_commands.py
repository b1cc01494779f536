"""Commands: obeyed once, in order, in time, from the registry, by the unit they are for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sync import cose
from sync.commands import ACTIONS, Command, CommandDesk, CommandLedger
from sync.errors import MalformedError, ProofError, SyncError
from sync.events import unit_id
from sync.keys import FileSigner
from tests.sync.parts import START_MS, UNIT, Clock

REGISTRY = FileSigner.generate()
NAME = unit_id(UNIT)


def command(counter: int = 1, **changes: Any) -> Command:
    fields = {"issued_ms": START_MS, "expires_ms": START_MS + 60_000, "action": "lock_down", **changes}
    return Command(fields.pop("unit", NAME), counter, **fields)


class Desk:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.obeyed: list[Mapping[str, Any]] = []
        ledger = CommandLedger(folder / "counter")
        self.desk = CommandDesk(
            NAME, REGISTRY.public_key(), ledger, self.clock, {"lock_down": self.obeyed.append}
        )

    def hears(self, made: Command, signer: FileSigner = REGISTRY) -> None:
        self.desk(made.signed(signer))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_command_is_obeyed_once_also_across_a_restart(desk: Desk, tmp_path: Path) -> None:
    desk.hears(command(arguments={"doors": "all"}))
    again = Desk(tmp_path)
    for known in (desk, again):
        with pytest.raises(ProofError, match="obeyed before"):
            known.hears(command())
    again.hears(command(5))
    with pytest.raises(ProofError):
        again.hears(command(4))
    assert (desk.obeyed, len(again.obeyed)) == ([{"doors": "all"}], 1)


@pytest.mark.parametrize(
    ("changes", "seconds"), [({}, 61), ({}, -120), ({"unit": unit_id("st-mary/icu-3")}, 0)]
)
def test_a_late_early_or_foreign_command_is_refused(
    desk: Desk, changes: dict[str, Any], seconds: int
) -> None:
    desk.clock.now_ms += seconds * 1000
    with pytest.raises(ProofError):
        desk.hears(command(**changes))
    assert desk.obeyed == []


def test_a_forged_command_a_receipt_and_noise_are_refused(desk: Desk) -> None:
    with pytest.raises(ProofError):
        desk.hears(command(), FileSigner.generate())
    other = cose.sign1(command()._to_bytes(), REGISTRY, "application/ostiary-receipt+cbor")
    for message in (other, b"", b"\xff" * 99, command().signed(REGISTRY)[:-1]):
        with pytest.raises((MalformedError, ProofError)):
            desk.desk(message)
    assert desk.obeyed == []


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "open_all_doors"},
        {"expires_ms": START_MS},
        {"expires_ms": START_MS + 10**10},
        {"arguments": {"Name": "x"}},
        {"arguments": {"name": 1.5}},
        {"counter": 0},
    ],
)
def test_a_command_that_says_too_much_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        command(**changes)


def test_a_damaged_ledger_obeys_nothing(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("seven")
    with pytest.raises(SyncError, match="damaged"):
        desk.hears(command())
    assert desk.obeyed == []


def test_there_is_no_command_that_opens_a_door() -> None:
    assert not any("open" in action or "unlock" in action for action in ACTIONS)
