"""A worker on a line that the test holds: what it keeps, counts, shows and sends."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cbor2
import pytest
import sqlalchemy as sa

from sync.errors import MalformedError
from sync.events import Record, unit_id
from sync.keys import FileSigner
from sync.orders.commands import Result, open_command
from sync.proofs import chain
from sync.proofs.heads import Head
from sync.proofs.merkle import Frontier
from sync.registry import commands
from sync.registry.ingest.ingest import Ingest
from sync.registry.ingest.worker import Worker, WorkerSettings
from sync.registry.reports import status
from sync.service.metrics import MetricsFile
from sync.transport.health import WILL, signed_health
from sync.transport.messages import BatchMessage
from sync.transport.topics import COMMANDS, EVENTS, HEALTH, RECEIPTS, RESULTS, topic
from tests.sync.parts import START_MS, event
from tests.sync.registry.ingest.test_ingest import Registry, Unit, some
from tests.sync.transport.test_agent import FakeLink
from tests.waiting import wait_until


class Line:
    """A registry, one unit, and a worker between them."""

    def __init__(self, folder: Path, around: Callable[[Ingest], Any] = lambda ingest: ingest) -> None:
        self.registry = Registry(f"sqlite:///{folder}/registry.db")
        self.unit = self.registry.register(Unit())
        self.link, self.file = FakeLink(), folder / "worker.prom"
        self.stop, self.polls_left = threading.Event(), sys.maxsize
        self.worker = Worker(
            self,  # type: ignore[arg-type]
            self.link,  # type: ignore[arg-type]
            around(self.registry.worker),
            self.registry.store,
            self.registry.clock,
            WorkerSettings(gather_s=0.001, idle_s=0.001, commands_every_s=0.0),
            MetricsFile(self.file),
        )

    def poll(self, timeout_s: float) -> None:
        """The reactor's part: nothing comes but what the test delivered."""
        time.sleep(min(timeout_s, 0.001))
        self.polls_left -= 1
        if self.polls_left <= 0:
            self.stop.set()

    def hears(self, channel: str, payload: bytes) -> None:
        self.link.deliver(payload, topic(self.unit.unit, channel))

    def says(self, counter: int, *, signer: FileSigner | None = None, **told: Any) -> None:
        """A health message of the unit, signed by its key or another's."""
        now = self.registry.clock()
        report = {"state": "online", "counter": counter, "time_ms": now, **told}
        self.hears(
            HEALTH, signed_health(self.unit.unit, json.dumps(report).encode(), signer or self.unit.signer)
        )

    def runs(self, polls: int = 60) -> None:
        """Until it has looked for messages so many times: some rounds, or a pause after one that failed."""
        self.polls_left = polls
        self.stop.clear()
        self.worker.run(self.stop)

    def runs_until(self, done: Callable[[], bool]) -> None:
        self.polls_left = sys.maxsize
        self.stop.clear()
        runner = threading.Thread(target=self.worker.run, args=(self.stop,))
        runner.start()
        try:
            wait_until(done)
        finally:
            self.stop.set()
            runner.join()

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
    line.says(1, pending=1)
    line.says(2, pending=2, facts={"policy": "rules-1"})
    line.hears(RESULTS, Result(line.unit.unit, 1, "failed", "not_held", now).signed(line.unit.signer))
    line.runs()
    assert len(line.registry.stored(line.unit)) == 3
    assert len(line.sent(RECEIPTS)) == 1
    assert (line.health()["pending"], line.health()["facts"]) == (2, {"policy": "rules-1"})
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


