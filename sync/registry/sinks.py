"""Where alarms go besides the table: a webhook, an e-mail. Sent at least once, marked when delivered."""

from __future__ import annotations

import json
import smtplib
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol

from sync.errors import SyncError
from sync.registry.store import Store

TIMEOUT_S = 10.0


class Sink(Protocol):
    def send(self, alarm: dict[str, Any]) -> None:
        """Raises SyncError when it could not be delivered."""
        ...


@dataclass(frozen=True, slots=True)
class Webhook:
    """POSTs an alarm as JSON. `Idempotency-Key` lets the other side drop a second delivery."""

    url: str

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise SyncError("a webhook is an https address")

    def send(self, alarm: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"ostiary-alarm-{alarm['id']}"}
        request = urllib.request.Request(  # noqa: S310 - https or this machine, see above
            self.url, json.dumps(alarm).encode(), headers
        )
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()  # noqa: S310
        except (urllib.error.URLError, OSError) as err:
            raise SyncError(f"the webhook did not take the alarm: {err}") from err


@dataclass(frozen=True, slots=True)
class Email:
    """Sends an alarm as a plain message; `starttls` unless it goes to this machine's own relay."""

    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    starttls: bool = True

    def send(self, alarm: dict[str, Any]) -> None:
        message = EmailMessage()
        message["Subject"] = f"[ostiary {alarm['severity']}] {alarm['kind']} {alarm['unit'] or ''}".strip()
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        message.set_content(json.dumps(alarm, indent=2, sort_keys=True))
        try:
            with smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S) as server:
                if self.starttls:
                    server.starttls()
                server.send_message(message)
        except (smtplib.SMTPException, OSError) as err:
            raise SyncError(f"the mail server did not take the alarm: {err}") from err


def load_sinks(path: Path) -> list[Sink]:
    """`[[sink]]` tables: type = "webhook" with url, or "email" with host, port, sender, to."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("sink", [])
        return [_sink(dict(table)) for table in tables]
    except (OSError, ValueError, TypeError) as err:
        raise SyncError(f"the sinks in {path.name} cannot be used: {err}") from err


def deliver(store: Store, sinks: Sequence[Sink], now_ms: int) -> int:
    """Send what was not sent. Raises SyncError at the first failure: the rest waits for the next time."""
    sent = 0
    for alarm in store.unsent_alarms():
        for sink in sinks:
            sink.send(alarm)
        store.mark_sent(alarm["id"], now_ms)
        sent += 1
    return sent


def _sink(table: dict[str, Any]) -> Sink:
    kind = table.pop("type", None)
    if kind == "webhook":
        return Webhook(**table)
    if kind == "email":
        return Email(**{**table, "to": tuple(table["to"])})
    raise SyncError("a sink's type is webhook or email")
