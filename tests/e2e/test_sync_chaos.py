"""Everything at once, in little: what may break breaks while units write, and hostile units write as well.

Afterwards every event is stored once, every worker is at work, the alarms that should be there are, and no
honest unit is accused. `scripts/chaos` is the long form: a hundred units, ten minutes.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.agent import Agent, AgentSettings
from sync.bundle import key_from_bytes, key_to_der
from sync.command_line import wall_ms
from sync.events import UnitId, unit_id
from sync.fleet.certificates import LEAF_DAYS, Authority
from sync.fleet.simulated import MemoryLog
from sync.health import WILL
from sync.keys import FileSigner
from sync.mqtt import Link, LinkSettings, Reactor, TlsFiles, Will, tls_context
from sync.registry import export, status
from sync.registry.schema import events
from sync.registry.store import Store
from sync.topics import HEALTH, RECEIPTS, topic
from sync.verify import verify
from tests.e2e.sync_world import Process
from tests.sync import fuzz
from tests.sync.parts import event
from tests.sync.services import NOW, Mosquitto, Postgres, postgres

UNITS = int(os.environ.get("OSTIARY_CHAOS_UNITS", "12"))
ROUNDS = int(os.environ.get("OSTIARY_CHAOS_ROUNDS", "1"))
REST_S = float(os.environ.get("OSTIARY_CHAOS_REST_S", "1.5"))
WITHIN_S = 240.0
HOSTILE_SHARE = 0.05
DISK_MB = int(os.environ.get("OSTIARY_CHAOS_DISK_MB", "0")) or None
"""The registry's disk, which is filled now and then; of root only, and in the long form."""
ACCUSATIONS = {"FORK", "REWRITE", "GAP", "BAD_SIGNATURE", "REPLAY", "COUNTER_ROLLBACK", "BOOT_ROLLBACK"}
OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]
AGENT = AgentSettings(window=4, receipt_timeout_s=2.0, receipt_timeout_cap_s=8.0, health_every_s=2.0)
JUMPING, EXPIRING = 0, 1
"""Which unit's clock jumps, and whose certificate runs out."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(ROUNDS * 300 + 900)]


class World:
    """Honest units and a hostile one on real connections, two workers, a broker, PostgreSQL."""

    def __init__(self, folder: Path, database: Postgres) -> None:
        self.folder, self.database = folder, database
        self.authority = Authority.open(folder / "pki", NOW)
        self.broker = Mosquitto(folder, self.authority, default=False)
        self.broker.start()
        self.store = Store.open(database.url)
        receipts = FileSigner.create(folder / "receipts.key")
        self.reactor, self.dice = Reactor(), random.Random(5)
        self.jump_ms = 0
        self.signers: dict[UnitId, FileSigner] = {}
        self.agents = [self._unit(number, receipts) for number in range(UNITS)]
        self.store.register(fuzz.NAME, key_to_der(fuzz.KEY), wall_ms())
        self.hostile = self._link(fuzz.NAME, self.authority.issue(fuzz.NAME, NOW))
        self.workers = [self._worker(number) for number in (1, 2)]
        self.written = self.sent_hostile = 0

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.reactor.close()
        self.store.close()
        self.broker.remove()

    def _link(self, name: str, files: TlsFiles, **more: Any) -> Link:
        settings = LinkSettings("127.0.0.1", self.broker.port, name, files, session_s=0)
        return self.reactor.link(settings, **more)

    def _unit(self, number: int, receipts: FileSigner) -> Agent:
        name, signer = unit_id(f"site-{number % 5}/unit-{number}"), FileSigner.generate()
        self.signers[name] = signer
        self.store.register(name, key_to_der(signer.public_key()), wall_ms())
        until = NOW - dt.timedelta(days=LEAF_DAYS) + dt.timedelta(seconds=8)
        files = self.authority.issue(name, until if number == EXPIRING else NOW)
        will = Will(topic(name, HEALTH), WILL)
        return Agent(
            log=MemoryLog(name, time.monotonic, wall_ms),
            signer=signer,
            link=self._link(name, files, subscriptions=[topic(name, RECEIPTS)], will=will),
            registry_key=key_from_bytes(receipts.public_pem()),
            now_s=time.monotonic,
            time_ms=wall_ms,
            settings=AGENT,
        )

    def _worker(self, number: int) -> Process:
        files = self.authority.issue(f"worker-{number}", NOW)
        command = [*OSTIARY, "registry", "worker", "--database", self.database.url]
        command += ["--broker", f"127.0.0.1:{self.broker.port}", "--ca", str(files.ca)]
        command += ["--cert", str(files.certificate), "--key", str(files.key)]
        command += ["--signing-key", str(self.folder / "receipts.key")]
        command += ["--metrics", str(self._figures(number))]
        made = Process("worker", command, self.folder / "worker.log")
        made.start()
        return made

    def _figures(self, number: int) -> Path:
        return self.folder / f"worker-{number}.prom"

    def write(self) -> None:
        """One event at the next unit, and now and then something hostile."""
        number = self.written % UNITS
        log = self.agents[number].log
        assert isinstance(log, MemoryLog)
        now = wall_ms() + (self.jump_ms if number == JUMPING else 0)
        log.append(event(self.written, time_ms=now, monotonic_ms=int(time.monotonic() * 1000), person=None))
        self.written += 1
        if self.hostile.connected and self.dice.random() < HOSTILE_SHARE:
            channel, payload = fuzz.on_the_wire(self.dice)
            self.hostile.publish(topic(fuzz.NAME, channel), payload, retain=channel == HEALTH)
            self.sent_hostile += 1

    def lives(self, until: Callable[[], bool], seconds: float, *, writes: bool = True) -> bool:
        """Units write and send until something is so, or `seconds` have passed."""
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:
            if writes:
                self.write()
            for agent in self.agents:
                agent.step()
            self.reactor.poll(0.01)
        return until()

    def rests(self) -> None:
        self.lives(lambda: False, REST_S)

    def acknowledged(self) -> bool:
        return not any(agent.log.status().pending for agent in self.agents)

    def waiting(self) -> list[str]:
        """Who has no receipt, and how its connection is."""
        return [
            f"{agent.log.unit}: {agent.log.status()}, {agent.link.connected} {agent.link.last_error}"
            for agent in self.agents
            if agent.log.status().pending
        ]

    # -- what goes wrong

    def database_dies(self) -> None:
        self.database.kill()
        self.rests()
        self.database.start()

    def database_takes_nothing(self) -> None:
        self._read_only("on")
        self.rests()
        self._read_only("off")

    def _read_only(self, state: str) -> None:
        """For every connection made from now on; those that there are end."""
        others = "pid <> pg_backend_pid() AND usename = 'registry'"
        self._sql(
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE registry SET default_transaction_read_only = {state}",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}",  # noqa: S608
        )

    def disk_is_full(self) -> None:
        """The registry's; that of a unit is in test_faults.py."""
        if self.database.has_own_disk:
            self.database.fill()
            self.rests()
            self.database.make_room()

    def broker_dies(self) -> None:
        self.broker.kill()
        self.rests()
        self.broker.start()

    def worker_dies(self) -> None:
        worker = self.dice.choice(self.workers)
        worker.kill()
        self.rests()
        worker.start()

    def clock_jumps(self) -> None:
        self.jump_ms += 3_600_000

    def certificate_is_renewed(self) -> None:
        """The one that ran out keeps its unit out since the broker was started again."""
        agent = self.agents[EXPIRING]
        assert self.lives(lambda: not agent.link.connected and agent.link.failures > 0, WITHIN_S)
        files = self.authority.issue(agent.log.unit, NOW)
        agent.link.client._ssl_context = tls_context(files)

    def _sql(self, *statements: str) -> None:
        engine = sa.create_engine(sa.make_url(self.database.url).set(drivername="postgresql+psycopg"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            for statement in statements:
                db.execute(sa.text(statement))
        engine.dispose()

    # -- what came of it

    def messages_of(self, number: int) -> float:
        text = self._figures(number).read_text() if self._figures(number).exists() else ""
        found = re.search(r"^ostiary_registry_messages_total (\S+)", text, re.M)
        return float(found[1]) if found else 0.0

    def stored(self) -> dict[str, list[int]]:
        query = sa.select(events.c.unit, events.c.sequence).order_by(events.c.unit, events.c.sequence)
        with self.store.reading() as db:
            rows = db.execute(query).all()
        return {
            unit: [row.sequence for row in group] for unit, group in itertools.groupby(rows, lambda r: r.unit)
        }


def test_whatever_breaks_every_event_is_stored_once_and_no_honest_unit_is_accused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with postgres(DISK_MB) as database:
        world = World(tmp_path, database)
        try:
            strikes = [
                world.database_dies,
                world.clock_jumps,
                world.worker_dies,
                world.database_takes_nothing,
                world.disk_is_full,
                world.broker_dies,
                world.certificate_is_renewed,
            ]
            others = [agent for agent in world.agents if agent is not world.agents[EXPIRING]]
            assert world.lives(lambda: all(agent.link.connected for agent in others), WITHIN_S, writes=False)
            for _, strike in itertools.product(range(ROUNDS), strikes):
                strike()
                if strike == world.certificate_is_renewed:
                    strikes.remove(strike)  # it runs out once
                world.rests()
            assert world.lives(world.acknowledged, WITHIN_S, writes=False), world.waiting()
            before = [world.messages_of(number) for number in (1, 2)]
            awake = lambda: all(world.messages_of(n) > old for n, old in zip((1, 2), before, strict=True))  # noqa: E731
            assert world.lives(awake, WITHIN_S), "both workers are at work"
            assert world.lives(world.acknowledged, WITHIN_S, writes=False)
            judge(world, capsys)
        finally:
            world.close()


def judge(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    stored = world.stored()
    for agent in world.agents:
        assert stored[agent.log.unit] == list(range(1, agent.log.status().sequence + 1))
        data = export.bundle(world.store, agent.log.unit).to_bytes()
        key = world.signers[agent.log.unit].public_key()
        assert verify(data, key, unit=agent.log.unit).findings == []
    alarms = status.open_alarms(world.store)
    accused = [(a["kind"], a["unit"]) for a in alarms if a["kind"] in ACCUSATIONS and a["unit"] != fuzz.NAME]
    assert accused == []
    jumped = {a["unit"] for a in alarms if a["kind"] == "CLOCK_JUMP" and a["unit"] != fuzz.NAME}
    assert jumped == {world.agents[JUMPING].log.unit}
    refused: Counter[str] = Counter()
    for row in status.refusal_counts(world.store):
        refused[row["reason"]] += row["times"]
        assert row["unit"] in ("", fuzz.NAME), f"{row['unit']} is honest"
    assert sum(refused.values()) > 0.5 * world.sent_hostile
    assert refused["unhandled"] == 0, "each was refused for what it is"
    with capsys.disabled():
        told = f"{world.written} events of {UNITS} units, {world.sent_hostile} hostile messages"
        print(f"\n{told}: {dict(refused)}")
