"""Events about the unit rather than about an attempt, from whichever of its processes has one to tell."""

from __future__ import annotations

import uuid

from sync.events import AuditEvent
from sync.outbox import Outbox


def unit_event(
    log: Outbox,
    kind: str,
    reason: str,
    *,
    door: str,
    time_ms: int,
    keystore: str,
    count: int | None = None,
    person: uuid.UUID | None = None,
    attempt: uuid.UUID | None = None,
    policy: str | None = None,
) -> AuditEvent:
    """An event in the unit's present start, for a process that did not start it.

    Its monotonic time goes on from the log's last event by the wall clock. A clock that was moved meanwhile
    still shows: in this event when it went back, at the next event of the door when it went forward.
    """
    last = log.last_event()
    boot = last.boot if last else log.status().boot
    passed_ms = max(0, time_ms - last.time_ms) if last else 0
    return AuditEvent(
        event_id=uuid.uuid4(),
        time_ms=time_ms,
        boot=boot,
        monotonic_ms=(last.monotonic_ms if last else 0) + passed_ms,
        door=door,
        kind=kind,
        reason=reason,
        attempt=attempt,
        person=person,
        policy=policy,
        keystore=keystore,
        count=count,
    )
