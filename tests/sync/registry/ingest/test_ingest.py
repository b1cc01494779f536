"""Ingest on both databases: what is stored, what is refused, and what a person is told."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from sync.cose import ORDER
from sync.events import AuditEvent, Record, unit_id
from sync.proofs import chain
from sync.proofs.bundle import key_to_der
from sync.proofs.heads import NO_HEAD, Head, head_hash
from sync.proofs.merkle import Frontier
from sync.proofs.verify import verify
from sync.registry.database.engine import of_database
from sync.registry.database.schema import events
from sync.registry.database.store import Store, StoreError
from sync.registry.database.transactions import Turn, take_turn
from sync.registry.ingest.ingest import ASKED_S, Ingest
from sync.registry.reports import export, status
from sync.registry.retention.months import forget_before
from sync.transport.messages import BatchMessage, Receipt, open_receipt
from sync.transport.topics import EVENTS, topic
from tests.sync.parts import START_MS, UNIT, Clock, SoftwareSigner, event
from tests.sync.services import postgres

REGISTRY = SoftwareSigner()


class Unit:
    """A unit's log in memory, able to lie."""

    def __init__(self, name: str = UNIT) -> None:
        self.unit = unit_id(name)
        self.signer = SoftwareSigner()
        self.bodies: list[bytes] = []
        self.link = chain.genesis(self.unit)
        self.tree = Frontier()
        self.before = NO_HEAD
        self.oldest = 1

    def batch(self, made: list[AuditEvent], **changes: Any) -> BatchMessage:
        first, previous = len(self.bodies) + 1, self.link
        fresh = [Record(self.unit, first + place, one).to_bytes() for place, one in enumerate(made)]
        self.bodies += fresh
        self.link = chain.extend(self.link, fresh)
        self.tree = self.tree.extended(map(chain.leaf_hash, fresh))
        head = Head(self.unit, self.tree.size, self.link, self.tree.root(), START_MS, 3, 1, self.before)
        signed = head.signed(self.signer)
        self.before = head_hash(signed)
        message = BatchMessage(self.unit, first, previous, self.oldest, tuple(fresh), signed)
        return dataclasses.replace(message, **changes)

    def copy(self) -> Unit:
        copied = Unit.__new__(Unit)
        copied.__dict__ = {**self.__dict__, "bodies": list(self.bodies)}
        return copied


