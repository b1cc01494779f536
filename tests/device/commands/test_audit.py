"""`ostiary audit` on a unit of its own: export, rotation, and a new log after the old one was lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device.cli import cli
from device.clock import system_clock
from device.commands.installed.doctor import check_audit_log
from device.errors import DeviceError
from device.secure_store import open_store
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import open_log, open_trail, rules_of
from device.uplink.archive import files
from sync.outbox import Outbox, OutboxRollbackError
from sync.outbox.unit_events import unit_event


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("OSTIARY_CONFIG", raising=False)
    return tmp_path


@contextmanager
def started(state: Path) -> Iterator[Outbox]:
    """The log as `ostiary run` opens it."""
    settings = Settings()
    with (
        open_store(state, settings.store, warn=lambda _: None) as store,
        open_log(
            settings,
            state,
            rules_of(state, "door-1"),
            system_clock,
            counter=store.keystore.counter("audit"),
            never_used=store.never_used("audit"),
        ) as log,
    ):
        yield log


def write(log: Outbox, count: int) -> None:
    for number in range(count):
        log.append(
            unit_event("FAULT", "none", door="door-1", time_ms=number, keystore="software"),
            other_process=True,
        )


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_an_export_verifies_and_leaves_the_log_as_it_is(state: Path) -> None:
    with started(state) as log:
        write(log, 7)
    assert run("audit", "export", "-o", str(state / "all.bundle")).exit_code == 0
    assert run("audit", "verify", str(state / "all.bundle")).exit_code == 0
    with started(state) as log:
        assert log.status().pending == 7


def test_a_rotated_log_goes_on_where_it_was_and_all_of_it_verifies(state: Path) -> None:
    for _ in range(2):
        with started(state) as log:
            write(log, 5)
            assert run("audit", "rotate").exit_code == 0  # beside the running unit
    spans = [(first, last) for _, first, last in files(StateFolder(state).audit_archive)]
    assert spans == [(1, 5), (6, 10)]
    for path, first, _ in files(StateFolder(state).audit_archive):
        assert run("audit", "verify", str(path), "--from", str(first)).exit_code == 0
    assert run("audit", "verify", str(path)).exit_code == 1, "nobody said where the events before it are"


def test_a_log_that_was_removed_stops_the_unit_until_somebody_starts_over(state: Path) -> None:
    with started(state) as log:
        write(log, 3)
    shutil.rmtree(StateFolder(state).audit_log.parent)
    with pytest.raises(DeviceError, match="audit start-over"):
        check_audit_log(Settings())
    with pytest.raises(OutboxRollbackError, match="audit start-over"), started(state):
        pass
    assert run("audit", "start-over", "--yes").exit_code == 0
    with started(state) as log:
        write(log, 1)
        assert log.status().sequence == 2
    assert "2 events" in check_audit_log(Settings())


def test_nobody_writes_beside_a_log_that_was_removed(state: Path) -> None:
    """Neither `enroll`, `decide` and `forget` nor the facade: each writes through this trail."""
    settings = Settings()

    def noted() -> None:
        with (
            open_store(state, settings.store, warn=lambda _: None) as store,
            open_trail(store, settings, state) as trail,
        ):
            trail.note("FAULT", "operator", settings.door.name)

    noted()  # on a unit whose door never ran
    with started(state):
        noted()  # beside a door that runs
    noted()
    shutil.rmtree(StateFolder(state).audit_log.parent)
    for _ in range(2):  # the first leaves an empty log behind
        with pytest.raises(OutboxRollbackError, match="audit start-over"):
            noted()
        with pytest.raises(OutboxRollbackError, match="audit start-over"):
            check_audit_log(settings)
    assert run("audit", "start-over", "--yes").exit_code == 0
    noted()
    with started(state) as log:
        assert log.status().sequence == 2


def test_starting_over_keeps_what_was_there(state: Path) -> None:
    with started(state) as log:
        write(log, 3)
    assert run("audit", "start-over", "--yes").exit_code == 0
    kept = [
        path for path in StateFolder(state).audit_log.parent.glob("outbox.db.2*") if path.suffix != ".ballast"
    ]
    assert kept
    with started(state) as log:
        assert log.status().sequence == 1


def test_a_unit_without_a_log_says_when_it_begins(state: Path) -> None:
    answer = run("audit", "export", "-o", str(state / "all.bundle"))
    assert answer.exit_code != 0
    assert "ostiary run" in str(answer.exception)
