"""Figures of the door in a file: what a collector needs, and nothing that tells one person from another."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from device.access.decision import Decision, Notice, Outcome, Reason
from device.unit.metrics import DoorMetrics
from sync.outbox import OutboxError, OutboxStatus


class Log:
    """An audit log's status, or none where it is damaged."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self) -> OutboxStatus:
        if self.broken:
            raise OutboxError("the audit log cannot be read")
        return OutboxStatus(sequence=9, sealed=9, acknowledged=2, pending=7, oldest_ms=None, overflow_count=0)


def decision(outcome: Outcome, **more: object) -> Decision:
    return Decision(outcome, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME, person="4711", **more)  # type: ignore[arg-type]


def read(path: Path) -> dict[str, float]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_the_file_holds_what_was_decided_heard_and_used(tmp_path: Path) -> None:
    path = tmp_path / "door.prom"
    metrics = DoorMetrics(path, Log(), wall_s=lambda: 1_000.0)
    for outcome in (Outcome.GRANTED, Outcome.DENIED_VOICE, Outcome.DENIED_VOICE):
        metrics.decided(decision(outcome))
    metrics.frames = 50
    metrics()
    found = read(path)
    assert found['ostiary_door_decisions_total{shown="open"}'] == 1
    assert (
        found['ostiary_door_decisions_total{shown="refused"}']
        + found['ostiary_door_decisions_total{shown="retry"}']
        == 2
    )
    assert found["ostiary_outbox_pending_events"] == 7
    assert found["ostiary_door_frames_total"] == 50
    assert found["ostiary_door_resident_bytes"] > 1e6
    assert found["ostiary_door_last_decision_time_seconds"] == 1_000.0


def test_a_duress_word_leaves_the_same_figures_as_an_ordinary_opening(tmp_path: Path) -> None:
    texts = []
    for number, outcome in enumerate((Outcome.GRANTED, Outcome.DURESS)):
        metrics = DoorMetrics(tmp_path / f"{number}.prom", Log(), wall_s=lambda: 1_000.0)
        metrics.decided(decision(outcome, silent_alarm=outcome is Outcome.DURESS))
        metrics()
        found = read(tmp_path / f"{number}.prom")
        texts.append(
            {name: value for name, value in found.items() if "cpu" not in name and "bytes" not in name}
        )
    assert texts[0] == texts[1]
    assert "4711" not in (tmp_path / "1.prom").read_text()


def test_a_file_that_cannot_be_written_is_logged_once_and_stops_no_door(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 0.0
    metrics = DoorMetrics(tmp_path / "absent" / "door.prom", Log(), now_s=lambda: now_s)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            metrics()
            now_s += 60.0
    assert caplog.text.count("cannot be written") == 1


def test_a_log_that_cannot_be_read_is_trouble_and_no_crash(tmp_path: Path) -> None:
    log = Log()
    log.broken = True
    metrics = DoorMetrics(tmp_path / "door.prom", log)
    metrics()
    assert read(tmp_path / "door.prom")["ostiary_door_troubled"] == 1
