"""Tells systemd that a service is ready, its state, and that it makes progress (sd_notify(3)).

The watchdog restarts a service that does not call `progress` in time. Call it after real work: a timer that
calls it would only prove that the timer runs.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from sync.plain_words import why

FEEDS_PER_PERIOD = 4
"""How often a watchdog's period is fed at most; systemd asks for two."""

log = logging.getLogger(__name__)


class ServiceManager:
    """Sends to the socket that systemd names to a service; does nothing where it names none."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environment.get("WATCHDOG_USEC", "0")
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.period_s = int(watched) / 1e6 if watched.isdigit() and for_us else 0.0
        """The watchdog's, 0 when there is none."""
        self._now_s = now_s
        self._told = ""
        self._fed_at_s = -self.period_s

    def ready(self, status: str) -> None:
        """The service can do its work now."""
        self._told = status
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it changes."""
        if text != self._told:
            self._told = text
            self._send(f"STATUS={_line(text)}")

    def progress(self) -> None:
        """Report that work was done. Cheap enough for every 20 ms of sound: most calls send nothing."""
        now_s = self._now_s()
        if self.period_s and now_s - self._fed_at_s >= self.period_s / FEEDS_PER_PERIOD:
            self._fed_at_s = now_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The service ends in order."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(1.0)
                link.connect(self._address)
                link.send(message.encode())
        except OSError as err:  # a service that cannot report still works; the watchdog decides on the rest
            log.warning("systemd could not be told %s: %s", message.partition("=")[0], why(err))


def _line(text: str) -> str:
    return " ".join(text.split())
