"""The unit's audit log on its disk: durable before `append` returns, kept until the registry's receipt."""

from sync.outbox.parts import (
    REPORTS_RESERVED,
    Batch,
    Fill,
    Held,
    OutboxError,
    OutboxFullError,
    OutboxLimits,
    OutboxRollbackError,
    OutboxStatus,
    Risk,
)
from sync.outbox.queue import Outbox

__all__ = [
    "REPORTS_RESERVED",
    "Batch",
    "Fill",
    "Held",
    "Outbox",
    "OutboxError",
    "OutboxFullError",
    "OutboxLimits",
    "OutboxRollbackError",
    "OutboxStatus",
    "Risk",
]
