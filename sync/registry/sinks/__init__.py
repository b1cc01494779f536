"""Where alarms go besides the table: a webhook, an e-mail, a topic on a broker, a syslog with CEF.

Each gets every alarm at least once, on its own. A sink that is down keeps no other waiting, is tried again
with growing pauses, and never learns of what was delivered already. Addresses and secrets appear in no
message: a webhook's address is often its password.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync.errors import SyncError
from sync.plain_file import plain_text
from sync.plain_words import what_and_why
from sync.registry.database.store import Store
from sync.registry.sinks.broker import Topic
from sync.registry.sinks.mail import Email
from sync.registry.sinks.syslog import Syslog
from sync.registry.sinks.trust import Sink
from sync.registry.sinks.webhook import Webhook
from sync.toml_table import toml_table
from sync.transport.backoff import Backoff

__all__ = ["Delivery", "Email", "Sink", "Syslog", "Topic", "Webhook", "load_sinks"]

_KINDS: dict[str, type[Any]] = {"webhook": Webhook, "email": Email, "mqtt": Topic, "syslog": Syslog}


def load_sinks(path: Path) -> list[Sink]:
    """`[[sink]]` tables: `type` is webhook (url), email (host, port, sender, to), mqtt (host, port, topic) or
    syslog (host, port). Raises SyncError."""
    try:
        tables = toml_table(plain_text(path)).get("sink", [])
        sinks = [_sink(number, dict(table)) for number, table in enumerate(tables, start=1)]
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise SyncError(f"the sinks in {path.name} cannot be used: {what_and_why(err)}") from err
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
    if kind not in _KINDS:
        raise SyncError(f"a sink's type is one of {', '.join(_KINDS)}")
    table.setdefault("name", f"{kind}-{number}")
    for key in ("token_file", "password_file", "secret_file", "ca", "certificate", "key"):
        if key in table:
            table[key] = Path(table[key])
    if kind == "email":
        table["to"] = tuple(table["to"])
    made: Sink = _KINDS[kind](**table)
    return made
