"""Alarms to a syslog server, as CEF: what a hospital's security monitoring reads.

One connection an alarm, framed by RFC 6587 3.4.1 (RFC 5425 with TLS), messages by RFC 5424. Syslog has no
acknowledgement: a server that dies after it has taken the bytes has lost that alarm. UDP is not offered.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sync.errors import SyncError
from sync.registry.sinks.trust import LOCAL, sign, trusting

FACILITY = 10
"""authpriv: security and authorisation."""
_SEVERITIES = {"critical": (2, 10), "warning": (4, 6), "info": (6, 3)}
"""Severity -> (syslog's number, CEF's number)."""


@dataclass(frozen=True, slots=True)
class Syslog:
    """A server that takes syslog over TLS; plain TCP to this machine's own relay alone."""

    name: str
    host: str
    port: int = 6514
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    secret_file: Path | None = None
    """Signs each line; the signature is `cs2`, over the line before it."""
    tls: bool = True
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.tls and self.host not in LOCAL:
            raise SyncError(
                f"the syslog server of {self.name} is reached by TLS, unless it is on this machine"
            )

    def send(self, alarm: Mapping[str, Any]) -> None:
        line = cef(alarm)
        if self.secret_file is not None:
            signature = sign(self.secret_file, line.encode(), int(time.time()))
            line += f" cs2Label=signature cs2={_value(signature)}"
        level, _ = _SEVERITIES.get(str(alarm["severity"]), _SEVERITIES["info"])
        at = dt.datetime.fromtimestamp(int(alarm["last_ms"]) / 1000, dt.UTC)
        stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
        head = f"<{FACILITY * 8 + level}>1 {stamp} {_word(socket.gethostname(), 255)} ostiary - "
        message = f"{head}{_word(str(alarm['kind']), 32)} - {line}".encode()
        try:
            with contextlib.ExitStack() as stack:
                stream = stack.enter_context(
                    socket.create_connection((self.host, self.port), timeout=self.timeout_s)
                )
                if self.tls:
                    context = trusting(self.ca, self.certificate, self.key)
                    stream = stack.enter_context(context.wrap_socket(stream, server_hostname=self.host))
                stream.sendall(b"%d %s" % (len(message), message))
                stream.shutdown(socket.SHUT_WR)
                # A server that refuses us under TLS 1.3 says so only now.
                while stream.recv(4096):
                    pass
        except OSError as err:
            raise SyncError(
                f"the syslog server of {self.name} cannot be used ({type(err).__name__})"
            ) from None


def cef(alarm: Mapping[str, Any]) -> str:
    """An alarm as one line of ArcSight's Common Event Format."""
    _, severity = _SEVERITIES.get(str(alarm["severity"]), _SEVERITIES["info"])
    kind = str(alarm["kind"])
    header = ("Ostiary", "registry", metadata.version("ostiary"), kind, kind.replace("_", " ").capitalize())
    words = {
        "externalId": alarm["id"],
        "start": alarm["raised_ms"],
        "end": alarm["last_ms"],
        "cnt": alarm["times"],
        "dvchost": alarm["unit"] or alarm["site"] or "",
        "cs1Label": "evidence",
        "cs1": json.dumps(alarm["evidence"], sort_keys=True),
        "cs3Label": "door",
        "cs3": alarm["door"] or "",
    }
    extension = " ".join(f"{name}={_value(str(value))}" for name, value in words.items() if value != "")
    return f"CEF:0|{'|'.join(map(_header, header))}|{severity}|{extension}"


def _header(text: str) -> str:
    return _plain(text).replace("\\", "\\\\").replace("|", "\\|")


def _value(text: str) -> str:
    return _plain(text).replace("\\", "\\\\").replace("=", "\\=")


def _plain(text: str) -> str:
    """Text on one line: a door's name must not begin a second event."""
    return "".join(c if c.isprintable() else " " for c in text)


def _word(text: str, most: int) -> str:
    return "".join(c for c in text if 32 < ord(c) < 127)[:most] or "-"
