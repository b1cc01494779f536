"""Where alarms go besides the table: a webhook, an e-mail. Each gets every alarm at least once, on its own.

A sink that is down keeps no other one waiting, is tried again with growing pauses, and never learns of what
was delivered already. Addresses and secrets appear in no message: a webhook's address is often its password.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

from sync.backoff import Backoff
from sync.errors import SyncError
from sync.registry.store import Store

MAX_SECRET_BYTES = 4096


class Sink(Protocol):
    @property
    def name(self) -> str:
        """Under which the registry remembers what this sink has got."""
        ...

    def send(self, alarm: Mapping[str, Any]) -> None:
        """Raises SyncError when it could not be delivered."""
        ...


class _StayHere(urllib.request.HTTPRedirectHandler):
    """An alarm, and the token beside it, go to the address that was configured and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Webhook:
    """POSTs an alarm as JSON. `Idempotency-Key` lets the other side drop a second delivery."""

    name: str
    url: str = field(repr=False)
    token_file: Path | None = None
    """Holds a bearer token; read at every delivery, so that it can be replaced."""
    ca: Path | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise SyncError(f"the webhook {self.name} must be an https address")

    def send(self, alarm: Mapping[str, Any]) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"ostiary-alarm-{alarm['id']}"}
        if self.token_file is not None:
            headers["Authorization"] = f"Bearer {_secret(self.token_file)}"
        request = urllib.request.Request(self.url, json.dumps(alarm).encode(), headers)  # noqa: S310 - see above
        tls = urllib.request.HTTPSHandler(context=_trusting(self.ca))
        try:
            urllib.request.build_opener(_StayHere, tls).open(request, timeout=self.timeout_s).close()
        except urllib.error.HTTPError as err:
            raise SyncError(f"the webhook {self.name} answered {err.code}") from None
        except (urllib.error.URLError, OSError, HTTPException, ValueError) as err:
            # Not the error's own words: some of them repeat the address.
            why = getattr(err, "reason", err)
            raise SyncError(f"the webhook {self.name} cannot be reached ({type(why).__name__})") from None


@dataclass(frozen=True, slots=True)
class Email:
    """Sends an alarm as a plain message, over TLS unless it goes to this machine's own relay."""

    name: str
    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    user: str = ""
    password_file: Path | None = None
    starttls: bool = True
    ca: Path | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.to:
            raise SyncError(f"the e-mail sink {self.name} has nobody to write to")
        if not self.starttls and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise SyncError(f"the e-mail sink {self.name} must use starttls to another machine")
        if not self.starttls and self.user:
            raise SyncError(f"the e-mail sink {self.name} would show its password on the wire")

    def send(self, alarm: Mapping[str, Any]) -> None:
        message = EmailMessage()
        message["Subject"] = f"[ostiary {alarm['severity']}] {alarm['kind']} {alarm['unit'] or ''}".strip()
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        message["Message-ID"] = f"<ostiary-alarm-{alarm['id']}@{self.sender.rpartition('@')[2]}>"
        message.set_content(json.dumps(dict(alarm), indent=2, sort_keys=True))
        try:
            with smtplib.SMTP(self.host, self.port, timeout=self.timeout_s) as server:
                if self.starttls:
                    server.starttls(context=_trusting(self.ca))
                if self.user and self.password_file is not None:
                    server.login(self.user, _secret(self.password_file))
                if refused := server.send_message(message):
                    raise SyncError(f"the mail server refused {len(refused)} addresses of {self.name}")
        except smtplib.SMTPResponseException as err:
            raise SyncError(f"the mail server of {self.name} answered {err.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as err:
            raise SyncError(f"the mail server of {self.name} cannot be used ({type(err).__name__})") from None


def load_sinks(path: Path) -> list[Sink]:
    """`[[sink]]` tables: `type` is "webhook" (url) or "email" (host, port, sender, to). Raises SyncError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("sink", [])
        sinks = [_sink(number, dict(table)) for number, table in enumerate(tables, start=1)]
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise SyncError(f"the sinks in {path.name} cannot be used: {err}") from err
    names = [sink.name for sink in sinks]
    if len(set(names)) != len(names) or not names:
        raise SyncError(f"{path.name} needs at least one sink, each with a name of its own")
    return sinks


@dataclass(slots=True)
class Delivery:
    """Takes alarms from the store to the sinks."""

    store: Store
    sinks: Sequence[Sink]
    _backoffs: dict[str, Backoff] = field(default_factory=dict)
    _retry_at_s: dict[str, float] = field(default_factory=dict)

    def step(self, now_ms: int, now_s: float) -> list[str]:
        """One round: every sink gets what it has not got; returns what went wrong, in words to log."""
        problems = []
        for sink in self.sinks:
            if now_s < self._retry_at_s.get(sink.name, 0.0):
                continue
            backoff = self._backoffs.setdefault(sink.name, Backoff(first_s=5.0, cap_s=300.0))
            try:
                for alarm in self.store.undelivered(sink.name):
                    sink.send(alarm)
                    self.store.mark_delivered(alarm["id"], sink.name, now_ms)
                backoff.reset()
            except SyncError as err:
                self._retry_at_s[sink.name] = now_s + backoff.next_s()
                problems.append(str(err))
        return problems


def _sink(number: int, table: dict[str, Any]) -> Sink:
    kind = table.pop("type", None)
    if kind not in ("webhook", "email"):
        raise SyncError("a sink's type is webhook or email")
    table.setdefault("name", f"{kind}-{number}")
    for key in ("token_file", "password_file", "ca"):
        if key in table:
            table[key] = Path(table[key])
    return Webhook(**table) if kind == "webhook" else Email(**{**table, "to": tuple(table["to"])})


def _secret(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_SECRET_BYTES).strip()
    except (OSError, UnicodeDecodeError) as err:
        raise SyncError(f"{path.name} cannot be read ({type(err).__name__})") from err


def _trusting(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as err:
        raise SyncError(f"the certificates in {ca.name if ca else 'the system'} cannot be used") from err
