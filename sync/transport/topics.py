"""Topics on the broker. A unit may write and read only under its own name."""

from __future__ import annotations

from sync.errors import MalformedError
from sync.events import UnitId, unit_id

ROOT = "ostiary/v1"
EVENTS, HEALTH, RECEIPTS, COMMANDS, RESULTS = "events", "health", "receipts", "commands", "results"
DESIRED, PARTS, WANTS, STATEMENTS = "desired", "parts", "wants", "statements"
PRINTS, KEPT = "prints", "kept"


def topic(unit: UnitId, channel: str) -> str:
    return f"{ROOT}/{unit}/{channel}"


def unit_of(name: str) -> tuple[UnitId, str]:
    """(unit, channel) of a topic. Raises MalformedError."""
    parts = name.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT:
        raise MalformedError("a message came on a topic that is not ours")
    return unit_id("/".join(parts[2:4])), parts[4]


def everyones(channel: str, share: str | None = None) -> str:
    """The subscription to one channel of all units, shared between the members of `share`."""
    name = f"{ROOT}/+/+/{channel}"
    return f"$share/{share}/{name}" if share else name
