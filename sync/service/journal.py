"""Logs of a service: to systemd's journal with fields where it runs, else to standard error.

A record's `fields`, given as `extra={"fields": {...}}`, become fields of the journal: `journalctl
OSTIARY_OUTCOME=DENIED_VOICE` finds them. They hold codes and figures, never a person.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import traceback
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def set_up(level: int, form: str, environment: Mapping[str, str] = os.environ, journal: str = SOCKET) -> None:
    """Log from `level` on. `form` is for standard error."""
    if "JOURNAL_STREAM" in environment and os.path.exists(journal):  # noqa: PTH110 - a socket is no file
        logging.basicConfig(level=level, handlers=[JournalHandler(journal)])
    else:
        logging.basicConfig(level=level, format=form)


class JournalHandler(logging.Handler):
    """One datagram a record, in the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + "".join(traceback.format_exception(*record.exc_info))
        fields = {
            "MESSAGE": message,
            "PRIORITY": str(next((p for level, p in _PRIORITIES if record.levelno >= level), 7)),
            "OSTIARY_LOGGER": record.name,
            "CODE_FUNC": record.funcName or "",
            "CODE_LINE": str(record.lineno),
            **{
                f"OSTIARY_{name.upper()}": str(value) for name, value in getattr(record, "fields", {}).items()
            },
        }
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(1.0)
                link.sendto(b"".join(_field(*item) for item in fields.items())[:200_000], self._address)
        except OSError:
            self.handleError(record)


def _field(name: str, value: str) -> bytes:
    raw = value.encode("utf-8", "replace")
    if b"\n" not in raw:
        return name.encode() + b"=" + raw + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
