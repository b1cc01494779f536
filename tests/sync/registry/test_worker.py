"""A worker on a line that the test holds: what it keeps, counts, shows and sends."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sync.commands import Result, open_command
from sync.keys import FileSigner
from sync.metrics import MetricsFile
from sync.mqtt import Message
from sync.registry import commands, status
from sync.registry.worker import Worker, WorkerSettings
from sync.topics import COMMANDS, EVENTS, HEALTH, RECEIPTS, RESULTS, topic
from tests.sync.registry.test_ingest import Registry, Unit, some
from tests.sync.test_agent import FakeLink


class Line:
    """A registry, one unit, and a worker between them."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(f"sqlite:///{folder}/registry.db")
        self.unit = self.registry.register(Unit())
        self.link, self.file = FakeLink(), folder / "worker.prom"
        self.worker = Worker(
            self,  # type: ignore[arg-type]
            self.link,  # type: ignore[arg-type]
            self.registry.worker,
            self.registry.store,
            self.registry.clock,
            WorkerSettings(gather_s=0.001, idle_s=0.001, commands_every_s=0.0),
            MetricsFile(self.file),
        )

    def poll(self, timeout_s: float) -> None:
        """The reactor's part: nothing comes but what the test delivered."""
        time.sleep(min(timeout_s, 0.001))

    def hears(self, channel: str, payload: bytes) -> None:
        self.link.deliver(payload, topic(self.unit.unit, channel))

    def runs(self, seconds: float = 0.2) -> None:
        stop = threading.Event()
        timer = threading.Timer(seconds, stop.set)
        timer.start()
        self.worker.run(stop)
        timer.join()

    def sent(self, channel: str) -> list[bytes]:
        return [payload for name, payload in self.link.sent if name == topic(self.unit.unit, channel)]

    def health(self) -> dict[str, Any]:
        (unit,) = status.unit_statuses(self.registry.store, self.registry.clock())
        return unit.health


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_batches_health_and_answers_of_one_round_are_kept_and_receipted(line: Line) -> None:
    now = line.registry.clock()
    desk = FileSigner.generate()
    made = commands.issue(
        line.registry.store,
        desk,
        line.unit.unit,
        "resend",
        {"after": 3},
        account="x",
        now_ms=now,
        life_ms=9000,
    )
    line.runs()
    (order,) = line.sent(COMMANDS)
    assert open_command(order, desk.public_key(), line.unit.unit, now) == made
    line.hears(EVENTS, line.unit.batch(some(1, 3)).to_bytes())
    line.hears(HEALTH, b'{"state": "online", "pending": 1}')
    line.hears(HEALTH, b'{"state": "online", "pending": 2, "facts": {"policy": "rules-1"}}')
    line.hears(RESULTS, Result(line.unit.unit, 1, "failed", "not_held", now).signed(line.unit.signer))
    line.runs()
    assert len(line.registry.stored(line.unit)) == 3
    assert len(line.sent(RECEIPTS)) == 1
    assert line.health() == {"state": "online", "pending": 2, "facts": {"policy": "rules-1"}}
    (row,) = commands.listed(line.registry.store, now)
    assert (row["state"], row["why"]) == ("failed", "not_held")


HOSTILE_HEALTH = [
    b"",
    b"\xff" * 20,
    b"[" * 100_000,
    b"[]",
    b'"online"',
    b'{"state": "open all doors"}',
    b'{"state": "online", "pending": -1}',
    b'{"state": "online", "pending": 1e400}',
    b'{"state": "online", "facts": {"software": "Maria Rossi"}}',
    b'{"state": "online", "facts": []}',
    json.dumps({"state": "online", "note": "x" * 5000}).encode(),
]


def test_hostile_messages_are_counted_shown_and_keep_no_good_one_from_its_receipt(line: Line) -> None:
    for payload in HOSTILE_HEALTH:
        line.hears(HEALTH, payload)
    line.hears(RESULTS, b"\xff" * 100)
    for name in ("somewhere/else", "ostiary/v1/A B/c/events", "ostiary/v1/" + "x" * 5000 + "/y/health"):
        line.link.deliver(b"x", name)
    line.hears("a-channel-that-does-not-exist", b"x")
    line.hears(EVENTS, line.unit.batch(some(1, 3)).to_bytes())
    line.runs()
    assert len(line.sent(RECEIPTS)) == 1
    assert line.health() == {}
    expected = {"malformed health": len(HOSTILE_HEALTH), "malformed result": 1, "malformed topic": 3}
    assert line.registry.refusals() == expected
    assert line.worker.figures()["ostiary_registry_refused_total", (("reason", "malformed topic"),)] == 3


def test_figures_lie_in_a_file_for_the_collector(line: Line) -> None:
    line.hears(EVENTS, line.unit.batch(some(1, 3)).to_bytes())
    line.hears(HEALTH, b"nonsense")
    line.worker.round()
    line.runs(0.05)
    lines = line.file.read_text().splitlines()
    assert "ostiary_registry_events_stored_total 3" in lines
    assert "# TYPE ostiary_registry_events_stored_total counter" in lines
    assert 'ostiary_registry_refused_total{reason="malformed health"} 1' in lines


def test_figures_that_cannot_be_written_stop_no_worker(line: Line) -> None:
    line.file.mkdir()
    line.hears(EVENTS, line.unit.batch(some(1, 3)).to_bytes())
    line.runs()
    assert len(line.sent(RECEIPTS)) == 1


def test_a_round_that_hits_a_bug_stops_no_worker(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    working, calls = line.registry.worker.process, []

    def once_broken(messages: Any) -> Any:
        calls.append(messages)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return working(messages)

    monkeypatch.setattr(line.registry.worker, "process", once_broken)
    batch = line.unit.batch(some(1, 3)).to_bytes()
    line.hears(EVENTS, batch)
    line.runs()
    line.link.inbox.append(Message(topic(line.unit.unit, EVENTS), batch, 2, False, 1))
    line.runs()
    assert len(line.sent(RECEIPTS)) == 1
