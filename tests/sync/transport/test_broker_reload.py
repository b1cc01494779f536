"""How the broker is told of a new list of revoked certificates."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from sync.errors import SyncError
from sync.fleet.provisioning.guard import reload_by_pid

NOBODY = 65534


def told_as_nobody(path: Path) -> int:
    """0 when a process with no rights got through, 1 when it was an error."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            reload_by_pid(path)()
        except Exception:  # noqa: BLE001 - the child ends here, whatever it was
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_broker_of_this_user_is_told_by_a_signal(tmp_path: Path) -> None:
    heard = threading.Event()
    before = signal.signal(signal.SIGHUP, lambda *_: heard.set())
    try:
        pid = tmp_path / "pid"
        pid.write_text(f"{os.getpid()}\n")
        reload_by_pid(pid)()
        assert heard.wait(180)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_broker_of_another_user_is_left_to_systemd(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert told_as_nobody(pid) == 0
    pid.write_text("1\n")
    assert told_as_nobody(pid) == 0
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    assert told_as_nobody(closed / "pid") == 0


def test_a_damaged_number_is_said(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    pid.write_text("no number")
    with pytest.raises(SyncError, match="cannot be told"):
        reload_by_pid(pid)()


def test_in_service_the_broker_is_started_anew_and_nobody_reloads_it() -> None:
    """A reload can crash mosquitto 2.0.11 (ADR 85); Debian's logrotate asks for one."""
    unit = Path("systemd/ostiary-broker-reload.service").read_text()
    assert "ExecStart=/usr/bin/systemctl try-restart mosquitto.service" in unit
    assert "HUP" not in unit
    guide = Path("docs/operator/provisioning.md").read_text()
    assert "ExecReload=\nExecReload=/bin/true\n" in guide
