"""The uplink's state in a small file beside the audit log, for `ostiary doctor`.

It is written only when something changes, to spare the card.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from device.errors import DeviceError
from sync.durable import replace_file
from sync.errors import MALFORMED
from sync.plain_file import open_plain
from sync.plain_words import why
from sync.transport.connecting import Validity

log = logging.getLogger(__name__)

NAME = "uplink.json"
MAX_BYTES = 4096
MAX_TROUBLE = 300
YEAR_10000_MS = 253_402_300_800_000
MODE = 0o640
"""For the group that shares the audit log."""


@dataclass(frozen=True, slots=True)
class UplinkState:
    """Since `since_ms` (Unix time) it is connected, or has `trouble`."""

    connected: bool
    since_ms: int
    trouble: str = ""
    """Why it cannot connect, or does not run; one line."""
    certificate_until_ms: int = 0
    """When the certificate for the broker ends (Unix time); 0 when unknown."""

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC).isoformat(timespec="seconds")
        if self.connected:
            return f"connected since {since}"
        return f"not connected since {since}: {self.trouble or 'no broker answers'}"

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises DeviceError for anything but what `to_bytes` writes."""
        try:
            told = json.loads(data)
            connected, since_ms, trouble = told["connected"], told["since_ms"], told["trouble"]
            until_ms = told.get("certificate_until_ms", 0)
        except MALFORMED as err:
            raise DeviceError(f"{NAME} is damaged; the uplink writes it anew when it starts") from err
        if type(connected) is not bool or not isinstance(trouble, str):
            raise DeviceError(f"{NAME} is damaged; the uplink writes it anew when it starts")
        if not all(type(at_ms) is int and 0 <= at_ms < YEAR_10000_MS for at_ms in (since_ms, until_ms)):
            raise DeviceError(f"{NAME} is damaged; the uplink writes it anew when it starts")
        return cls(connected, since_ms, " ".join(trouble.split())[:MAX_TROUBLE], until_ms)

    def certificate_trouble(self, now: datetime) -> str:
        """What to do about the certificate; empty when it lasts, or is unknown."""
        if not self.certificate_until_ms:
            return ""
        ends = datetime.fromtimestamp(self.certificate_until_ms / 1000, UTC)
        return Validity(datetime.min.replace(tzinfo=UTC), ends).trouble(now)


class StateFile:
    """Writes what is new."""

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._now_ms = now_ms
        self._told: tuple[bool, str, int] | None = None

    def tell(self, connected: bool, trouble: str = "", certificate_until_ms: int = 0) -> None:
        """Write the state if it is new; an error is only logged."""
        now = connected, "" if connected else " ".join(trouble.split())[:MAX_TROUBLE], certificate_until_ms
        if now != self._told:
            state = UplinkState(now[0], self._now_ms(), now[1], now[2])
            self._told = now
            try:
                replace_file(self._path, state.to_bytes(), MODE, durable=False)
            except OSError as err:
                log.warning("%s cannot be written (%s)", self._path, why(err))


def certificate_trouble(path: Path, now: datetime) -> str:
    """What is wrong with the uplink's certificate; empty also where no uplink has run."""
    try:
        state = read(path)
    except (DeviceError, OSError):
        return ""  # `ostiary doctor` tells
    return state.certificate_trouble(now) if state is not None else ""


def read(path: Path) -> UplinkState | None:
    """The uplink's last state; None where none has run. Raises DeviceError, OSError."""
    try:
        with open_plain(path) as file:
            return UplinkState.from_bytes(file.read(MAX_BYTES))
    except FileNotFoundError:
        return None
