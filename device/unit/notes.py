"""Events of people who come and go, for the commands that enrol and forget beside the running door."""

from __future__ import annotations

import uuid
from pathlib import Path

from device.clock import Clock
from device.secure_store import Store
from device.settings import Settings
from sync.events import pseudonym
from sync.outbox import Outbox
from sync.unit_events import unit_event

AUDIT_FILE = Path("audit") / "outbox.db"


def note_person(
    store: Store,
    settings: Settings,
    state: Path,
    clock: Clock,
    kind: str,
    reason: str,
    *,
    uid: str | None = None,
    record: uuid.UUID | None = None,
    count: int | None = None,
) -> None:
    """Write that somebody was enrolled or forgotten: a pseudonym, the record's id in place of an attempt's.

    What has happened is written down even at a door that decides nothing while its log is full: it then
    counts as overflow. Raises OutboxError.
    """
    time_ms = int(clock().wall.timestamp() * 1000)
    person = pseudonym(store.pseudonym_key(), uid) if uid else None
    door, keystore = settings.door.name, store.keystore.kind
    event = unit_event(
        kind,
        reason,
        door=door,
        time_ms=time_ms,
        keystore=keystore,
        person=person,
        attempt=record,
        count=count,
    )
    path, unit = state / AUDIT_FILE, settings.door.unit
    with Outbox(path, unit=unit, doors={door}, now_ms=lambda: time_ms) as log:
        log.append(event, risk="low", beside=True)