class Registry:
    """An ingest worker without MQTT, and its clock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = Clock()
        self.seconds = 0.0
        self.store = Store.open(url)
        self.worker = self.another_worker()

    def another_worker(self) -> Ingest:
        return Ingest(self.store, REGISTRY, self.clock, now_s=lambda: self.seconds, replay_grace_ms=60_000)

    def register(self, unit: Unit) -> Unit:
        self.store.register(unit.unit, key_to_der(unit.signer.public_key()), self.clock())
        return unit

    def take(self, *messages: BatchMessage, worker: Ingest | None = None) -> list[Receipt]:
        sent = [(topic(message.unit, EVENTS), message.to_bytes()) for message in messages]
        return self.take_raw(sent, worker)

    def insists(self, message: BatchMessage) -> list[Receipt]:
        """A batch behind events that the unit no longer holds: it is asked for them first, and cannot."""
        assert [receipt.status for receipt in self.take(message)] == ["resend"]
        self.seconds += ASKED_S
        return self.take(message)

    def take_raw(self, sent: list[tuple[str, bytes]], worker: Ingest | None = None) -> list[Receipt]:
        return [
            open_receipt(receipt, REGISTRY.public_key(), unit)
            for unit, receipt in (worker or self.worker).process(sent)
        ]

    def stored(self, unit: Unit) -> list[bytes]:
        query = sa.select(events.c.body).where(events.c.unit == unit.unit).order_by(events.c.sequence)
        with self.store.reading() as db:
            return [bytes(row.body) for row in db.execute(query)]

    def alarms(self) -> dict[str, dict[str, Any]]:
        return {alarm["kind"]: alarm for alarm in status.open_alarms(self.store)}

    def refusals(self) -> dict[str, int]:
        return {row["reason"]: row["times"] for row in status.refusal_counts(self.store)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgres() as running:
        yield running.url


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    url = f"sqlite:///{tmp_path}/registry.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("cluster")
    made = Registry(url)
    yield made
    if request.param == "postgresql":
        with made.store.transaction() as db:
            db.execute(sa.text("DROP SCHEMA public CASCADE"))
            db.execute(sa.text("CREATE SCHEMA public"))
    made.store.close()


@pytest.fixture
def unit(registry: Registry) -> Unit:
    return registry.register(Unit())


def some(first: int, last: int, **changes: Any) -> list[AuditEvent]:
    return [event(number, **changes) for number in range(first, last + 1)]


def test_batches_in_order_are_stored_and_answered_after_the_commit(registry: Registry, unit: Unit) -> None:
    receipts = registry.take(unit.batch(some(1, 3)), unit.batch(some(4, 9)))
    assert [(r.status, r.size, r.chain) for r in receipts] == [("stored", 9, unit.link)]
    assert registry.stored(unit) == unit.bodies
    assert registry.alarms() == {}


def test_the_same_batch_again_changes_nothing_and_is_answered_again(registry: Registry, unit: Unit) -> None:
    batch = unit.batch(some(1, 3))
    for _ in range(3):
        assert registry.take(batch)[0].status == "stored"
    assert registry.take(batch, batch)[0].size == 3
    assert len(registry.stored(unit)) == 3
    assert registry.alarms() == {}


def test_a_batch_that_comes_twice_in_one_round_accuses_nobody(registry: Registry, unit: Unit) -> None:
    first, second = unit.batch(some(1, 3)), unit.batch(some(4, 6))
    assert registry.take(first, second, first, second, first)[0].size == 6
    assert len(registry.stored(unit)) == 6
    assert registry.alarms() == {}


def test_two_workers_that_get_batches_crosswise_keep_the_order(registry: Registry, unit: Unit) -> None:
    first, second, third = (unit.batch(some(i, i + 1)) for i in (1, 3, 5))
    other = registry.another_worker()
    assert registry.take(second, worker=other) == []
    assert registry.take(first)[0].size == 2
    registry.seconds += 0.1
    assert registry.take(worker=other)[0].size == 4
    assert registry.take(third)[0].size == 6
    assert registry.stored(unit) == unit.bodies


def test_workers_whose_clocks_differ_leave_arrival_times_that_never_go_back(
    registry: Registry, unit: Unit
) -> None:
    registry.clock.now_ms = 1_793_491_200_500  # November, half a second old, says one worker
    registry.take(unit.batch(some(1, 3)))
    behind = registry.another_worker()
    registry.clock.now_ms -= 30_000  # the other believes in October
    registry.take(unit.batch(some(4, 6)), worker=behind)
    with registry.store.reading() as db:
        rows = db.execute(sa.select(events.c.received_ms, events.c.month).order_by(events.c.sequence)).all()
    assert rows == sorted(rows)
    assert {row.month for row in rows} == {202611}
    assert registry.alarms()["WORKER_CLOCK"]["evidence"] == {"behind_ms": 30_000}
    december = registry.clock() + 40 * 86_400_000
    gone = forget_before(registry.store, 202612, signer=REGISTRY, account="desk", now_ms=december)
    assert (gone.events, gone.refused) == (6, {}), "a month still ends at a signed head"


def test_a_worker_that_waits_for_another_stores_later_than_that_one(registry: Registry, unit: Unit) -> None:
    """The time is taken once the unit's row is ours, not when the round began."""
    first, second = unit.batch(some(1, 2)), unit.batch(some(3, 4))
    other = registry.another_worker()
    locked, clock = registry.store.lock_units, registry.clock

    def slow(db: Any, names: Any) -> Any:
        registry.store.lock_units = locked  # type: ignore[method-assign]
        if registry.store.partitioned:
            registry.take(first, worker=other)
        clock.now_ms += 5000
        return locked(db, names)

    if not registry.store.partitioned:
        registry.take(first, worker=other)
    registry.store.lock_units = slow  # type: ignore[method-assign]
    registry.take(second)
    with registry.store.reading() as db:
        rows = db.execute(sa.select(events.c.received_ms).order_by(events.c.sequence)).scalars().all()
    assert [time - START_MS for time in rows] == [0, 0, 5000, 5000]
    assert registry.alarms() == {}


