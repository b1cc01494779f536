"""The agent against a broker that loses, repeats and reorders: order kept, rows leave on receipts only."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.events import unit_id
from sync.keys import FileSigner
from sync.outbox import Outbox, OutboxLimits
from sync.proofs import chain
from sync.transport.agent import Agent, AgentSettings
from sync.transport.health import open_health
from sync.transport.messages import BatchMessage, Receipt, ReceiptStatus
from sync.transport.mqtt import Message
from sync.transport.topics import EVENTS, HEALTH, RECEIPTS, topic
from tests.sync.parts import DOORS, START_MS, UNIT, Clock, SoftwareSigner, event

REGISTRY = FileSigner.generate()
NAME = unit_id(UNIT)


class FakeLink:
    """A connection whose other end the test holds."""

    def __init__(self) -> None:
        self.inbox: deque[Message] = deque()
        self.connected = True
        self.connections = 1
        self.failures = 0
        self.sent: list[tuple[str, bytes]] = []
        self.acknowledged: list[Message] = []

    def publish(self, name: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        assert self.connected
        self.sent.append((name, payload))

    def done(self, message: Message) -> None:
        self.acknowledged.append(message)

    def batches(self) -> list[BatchMessage]:
        taken = [BatchMessage.from_bytes(data) for name, data in self.sent if name == topic(NAME, EVENTS)]
        self.sent.clear()
        return taken

    def answer(
        self, batch: BatchMessage, status: ReceiptStatus = "stored", signer: FileSigner = REGISTRY
    ) -> None:
        link = chain.extend(batch.previous_chain, batch.bodies)
        self.deliver(Receipt(NAME, batch.last, link, status, 0).signed(signer))

    def deliver(self, payload: bytes, name: str = topic(NAME, RECEIPTS)) -> None:
        self.inbox.append(Message(name, payload, 1, 1))


class World:
    def __init__(self, folder: Path, **limits: int) -> None:
        self.seconds = 0.0
        self.link = FakeLink()
        room = OutboxLimits(batch_events=2, ballast_bytes=0, **limits)
        self.outbox = Outbox(folder / "audit.db", unit=UNIT, doors=DOORS, now_ms=Clock(), limits=room)
        self.agent = Agent(
            log=self.outbox,
            signer=SoftwareSigner(),
            link=self.link,  # type: ignore[arg-type]
            registry_key=REGISTRY.public_key(),
            now_s=lambda: self.seconds,
            time_ms=lambda: START_MS,
            settings=AgentSettings(window=2, seal_every_s=0.0),
            facts=lambda: {"software": "1.0"},
        )

    def append(self, count: int) -> None:
        first = self.outbox.status().sequence
        for number in range(first, first + count):
            self.outbox.append(event(number))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.outbox.close()


def test_a_window_of_batches_goes_out_in_order_and_rows_leave_on_receipts(world: World) -> None:
    world.append(6)
    world.agent.step()
    first, second = world.link.batches()
    assert (first.first, second.first, first.oldest, second.oldest) == (1, 3, 1, 1)
    world.link.answer(first)
    world.agent.step()
    assert world.outbox.status().acknowledged == 2
    (third,) = world.link.batches()
    assert (third.first, third.oldest) == (5, 3)
    world.link.answer(third)
    world.agent.step()
    assert world.outbox.status().pending == 0


def test_a_backlog_travels_in_large_batches(world: World) -> None:
    world.append(2)
    world.agent.step()
    world.append(2)
    world.agent.step()
    first, second = world.link.batches()
    for _ in range(5):
        world.append(1)
        world.agent.step()
    assert world.outbox.status().sealed == 4, "nothing is sealed while nothing could be sent"
    world.link.answer(first)
    world.link.answer(second)
    world.agent.step()
    assert [len(batch.bodies) for batch in world.link.batches()] == [2, 2]


def test_nothing_leaves_without_a_receipt_and_silence_means_sending_again(world: World) -> None:
    world.append(2)
    world.agent.step()
    (first,) = world.link.batches()
    world.seconds = 4.0
    world.agent.step()
    assert world.link.batches() == []
    world.seconds = 6.0
    world.agent.step()
    assert world.link.batches() == [first]
    assert world.outbox.status().pending == 2
    assert world.agent.counts.resends == 1


def test_waiting_grows_with_silence_and_is_capped(world: World) -> None:
    world.append(2)
    times = []
    for tick in range(4000):
        world.seconds = tick * 0.5
        world.agent.step()
        if world.link.batches():
            times.append(world.seconds)
    waits = [b - a for a, b in itertools.pairwise(times)]
    assert min(waits) >= 5
    assert 30 < max(waits) <= 66


def test_a_reconnect_starts_again_from_the_last_receipt(world: World) -> None:
    world.append(4)
    world.agent.step()
    first, second = world.link.batches()
    world.link.answer(first)
    world.link.connected = False
    world.agent.step()
    world.link.connected, world.link.connections = True, 2
    world.agent.step()
    (again,) = world.link.batches()
    assert (again.first, again.bodies, again.oldest) == (second.first, second.bodies, 3)


def test_a_registry_that_asks_again_gets_it_again(world: World) -> None:
    world.append(4)
    world.agent.step()
    first, _ = world.link.batches()
    world.link.deliver(Receipt(NAME, 0, chain.genesis(NAME), "resend", 0).signed(REGISTRY))
    world.agent.step()
    assert world.link.batches()[0] == first


def test_a_refusal_makes_the_agent_wait_and_keep_everything(world: World) -> None:
    world.append(2)
    world.agent.step()
    (first,) = world.link.batches()
    world.link.answer(first, "refused")
    world.agent.step()
    world.seconds = 59.0
    world.agent.step()
    assert world.link.batches() == []
    assert world.outbox.status().pending == 2
    world.seconds = 61.0
    world.agent.step()
    assert len(world.link.batches()) == 1


def test_forged_foreign_malformed_and_impossible_receipts_free_nothing(world: World) -> None:
    world.append(2)
    world.agent.step()
    (first,) = world.link.batches()
    world.link.answer(first, signer=FileSigner.generate())
    other = Receipt(unit_id("st-mary/icu-3"), 2, bytes(32), "stored", 0).signed(REGISTRY)
    world.link.deliver(other)
    world.link.deliver(Receipt(NAME, 2, bytes(32), "stored", 0).signed(REGISTRY))
    world.link.deliver(Receipt(NAME, 99, bytes(32), "stored", 0).signed(REGISTRY))
    world.link.deliver(b"\xff" * 50)
    world.link.deliver(b"", "not/our/topic")
    world.link.deliver(first.to_bytes(), topic(unit_id("st-mary/icu-3"), RECEIPTS))
    world.agent.step()
    assert world.outbox.status().pending == 2
    assert world.agent.counts.messages_refused == 5
    assert world.agent.counts.refused == 2


def put_back(world: World, size: int, time_ms: int) -> None:
    """The registry, as of its backup, holds events up to `size` and asks for the next."""
    link = chain.genesis(NAME)
    for after in range(0, size, 2):
        batch = world.outbox.batch_after(after)
        assert batch is not None
        link = chain.extend(link, batch.bodies)
    world.link.deliver(Receipt(NAME, size, link, "resend", time_ms).signed(REGISTRY))
    world.agent.step()


def all_stored(world: World) -> list[BatchMessage]:
    """Everything that the unit sends until it has nothing more to send, each with a receipt."""
    sent: list[BatchMessage] = []
    while batches := world.link.batches():
        for batch in batches:
            world.link.answer(batch)
        sent += batches
        world.agent.step()
    return sent


def test_a_registry_that_was_put_back_is_sent_again_what_it_gave_receipts_for(world: World) -> None:
    world.append(8)
    world.agent.step()
    assert len(all_stored(world)) == 4
    assert world.outbox.status().pending == 0
    put_back(world, 4, 1000)
    again = world.link.batches()
    assert [(batch.first, batch.oldest) for batch in again] == [(5, 5), (7, 5)], "and says that it holds them"
    for _ in range(2):  # nothing came: from the same place, not from the last receipt
        world.seconds += 100
        world.agent.step()
        assert [batch.first for batch in world.link.batches()] == [5, 7]
    world.append(2)
    world.link.answer(again[0])
    world.link.answer(again[1])
    world.agent.step()
    assert [(batch.first, batch.oldest) for batch in all_stored(world)] == [(9, 9)]


def test_an_old_request_for_what_has_receipts_asks_for_nothing(world: World) -> None:
    world.append(4)
    world.agent.step()
    all_stored(world)
    put_back(world, 2, 1000)
    assert [batch.first for batch in all_stored(world)] == [3]
    put_back(world, 0, 1000)
    assert world.link.batches() == []
    put_back(world, 0, 1001)
    assert [batch.first for batch in all_stored(world)] == [1, 3]


def test_a_registry_that_asks_for_more_than_is_kept_gets_what_is_there_once_a_second(tmp_path: Path) -> None:
    world = World(tmp_path, keep_events=4)
    world.append(10)
    world.agent.step()
    all_stored(world)
    assert world.outbox.kept_from() == 6
    world.link.deliver(Receipt(NAME, 0, chain.genesis(NAME), "resend", 7).signed(REGISTRY))
    world.agent.step()
    assert world.link.batches() == []
    world.seconds += 1.0
    world.agent.step()
    assert [(batch.first, batch.oldest) for batch in all_stored(world)] == [(7, 7), (9, 7)]
    world.outbox.close()


def test_health_carries_versions_and_numbers_and_is_sent_on_connecting(world: World) -> None:
    world.agent.step()
    (name, payload) = world.link.sent[-1]
    report = open_health(payload, world.agent.signer.public_key(), NAME)
    assert name == topic(NAME, HEALTH)
    assert (report["state"], report["facts"], report["pending"]) == ("online", {"software": "1.0"}, 0)


def test_random_loss_repetition_and_reordering_never_break_the_order(world: World) -> None:
    dice = random.Random(5)
    stored, link = 0, chain.genesis(NAME)
    world.append(60)
    in_the_air: list[BatchMessage] = []
    for _ in range(3000):
        world.seconds += dice.choice([0.1, 3.0])
        if dice.random() < 0.05:
            world.link.connections += 1
        world.agent.step()
        in_the_air += [batch for batch in world.link.batches() if dice.random() < 0.8]
        dice.shuffle(in_the_air)
        while in_the_air and dice.random() < 0.7:
            batch = dice.choice(in_the_air)
            if dice.random() < 0.8:
                in_the_air.remove(batch)
            if batch.first == stored + 1:
                stored, link = batch.last, chain.extend(link, batch.bodies)
            assert batch.oldest <= stored + 1, "the unit forgot what the registry does not have"
            if batch.last <= stored and dice.random() < 0.8:
                world.link.deliver(Receipt(NAME, stored, link, "stored", 0).signed(REGISTRY))
        if world.outbox.status().pending == 0:
            break
    assert (stored, world.outbox.status().pending) == (60, 0)