def test_health_that_is_unsigned_forged_played_back_or_anothers_is_no_sign_of_life(line: Line) -> None:
    line.says(7, pending=1)
    line.runs_until(lambda: bool(line.health()))
    line.registry.clock.now_ms += 600_000
    line.hears(HEALTH, b'{"state": "online", "pending": 0}')
    line.says(7, pending=1)  # the very same again
    line.says(6, pending=0)
    line.says(9, signer=FileSigner.generate())
    line.hears(HEALTH, signed_health(unit_id("a/b"), b'{"state": "online"}', line.unit.signer))
    line.runs_until(lambda: len(line.link.acknowledged) == 6)
    (unit,) = status.unit_statuses(line.registry.store, line.registry.clock())
    assert (unit.state, unit.health["counter"], unit.health["pending"]) == ("silent", 7, 1)
    assert line.registry.refusals() == {"malformed health": 1, "foreign health": 2}
    line.says(8, pending=0)
    line.runs_until(lambda: line.health()["counter"] == 8)
    line.hears(HEALTH, WILL)
    line.runs_until(lambda: line.health()["state"] == "offline")
    assert line.health()["counter"] == 8, "what it said last stays"


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
    line.runs()
    lines = line.file.read_text().splitlines()
    assert "ostiary_registry_events_stored_total 3" in lines
    assert "# TYPE ostiary_registry_events_stored_total counter" in lines
    assert 'ostiary_registry_refused_total{reason="malformed health"} 1' in lines


def test_figures_that_cannot_be_written_stop_no_worker(line: Line) -> None:
    line.file.mkdir()
    line.hears(EVENTS, line.unit.batch(some(1, 3)).to_bytes())
    line.runs()
    assert len(line.sent(RECEIPTS)) == 1


def test_messages_that_were_held_while_the_database_was_down_are_stored_when_it_is_back(line: Line) -> None:
    """The broker's window is full of them: nothing else comes that could wake the worker."""
    for first in (1, 4, 7):
        line.hears(EVENTS, line.unit.batch(some(first, first + 2)).to_bytes())
    with line.registry.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE heads RENAME TO elsewhere"))
    line.runs()
    assert (line.registry.stored(line.unit), line.link.acknowledged) == ([], [])
    with line.registry.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE elsewhere RENAME TO heads"))
    line.runs_until(lambda: len(line.link.acknowledged) == 3)
    assert len(line.registry.stored(line.unit)) == 9


def test_what_is_refused_counts_once_however_often_its_round_is_tried(line: Line) -> None:
    line.hears(HEALTH, b"nonsense")
    line.hears(RESULTS, b"\xff" * 100)
    line.hears(EVENTS, b"nonsense")
    line.link.deliver(b"x", "somewhere/else")
    line.hears(EVENTS, line.unit.batch(some(1, 3)).to_bytes())
    with line.registry.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE heads RENAME TO elsewhere"))
    line.runs(300)  # each try gets as far as the head
    assert line.link.acknowledged == []
    with line.registry.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE elsewhere RENAME TO heads"))
    line.runs_until(lambda: len(line.link.acknowledged) == 5)
    expected = dict.fromkeys(("malformed", "malformed health", "malformed result", "malformed topic"), 1)
    assert line.registry.refusals() == expected


def test_a_registry_whose_disk_is_full_keeps_what_came_until_there_is_room(line: Line) -> None:
    with line.registry.store.reading() as db:
        (pages,) = db.exec_driver_sql("PRAGMA page_count").one()

    def limit(to: int) -> None:
        engine = line.registry.store.engine
        engine.dispose()
        sa.event.listen(engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count = {to}"))

    limit(pages + 2)
    for first in range(1, 301, 100):
        line.hears(EVENTS, line.unit.batch(some(first, first + 99)).to_bytes())
    line.runs()
    assert (line.registry.stored(line.unit), line.link.acknowledged) == ([], [])
    limit(1 << 30)
    line.runs_until(lambda: len(line.link.acknowledged) == 3)
    assert len(line.registry.stored(line.unit)) == 300


class Stumbling:
    """An ingest with a mistake: one payload makes it raise what no caller expects."""

    def __init__(self, ingest: Ingest, poison: bytes) -> None:
        self._ingest, self._poison = ingest, poison

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ingest, name)

    def process(self, messages: Sequence[tuple[str, bytes]], refused: Counter[tuple[str, str]]) -> Any:
        if any(payload == self._poison for _, payload in messages):
            raise TypeError("a bug")
        return self._ingest.process(messages, refused)