def test_a_batch_whose_predecessor_does_not_come_is_asked_for_again(registry: Registry, unit: Unit) -> None:
    first, second = unit.batch(some(1, 2)), unit.batch(some(3, 4))
    assert registry.take(second) == []
    registry.seconds += 5
    assert [(r.status, r.size) for r in registry.take()] == [("resend", 0)]
    assert registry.take(first, second)[-1].size == 4
    assert registry.alarms() == {}


def test_events_that_will_never_come_are_a_gap(registry: Registry, unit: Unit) -> None:
    registry.take(unit.batch(some(1, 2)))
    unit.batch(some(3, 4))
    unit.oldest = 5
    assert registry.insists(unit.batch(some(5, 6)))[0].size == 6
    assert registry.alarms()["GAP"]["evidence"] == {"missing_from": 3, "missing_to": 4}
    assert registry.take(unit.batch(some(7, 7)))[0].size == 7


def test_a_registry_that_was_put_back_asks_for_what_it_gave_receipts_for(
    registry: Registry, unit: Unit
) -> None:
    registry.take(unit.batch(some(1, 2)))
    kept = unit.batch(some(3, 4))
    unit.oldest = 5
    fresh = unit.batch(some(5, 6))
    assert [(r.status, r.size) for r in registry.take(fresh)] == [("resend", 2)]
    assert [r.size for r in registry.take(kept)] == [4], "which the unit holds still"
    assert registry.take(fresh)[0].size == 6
    assert registry.alarms() == {}
    assert registry.stored(unit) == unit.bodies


def test_a_second_history_is_a_fork_with_both_signatures(registry: Registry, unit: Unit) -> None:
    registry.take(unit.batch(some(1, 2)))
    copied = unit.copy()
    registry.take(unit.batch(some(3, 4)))
    copied.batch(some(3, 3, kind="DENIED_VOICE"))
    fork = copied.batch(some(4, 6))
    assert registry.take(fork)[0].status == "refused"
    assert "FORK" in registry.alarms()
    assert registry.stored(unit) == unit.bodies


def test_a_broker_that_turns_a_signature_into_its_other_form_makes_no_fork(
    registry: Registry, unit: Unit
) -> None:
    """(r, s) and (r, n - s) are both valid; the next head hashes the one that the unit made."""
    honest = unit.batch(some(1, 2))
    s = ORDER - int.from_bytes(honest.head[-32:], "big")
    turned = dataclasses.replace(honest, head=honest.head[:-32] + s.to_bytes(32, "big"))
    assert registry.take(turned) == []
    assert registry.take(honest)[0].size == 2
    assert registry.take(unit.batch(some(3, 4)))[0].status == "stored"
    assert (registry.alarms(), registry.refusals()) == ({}, {"malformed": 1})


def test_a_rewritten_past_is_noticed(registry: Registry, unit: Unit) -> None:
    copied = unit.copy()
    registry.take(unit.batch(some(1, 4)))
    assert registry.take(copied.batch(some(1, 4, kind="DENIED_VOICE")))[0].status == "refused"
    alarm = registry.alarms()["REWRITE"]
    assert bytes.fromhex(alarm["evidence"]["other_head"])
    assert registry.stored(unit) == unit.bodies


