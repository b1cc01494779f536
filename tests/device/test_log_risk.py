"""What a full audit log does to a door: it stays locked, unless its risk class says that it goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from device.access.decision import Decision, Notice, Outcome, Reason
from device.access.rules import parse_rules
from device.audio.card.health import Trouble
from device.clock import Now
from device.unit.audit import AuditTrail, EventContext
from sync.outbox import Outbox, OutboxFullError, OutboxLimits
from tests.device.door_world import World

RULES = """
version = 1
[risks.high]
[risks.low]
opens_with_full_log = true
[zones.ward]
[doors.pharmacy]
zone = "ward"
risk = "high"
[doors.corridor]
zone = "ward"
risk = "low"
[[allow]]
roles = ["nurse"]
"""
NOW = Now(datetime(2026, 11, 29, tzinfo=UTC), 10.0)


def granted(door: str) -> Decision:
    return Decision(Outcome.GRANTED, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME, door=door)


def test_a_full_log_keeps_a_high_risk_door_locked_and_counts_what_a_low_risk_door_does(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, parse_rules(RULES))
    limits = OutboxLimits(max_events=2, ballast_bytes=0)
    doors = ("pharmacy", "corridor")
    with Outbox(tmp_path / "log.db", unit="a/b", doors=doors, now_ms=lambda: 0, limits=limits) as log:
        trail = AuditTrail(
            log, EventContext(1, 0.0, bytes(32), "software"), lambda: world.controller.rules, lambda: NOW
        )
        trail.decided(granted("pharmacy"))
        trail.decided(granted("pharmacy"))
        with pytest.raises(OutboxFullError):
            trail.decided(granted("pharmacy"))
        trail.decided(granted("corridor"))
        assert (log.status().sequence, log.status().overflow_count) == (2, 1)


@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_of_a_microphone_can_be_written_down(tmp_path: Path, trouble: Trouble) -> None:
    with Outbox(tmp_path / "log.db", unit="a/b", doors=("ward",), now_ms=lambda: 0) as log:
        rules = parse_rules(RULES)
        trail = AuditTrail(log, EventContext(1, 0.0, bytes(32), "software"), lambda: rules, lambda: NOW)
        trail.note("FAULT", trouble, "ward")
        assert log.status().sequence == 1
