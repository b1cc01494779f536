"""Alarms to a topic of an MQTT broker, as JSON, with the broker's word that it has them (QoS 1)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync.errors import SyncError
from sync.registry.sinks.trust import LOCAL, SIGNATURE, secret, sign, trusting
from sync.transport import mqtt


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic. The signature is the MQTT 5 user property `Ostiary-Signature`."""

    name: str
    host: str
    topic: str
    port: int = 8883
    user: str = ""
    password_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    secret_file: Path | None = None
    tls: bool = True
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.tls and self.host not in LOCAL:
            raise SyncError(f"the broker of {self.name} is reached by TLS, unless it is on this machine")
        if not self.topic or set(self.topic) & set("+#\0"):
            raise SyncError(f"{self.name} needs the topic of one place, without + and #")

    def send(self, alarm: Mapping[str, Any]) -> None:
        body = json.dumps(dict(alarm), sort_keys=True).encode()
        properties = [("Idempotency-Key", f"ostiary-alarm-{alarm['id']}")]
        if self.secret_file is not None:
            properties.append((SIGNATURE, sign(self.secret_file, body, int(time.time()))))
        context = trusting(self.ca, self.certificate, self.key) if self.tls else None
        password = secret(self.password_file) if self.password_file else None
        try:
            mqtt.publish_once(
                (self.host, self.port),
                context,
                (self.user, password),
                self.topic,
                body,
                properties,
                self.timeout_s,
            )
        except SyncError as err:
            raise SyncError(f"the broker of {self.name} {err}") from None