def test_an_old_message_played_back_is_a_replay(registry: Registry, unit: Unit) -> None:
    old = unit.batch(some(1, 2))
    registry.take(old)
    unit.oldest = 3
    registry.take(unit.batch(some(3, 4)))
    registry.take(old)
    assert registry.alarms() == {}  # late, but it may have waited in the broker
    registry.clock.now_ms += 3_600_000
    registry.take(old)
    assert "REPLAY" in registry.alarms()
    assert registry.refusals()["replayed"] == 1
    assert registry.stored(unit) == unit.bodies


def test_a_moved_clock_and_a_lower_boot_number_raise_alarms(registry: Registry, unit: Unit) -> None:
    registry.take(unit.batch(some(1, 2)))
    registry.take(unit.batch([event(3, time_ms=START_MS + 10 * 86_400_000)]))
    assert registry.alarms()["CLOCK_JUMP"]["evidence"]["sequence"] == 3
    assert "CLOCK_AHEAD" in registry.alarms()
    registry.take(unit.batch([event(4, boot=1)]))
    assert "BOOT_ROLLBACK" in registry.alarms()


def test_an_unknown_and_a_revoked_unit_are_refused(registry: Registry, unit: Unit) -> None:
    stranger = Unit("elsewhere/door-1")
    assert registry.take(stranger.batch(some(1, 1))) == []
    assert "UNKNOWN_UNIT" in registry.alarms()
    registry.store.revoke(unit.unit, registry.clock())
    assert registry.take(unit.batch(some(1, 1)))[0].status == "refused"
    assert registry.refusals() == {"unknown unit": 1, "revoked unit": 1}


def test_a_unit_registered_while_the_worker_runs_is_known_soon(registry: Registry) -> None:
    late = Unit("st-mary/late")
    assert registry.take(late.batch(some(1, 1))) == []
    registry.register(late)
    registry.seconds += 10
    assert registry.take(late.batch(some(2, 2))) == []  # event 1 is still on its way
    registry.seconds += 10
    assert registry.take()[0].status == "resend"


def hostile(unit: Unit) -> list[tuple[str, str, bytes]]:
    """(why it must be refused, topic, payload)."""
    name = topic(unit.unit, EVENTS)
    good = unit.copy().batch(some(1, 3))
    forged = Unit(unit.unit).batch(some(1, 3))
    edited = dataclasses.replace(good, bodies=(*good.bodies[:-1], good.bodies[0]))
    return [
        ("malformed", name, b""),
        ("malformed", name, b"\xff" * 100),
        ("malformed", name, b"\x81" * 100_000),
        ("malformed", name, good.to_bytes()[:-5]),
        ("malformed", name, b'{"unit": "Maria Rossi"}'),
        ("oversized", name, b"\x00" * 600_000),
        ("bad signature", name, forged.to_bytes()),
        ("bad signature", name, edited.to_bytes()),
        ("bad signature", name, dataclasses.replace(good, first=2).to_bytes()),
        ("foreign", name, Unit("st-mary/icu-3").batch(some(1, 1)).to_bytes()),
        ("malformed", "ostiary/v1/a b/c/events", good.to_bytes()),
        ("malformed", "somewhere/else", good.to_bytes()),
    ]


def test_hostile_messages_are_refused_counted_shown_and_stop_nobody(registry: Registry, unit: Unit) -> None:
    expected: dict[str, int] = {}
    for reason, name, payload in hostile(unit):
        assert registry.take_raw([(name, payload)]) == []
        expected[reason] = expected.get(reason, 0) + 1
    shown: dict[str, int] = {}
    for row in status.refusal_counts(registry.store):
        shown[row["reason"]] = shown.get(row["reason"], 0) + row["times"]
    assert shown == expected
    assert registry.take(unit.batch(some(1, 3)))[0].size == 3


def test_a_hostile_message_does_not_spoil_the_good_ones_beside_it(registry: Registry, unit: Unit) -> None:
    bad = [(name, payload) for _, name, payload in hostile(unit)]
    good = [(topic(unit.unit, EVENTS), unit.batch(some(1, 3)).to_bytes())]
    assert registry.take_raw([*bad[:6], *good, *bad[6:]])[0].size == 3


