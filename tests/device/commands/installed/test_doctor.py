"""Whatever stops `ostiary run` is found by `ostiary doctor`, with what to do."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from device.access.memory.history import HistoryError, HistoryRollbackError
from device.commands.installed.doctor import Finding, check_fire_input, check_start, look_at
from device.liveness.errors import MemoryRollbackError
from device.secure_store import open_store
from device.secure_store.errors import (
    RollbackError,
    SealPolicyError,
    StoreError,
    StoreUnavailableError,
    TpmBusyError,
)
from device.secure_store.hardware.swtpm import two_free_ports
from device.secure_store.hardware.tpm_link import TpmLink
from device.secure_store.settings import StoreSettings
from device.settings import Settings, load
from device.state_folder import StateFolder
from sync.outbox import OutboxRollbackError
from tests.device.commands.conftest import Ostiary


def look() -> Finding:
    """What `doctor` says of the start."""
    return look_at("start", check_start, load(), "")


def junk_history(state: Path) -> str:
    with open_store(state, StoreSettings(profile="laptop", keystore="software"), warn=lambda _: None):
        StateFolder(state).history.write_bytes(b"junk")
    return ""


def other_door(state: Path) -> str:
    return '[door]\nname = "door-9"\n'


def unknown_language(state: Path) -> str:
    return '[door]\nlanguage = "xx"\n'


@pytest.mark.parametrize(
    ("fault", "told", "fix"),
    [
        (junk_history, "history", "start-over"),
        (other_door, "no door 'door-9'", "policy adopt"),
        (unknown_language, "no language `xx`", "[door] language"),
    ],
)
def test_what_stops_run_is_found_by_doctor_with_the_fix(
    ostiary: Ostiary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: object, told: str, fix: str
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    if fault is other_door:
        StateFolder(state).rules.write_text(ostiary("policy", "example").out)
    settings = tmp_path / "ostiary.toml"
    settings.write_text(fault(state))  # type: ignore[operator]
    monkeypatch.setenv("OSTIARY_CONFIG", str(settings))
    ran = ostiary("run", "--claim", "4711", "--source", "/usr/share/pocketsphinx/test/data/goforward.raw")
    assert ran.code == 3
    assert told in ran.err
    found = look()
    assert not found.well
    assert told in found.detail
    assert fix in found.fix


def test_a_unit_in_order_opens_for_doctor_too(ostiary: Ostiary) -> None:
    assert look() == Finding("start", True, "the unit opens as `ostiary run` opens it")


def test_rules_that_release_by_a_fire_input_want_its_wire(
    ostiary: Ostiary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    StateFolder(state).rules.write_text(ostiary("policy", "example").out)
    settings = tmp_path / "ostiary.toml"
    settings.write_text('[door]\nname = "ward-3"\n')
    monkeypatch.setenv("OSTIARY_CONFIG", str(settings))
    found = look_at("fire input", check_fire_input, load(), "")
    assert not found.well
    assert "`[door.gpio] fire`" in found.detail


def test_a_tpm_that_takes_connections_and_says_nothing_hangs_nobody() -> None:
    port = two_free_ports()
    with (
        socket.create_server(("127.0.0.1", port)),
        socket.create_server(("127.0.0.1", port + 1)),
    ):
        link = TpmLink(f"swtpm:host=127.0.0.1,port={port}", 0, answer_within_s=0.5)
        for _ in range(2):
            with pytest.raises(TpmBusyError, match="says nothing"):
                link.run(lambda tpm: tpm.get_random(8))


def test_a_tpm_that_is_away_names_the_tpm_and_no_command_that_needs_it(tmp_path: Path) -> None:
    link = TpmLink("swtpm:host=127.0.0.1,port=1", 0)
    found = look_at("store", lambda _: link.run(lambda tpm: ""), load(), "ostiary store status")
    assert "[store] tcti" in found.fix


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (StoreUnavailableError("vault.bin cannot be written"), "make room"),
        (RollbackError("the vault is older"), "tell security.* newest vault"),
        (HistoryRollbackError("the attempt history is gone"), "tell security.*policy start-over"),
        (MemoryRollbackError("the memory of utterances is gone"), "tell security.*policy start-over"),
        (OutboxRollbackError("the audit log is older"), "tell security.*audit start-over"),
        (HistoryError("the attempt history cannot be read"), "^find out why"),
        (SealPolicyError("this is not the TPM"), "own TPM and disk together"),
        (StoreError("something else"), "^ostiary store status$"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_doctor_tells_a_copy_that_was_put_back_from_a_disk_that_is_full(error: Exception, fix: str) -> None:
    def broken(_: Settings) -> str:
        raise error

    found = look_at("store", broken, load(), "ostiary store status")
    assert found.detail == str(error)
    assert re.search(fix, found.fix)
