"""Events about the unit, not about an attempt, from any of its processes."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from sync.events import AuditEvent


def unit_event(kind: str, reason: str, *, door: str, time_ms: int, keystore: str, **more: Any) -> AuditEvent:
    """An event for `Outbox.append(..., other_process=True)`; `more` are further fields of AuditEvent."""
    return AuditEvent(
        event_id=uuid.uuid4(),
        time_ms=time_ms,
        boot=0,
        monotonic_ms=0,
        door=door,
        kind=kind,
        reason=reason,
        keystore=keystore,
        **more,
    )


def in_present_start(event: AuditEvent, last: AuditEvent | None, boot: int) -> AuditEvent:
    """`event`, of a process beside the door's, with the boot of the log's `last` event.

    Its monotonic time is that event's plus the wall time since. A clock that was moved meanwhile still shows:
    in this event when it went back, in the door's next one when it went forward.
    """
    if last is None:
        return dataclasses.replace(event, boot=boot, monotonic_ms=0)
    passed_ms = max(0, event.time_ms - last.time_ms)
    return dataclasses.replace(event, boot=last.boot, monotonic_ms=last.monotonic_ms + passed_ms)
