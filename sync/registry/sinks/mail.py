"""Alarms by e-mail."""

from __future__ import annotations

import json
import smtplib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from sync.errors import SyncError
from sync.registry.sinks.trust import LOCAL, SIGNATURE, secret, sign, trusting


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
    secret_file: Path | None = None
    """Signs each message's text: the header `Ostiary-Signature`."""
    starttls: bool = True
    ca: Path | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.to:
            raise SyncError(f"the e-mail sink {self.name} has nobody to write to")
        if not self.starttls and self.host not in LOCAL:
            raise SyncError(f"the e-mail sink {self.name} must use starttls to another machine")
        if not self.starttls and self.user:
            raise SyncError(f"the e-mail sink {self.name} would show its password on the wire")

    def send(self, alarm: Mapping[str, Any]) -> None:
        message = EmailMessage()
        message["Subject"] = f"[ostiary {alarm['severity']}] {alarm['kind']} {alarm['unit'] or ''}".strip()
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        message["Message-ID"] = f"<ostiary-alarm-{alarm['id']}@{self.sender.rpartition('@')[2]}>"
        text = json.dumps(dict(alarm), indent=2, sort_keys=True)
        if self.secret_file is not None:
            message[SIGNATURE] = sign(self.secret_file, text.encode(), int(time.time()))
        message.set_content(text)
        self.post(message)

    def post(self, message: EmailMessage) -> None:
        """Hand a message to the mail server. Raises SyncError."""
        try:
            with smtplib.SMTP(self.host, self.port, timeout=self.timeout_s) as server:
                if self.starttls:
                    server.starttls(context=trusting(self.ca))
                if self.user and self.password_file is not None:
                    server.login(self.user, secret(self.password_file))
                if refused := server.send_message(message):
                    raise SyncError(f"the mail server refused {len(refused)} addresses of {self.name}")
        except smtplib.SMTPResponseException as err:
            raise SyncError(f"the mail server of {self.name} answered {err.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as err:
            raise SyncError(f"the mail server of {self.name} cannot be used ({type(err).__name__})") from None