def test_a_unit_cannot_change_its_key(registry: Registry, unit: Unit) -> None:
    with pytest.raises(Exception, match="another key"):
        registry.register(Unit(unit.unit))


def test_an_export_verifies_and_an_edited_row_is_found(registry: Registry, unit: Unit) -> None:
    last = b""
    for start in range(1, 30, 5):
        batch = unit.batch(some(start, start + 4))
        registry.take(batch)
        last = batch.head
    key = unit.signer.public_key()
    made = export.bundle(registry.store, unit.unit).to_bytes()
    assert verify(made, key, unit=unit.unit, checkpoints=[last]).findings == []
    other = Record(unit.unit, 7, event(7, kind="DENIED_VOICE")).to_bytes()
    with registry.store.transaction() as db:
        db.execute(sa.update(events).where(events.c.sequence == 7).values(body=other))
    edited = export.bundle(registry.store, unit.unit).to_bytes()
    report = verify(edited, key, unit=unit.unit)
    assert [finding.where for finding in report.findings] == ["events 6 to 10"]


def test_retention_forgets_whole_months_and_the_rest_still_verifies(registry: Registry, unit: Unit) -> None:
    registry.clock.now_ms = 1_793_000_000_000  # 2026-10-26
    old = unit.batch(some(1, 5))
    registry.take(old)
    registry.take(unit.batch(some(6, 8)))
    registry.clock.now_ms += 10 * 86_400_000  # November
    registry.take(unit.batch(some(9, 12)))
    gone = forget_before(registry.store, 202611, signer=REGISTRY, account="desk", now_ms=registry.clock())
    assert (gone.events, gone.refused) == (8, {})
    made = export.bundle(registry.store, unit.unit)
    assert len(made.heads) == 2, "the one at the cut, and the one that is kept"
    assert (made.first, len(made.events)) == (9, 4)
    assert verify(made.to_bytes(), unit.signer.public_key(), unit=unit.unit, start=9).findings == []
    unit.oldest = 13
    assert registry.take(unit.batch(some(13, 14)))[0].size == 14
    registry.clock.now_ms += 86_400_000
    assert registry.take(old)[0].status == "stored"
    assert set(registry.alarms()) == {"REPLAY"}, "what was forgotten and comes back is no second history"
    made = export.bundle(registry.store, unit.unit)
    assert verify(made.to_bytes(), unit.signer.public_key(), start=9).findings == []


def test_csv_and_json_lines_hold_every_event_once(registry: Registry, unit: Unit) -> None:
    last = event(7, silent_alarm=True, more_scores=(("replay_llr", 1.5),))
    registry.take(unit.batch([*some(1, 6), last]))
    lines = [json.loads(line) for line in export.as_jsonl(export.rows(registry.store))]
    assert [line["sequence"] for line in lines] == list(range(1, 8))
    assert lines[0]["event_id"] == str(uuid.UUID(int=2, version=4))
    told = ("policy", "models", "more_scores", "silent_alarm", "boot")
    assert [lines[6][name] for name in told] == [
        "policy-7", ["campplus-1.2.0", "tiny.en-q8@3"], {"replay_llr": 1.5}, True, 3,
    ]  # fmt: skip
    text = "".join(export.as_csv(export.rows(registry.store, unit.unit)))
    table = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["sequence"]) for row in table] == list(range(1, 8))
    assert [table[6][name] for name in told] == [
        "policy-7", "campplus-1.2.0 tiny.en-q8@3", '{"replay_llr": 1.5}', "True", "3",
    ]  # fmt: skip
    assert json.loads(table[0]["timings"])["total_ms"] == 190