def test_a_message_that_hits_a_bug_is_refused_alone_and_costs_no_other_its_receipt(tmp_path: Path) -> None:
    line = Line(tmp_path, lambda ingest: Stumbling(ingest, b"poison"))
    for first in (1, 4, 7, 10):
        line.hears(EVENTS, line.unit.batch(some(first, first + 2)).to_bytes())
        line.hears(EVENTS, b"poison")
    line.runs_until(lambda: len(line.link.acknowledged) == 8)
    assert len(line.registry.stored(line.unit)) == 12
    assert line.registry.refusals() == {"unhandled": 4}
    assert line.worker.figures()["ostiary_registry_refused_total", (("reason", "unhandled"),)] == 4


def test_hostile_health_leaves_no_place_in_the_brokers_window_taken(line: Line) -> None:
    for payload in (b'{"state": []}', b'{"state": {}}', b'{"state": "online", "facts": {"policy": []}}') * 90:
        line.hears(HEALTH, payload)
    line.hears(EVENTS, line.unit.batch(some(1, 3)).to_bytes())
    line.runs_until(lambda: len(line.link.acknowledged) == 271)
    assert len(line.sent(RECEIPTS)) == 1
    assert line.registry.refusals() == {"malformed health": 270}


def signed_by(unit: Unit, *bodies: bytes) -> bytes:
    """A batch of any bodies at all, properly chained and signed by its unit."""
    tree = Frontier().extended(map(chain.leaf_hash, bodies))
    link = chain.extend(chain.genesis(unit.unit), bodies)
    head = Head(unit.unit, len(bodies), link, tree.root(), START_MS, 3, 1).signed(unit.signer)
    return BatchMessage(unit.unit, 1, chain.genesis(unit.unit), 1, bodies, head).to_bytes()


@pytest.mark.parametrize("field", [3, 10, 11])
@pytest.mark.parametrize("value", ["0123456789abcdef", [1] * 16, b"short", None, 1.5])
def test_a_signed_event_with_a_mistyped_id_is_malformed_and_acknowledged(
    line: Line, field: int, value: Any
) -> None:
    plain = cbor2.loads(Record(line.unit.unit, 1, event(1)).to_bytes())
    line.hears(EVENTS, signed_by(line.unit, cbor2.dumps({**plain, field: value}, canonical=True)))
    line.runs_until(lambda: len(line.link.acknowledged) == 1)
    assert line.registry.refusals() == {"malformed": 1}


LISTS_AS_KEYS = {tuple([0] * n): 0 for n in range(1, 900)}
BIG_KEYS = b"".join(b"\xc2\x4a" + (k * (2**61 - 1)).to_bytes(10, "big") + b"\0" for k in range(10_000))


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (cbor2.dumps(cbor2.CBORTag(35, "(" * 250_000)), "tag 35"),
        (b"\xb9\x27\x10" + BIG_KEYS, "tag 2"),
        (cbor2.dumps([1, LISTS_AS_KEYS]), "depth"),
        (cbor2.dumps(LISTS_AS_KEYS), "string"),
        (cbor2.dumps({k * (2**61 - 1): 0 for k in range(8)}), "string"),
        (b"\x9f" * 100_000, "indefinite"),
        (b"\x81" * 100_000, "depth"),
        (b"\x9a\xff\xff\xff\xff", "premature"),
    ],
    ids=["expression", "big numbers", "deep", "lists as keys", "numbers as keys", "endless", "deeper", "cut"],
)
def test_a_message_that_is_dear_to_decode_is_refused_where_it_begins_to_be(payload: bytes, why: str) -> None:
    """Regular expressions and keys that collide took seconds, before any signature was looked at."""
    with pytest.raises(MalformedError) as refused:
        BatchMessage.from_bytes(payload)
    assert why in str(refused.value.__cause__)
