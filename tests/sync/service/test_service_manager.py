"""What systemd hears of a service, on a real socket like its own."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.service.service_manager import FEEDS_PER_PERIOD, ServiceManager


class Systemd:
    """The receiving end of $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "40000000"}

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest) -> Iterator[Systemd]:
    with tempfile.TemporaryDirectory() as folder:
        address = f"@ostiary-test-{os.getpid()}" if request.param == "abstract" else f"{folder}/notify"
        manager = Systemd(address)
        yield manager
        manager.close()


def test_a_service_that_is_ready_says_so_with_its_status_in_one_line(systemd: Systemd) -> None:
    ServiceManager(systemd.environment).ready("ready;\nnothing to do")
    assert systemd.heard() == ["READY=1\nSTATUS=ready; nothing to do"]


def test_a_status_is_sent_when_it_changes_and_not_with_every_frame_of_sound(systemd: Systemd) -> None:
    manager = ServiceManager(systemd.environment)
    for text in ("one", "one", "two"):
        manager.status(text)
    assert systemd.heard() == ["STATUS=one", "STATUS=two"]


def test_the_watchdog_is_fed_a_few_times_a_period_however_often_there_is_progress(systemd: Systemd) -> None:
    now_s = 0.0
    manager = ServiceManager(systemd.environment, lambda: now_s)
    assert manager.period_s == 40.0
    for tick in range(0, 40_000, 20):
        now_s = tick / 1_000
        manager.progress()
    assert systemd.heard() == ["WATCHDOG=1"] * FEEDS_PER_PERIOD


def test_a_watchdog_meant_for_another_process_is_not_fed(systemd: Systemd) -> None:
    manager = ServiceManager({**systemd.environment, "WATCHDOG_PID": str(os.getpid() + 1)})
    manager.progress()
    assert manager.period_s == 0.0
    assert systemd.heard() == []


def test_without_systemd_nothing_is_sent_and_nothing_fails() -> None:
    manager = ServiceManager({})
    manager.ready("ready")
    manager.progress()
    manager.stopping()


def test_a_service_manager_that_is_gone_is_logged_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000000"})
    with caplog.at_level(logging.WARNING):
        manager.ready("ready")
    assert "could not be told READY" in caplog.text