def test_health_makes_a_status_and_silence_is_computed(registry: Registry, unit: Unit) -> None:
    assert status.unit_statuses(registry.store, registry.clock())[0].state == "new"
    registry.store.save_health({unit.unit: '{"state": "online", "pending": 4}'}, registry.clock())
    assert status.unit_statuses(registry.store, registry.clock())[0].state == "online"
    later = registry.clock() + 600_000
    assert status.unit_statuses(registry.store, later)[0].state == "silent"
    registry.store.save_health({unit_id("no/one"): "{}", unit.unit: "{}"}, later)
    assert [unit.state for unit in status.unit_statuses(registry.store, later)] == ["online"]


def test_a_database_that_goes_away_is_one_error_and_nothing_is_half_stored(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.db")
    unit = registry.register(Unit())
    with registry.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE heads RENAME TO elsewhere"))
    batch = unit.batch(some(1, 3))
    with pytest.raises(StoreError):
        registry.take(batch)
    with registry.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE elsewhere RENAME TO heads"))
    assert registry.stored(unit) == []
    assert registry.take(batch)[0].size == 3


def test_a_database_that_is_away_when_a_worker_starts_makes_no_unit_a_stranger(
    registry: Registry, unit: Unit
) -> None:
    fresh, batch = registry.another_worker(), unit.batch(some(1, 3))
    with registry.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE units RENAME TO elsewhere"))
    with pytest.raises(StoreError):
        registry.take(batch, worker=fresh)
    with registry.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE elsewhere RENAME TO units"))
    assert registry.take(batch, worker=fresh)[0].size == 3
    assert registry.alarms() == {}


def test_a_month_begins_while_another_worker_is_busy_with_campaigns(cluster: str) -> None:
    busy = Store.open(cluster)
    registry = Registry(f"{cluster}?options=-c%20lock_timeout%3D5000")
    try:
        unit = registry.register(Unit())
        with busy.transaction() as db:
            take_turn(db, Turn.CAMPAIGNS)
            assert registry.take(unit.batch(some(1, 3)))[0].size == 3
    finally:
        with busy.transaction() as db:
            db.execute(sa.text("DROP SCHEMA public CASCADE"))
            db.execute(sa.text("CREATE SCHEMA public"))
        busy.close()
        registry.store.close()


@pytest.mark.parametrize(
    ("changed", "to", "words"),
    [
        ("/registry", "/nowhere", "no database of that name"),
        ("registry@", "stranger@", "refuses this user or the password"),
        ("@127.0.0.1", "@nowhere.invalid", "no such host is known"),
        ("/registry", "/registry?sslmode=require", "do not agree on TLS"),
        ("@127.0.0.1:", "@127.0.0.1:1?", "does not answer"),
    ],
)
def test_a_server_that_refuses_a_connection_is_not_said_to_be_away(
    cluster: str, changed: str, to: str, words: str
) -> None:
    front, _, back = cluster.rpartition(changed)
    with pytest.raises(StoreError, match=words):
        Store.open(front + to + ("" if to.endswith("?") else back), create=False)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("consuming input failed: SSL connection has been closed unexpectedly", "does not answer"),
        ("consuming input failed: SSL SYSCALL error: EOF detected", "does not answer"),
        ('failed: FATAL:  too many connections for role "registry"', "no connection left"),
        ('failed: FATAL:  permission denied for database "registry"', "refuses this user"),
        ("failed: FATAL:  the database system is starting up", "is starting"),
    ],
)
def test_what_the_driver_tells_without_a_code_is_told_by_what_it_means(told: str, words: str) -> None:
    assert words in of_database(psycopg.OperationalError(told))


def test_a_fault_of_the_program_is_not_said_to_be_a_server_that_is_away(cluster: str) -> None:
    store = Store.open(cluster)
    try:
        with pytest.raises(StoreError, match=r"a fault of the program"), store.transaction() as db:
            db.execute(sa.text("SELECT :name"), {})
    finally:
        store.close()


@pytest.mark.parametrize("url", ["mysql://x", "sqlite:////no/such/folder/registry.db", "nonsense"])
def test_a_database_that_cannot_be_opened_is_one_line(url: str) -> None:
    with pytest.raises(StoreError) as refused:
        Store.open(url)
    assert "\n" not in str(refused.value)
