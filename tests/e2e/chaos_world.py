"""Honest units and a hostile one on real connections, two workers, a detector, a broker, a database."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.units.memory_log import MemoryLog
from sync.errors import SyncError
from sync.events import UnitId, unit_id
from sync.fleet.certificates import LEAF_DAYS, Authority
from sync.keys import FileSigner
from sync.outbox import Outbox, OutboxFullError, OutboxLimits
from sync.proofs.bundle import key_from_bytes, key_to_der
from sync.registry.database.schema import events
from sync.registry.database.store import Store
from sync.registry.reports import status
from sync.service.command_line import wall_ms
from sync.transport.agent import Agent, AgentSettings
from sync.transport.health import WILL, open_health
from sync.transport.mqtt import Link, LinkSettings, Reactor, TlsFiles, Will, tls_context
from sync.transport.topics import EVENTS, HEALTH, RECEIPTS, RESULTS, topic
from tests.bad_world.clocks import MovableClock
from tests.e2e.chaos_database import Database
from tests.e2e.sync_world import Process
from tests.sync import fuzz
from tests.sync.disks import CAN_MOUNT, Disk
from tests.sync.parts import DOORS, event
from tests.sync.services import NOW, Mosquitto

UNITS = int(os.environ.get("OSTIARY_CHAOS_UNITS", "12"))
REST_S = float(os.environ.get("OSTIARY_CHAOS_REST_S", "1"))
WITHIN_S = 240.0
WRITES = 1 + UNITS // 10
"""Events in a round of all units, so that a hundred units write more than ten."""
HOSTILE_SHARE = 0.05
OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]
AGENT = AgentSettings(window=4, receipt_timeout_s=2.0, receipt_timeout_cap_s=8.0, health_every_s=2.0)
JUMPING, HIGH_RISK, LOW_RISK = 0, 1, 2
"""Which unit's clock jumps; which two have a disk, and so a log that may be full."""
FIRST_WITHOUT_PART = 3
WORKERS = (1, 2)
RAN_OUT = NOW - dt.timedelta(days=LEAF_DAYS + 1)


class World:
    """Everything lives in `lives`, in this thread; only workers, detector, broker and database do not."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.authority = Authority.open(folder / "pki", NOW)
        self.broker = Mosquitto(folder, self.authority, default=False)
        self.broker.start()
        self.registrys_clock = MovableClock(folder)
        self._receipts = FileSigner.create(folder / "receipts.key")
        self._disk_folder = Path(tempfile.mkdtemp(prefix="ostiary-chaos-unit-"))
        self.unit_disk = Disk(self._disk_folder, 12) if CAN_MOUNT else None
        self.reactor, self.dice = Reactor(), random.Random(5)
        self.jump_ms, self._next, self._numbers = 0, 0, itertools.count()
        self.signers: dict[UnitId, FileSigner] = {}
        self.agents = [self._unit(number) for number in range(UNITS)]
        store = Store.open(database.url)
        for name, signer in self.signers.items():
            store.register(name, key_to_der(signer.public_key()), wall_ms())
        store.register(fuzz.NAME, key_to_der(fuzz.KEY), wall_ms())
        store.close()
        self.hostile = self._link(fuzz.NAME, self.authority.issue(fuzz.NAME, NOW))
        self.processes = {f"worker-{n}": self._worker(n) for n in WORKERS} | {"watch": self._watch()}
        self.began_ms = wall_ms()
        self.start()
        self.written = self.sent_hostile = self.not_taken = 0
        self._silent_until: dict[int, float] = {}

    def close(self) -> None:
        self.kill()
        self.reactor.close()
        for agent in self.agents:
            if isinstance(agent.log, Outbox):
                agent.log.close()
        if self.unit_disk is not None:
            self.unit_disk.remove()
        self._disk_folder.rmdir()
        self.broker.remove()

    def start(self) -> None:
        for process in self.processes.values():
            if not process.running:
                process.start()

    def kill(self, *names: str) -> None:
        for name in names or self.processes:
            self.processes[name].kill()

    def _link(self, name: str, files: TlsFiles, **more: Any) -> Link:
        settings = LinkSettings("127.0.0.1", self.broker.port, name, files)
        return self.reactor.link(settings, **more)

    def _unit(self, number: int) -> Agent:
        name, signer = unit_id(f"site-{number % 5}/unit-{number}"), FileSigner.generate()
        self.signers[name] = signer
        will = Will(topic(name, HEALTH), WILL)
        log: MemoryLog | Outbox = MemoryLog(name, time.monotonic, wall_ms)
        if self.unit_disk is not None and number in (HIGH_RISK, LOW_RISK):
            path, limits = self._disk_folder / f"{number}.db", OutboxLimits(ballast_bytes=1 << 18)
            log = Outbox(path, unit=name, doors=DOORS, now_ms=wall_ms, limits=limits)
            log.next_boot()
        return Agent(
            log=log,
            signer=signer,
            link=self._link(
                name, self.authority.issue(name, NOW), subscriptions=[topic(name, RECEIPTS)], will=will
            ),
            registry_key=key_from_bytes(self._receipts.public_pem()),
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
        return Process("worker", command, self.folder / "worker.log", self.registrys_clock.environment())

    def _watch(self) -> Process:
        command = [*OSTIARY, "registry", "watch", "--every", "1", "--database", self.database.url]
        return Process("watch", command, self.folder / "watch.log", self.registrys_clock.environment())

    # -- what goes on all the while

    def write(self) -> None:
        """One event at the next unit, and now and then something hostile."""
        self.record(self._next % UNITS)
        self._next += 1
        if self.hostile.connected and self.dice.random() < HOSTILE_SHARE:
            self.attack()

    def record(self, number: int, **changes: Any) -> bool:
        """An event at one unit; whether its log took it. What it does not take, the door does not do."""
        log, now = self.agents[number].log, wall_ms() + (self.jump_ms if number == JUMPING else 0)
        fields = {"time_ms": now, "monotonic_ms": int(time.monotonic() * 1000), "person": None, **changes}
        made = event(next(self._numbers), **fields)
        if isinstance(log, MemoryLog):
            log.append(made)
        else:
            assert isinstance(log, Outbox)
            try:
                stored = log.append(made, risk="low" if number == LOW_RISK else "high")
            except OutboxFullError:
                stored = None
            if stored is None:
                self.not_taken += 1
                return False
        self.written += 1
        return True

    def attack(self) -> tuple[int, int]:
        """A hostile message; how often the registry must refuse it at least, and may at most.

        Of batches and answers each goes to one worker, health goes to every one.
        """
        channel, payload = fuzz.on_the_wire(self.dice)
        self.hostile.publish(topic(fuzz.NAME, channel), payload, retain=channel == HEALTH)
        self.sent_hostile += 1
        readers = len(WORKERS) if channel == HEALTH else 1
        if _refusable(channel, payload):
            return readers, readers
        return 0, 0 if channel == HEALTH else 1

    def lives(self, until: Callable[[], bool], seconds: float, *, writes: bool = True) -> bool:
        """Units write and send until something is so, or `seconds` have passed."""
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:
            for _ in range(WRITES if writes else 0):
                self.write()
            for number, agent in enumerate(self.agents):
                if self._silent_until.get(number, 0.0) > time.monotonic():
                    continue
                try:
                    agent.step()
                except SyncError:  # as `ostiary sync` does: say so, wait, go on
                    self._silent_until[number] = time.monotonic() + 0.5
            self.reactor.poll(0.01)
        return until()

    def rests(self) -> None:
        self.lives(lambda: False, REST_S)

    def connected(self) -> bool:
        return all(agent.link.connected for agent in self.agents) and self.hostile.connected

    def acknowledged(self) -> bool:
        return not any(agent.log.status().pending for agent in self.agents)

    def waiting(self) -> list[str]:
        """Who has no receipt, and how its connection is."""
        return [
            f"{agent.log.unit}: {agent.log.status()}, {agent.link.connected} {agent.link.last_error}"
            for agent in self.agents
            if agent.log.status().pending
        ]

    # -- certificates

    def takes_certificate(self, number: int, until: dt.datetime) -> None:
        """A unit's certificate from its next connection on; `until` is when it was issued for its time."""
        agent = self.agents[number]
        agent.link.client._ssl_context = tls_context(self.authority.issue(agent.log.unit, until))

    # -- what came of it

    def messages_of(self, number: int) -> float:
        text = self._figures(number).read_text() if self._figures(number).exists() else ""
        found = re.search(r"^ostiary_registry_messages_total (\S+)", text, re.M)
        return float(found[1]) if found else 0.0

    def _figures(self, number: int) -> Path:
        return self.folder / f"worker-{number}.prom"

    def refused(self) -> Counter[tuple[str, str]]:
        """(reason, unit) -> how often, of all days."""
        found: Counter[tuple[str, str]] = Counter()
        store = Store.open(self.database.url, create=False)
        for row in status.refusal_counts(store):
            found[row["reason"], row["unit"]] += row["times"]
        store.close()
        return found

    def stored_between(self, store: Store) -> tuple[int, int]:
        """When the first event was received, and when the last, as the registry has it."""
        times = sa.select(sa.func.min(events.c.received_ms), sa.func.max(events.c.received_ms))
        with store.reading() as db:
            first, last = db.execute(times).one()
        return int(first), int(last)

    def stored(self, store: Store) -> dict[str, list[int]]:
        query = sa.select(events.c.unit, events.c.sequence).order_by(events.c.unit, events.c.sequence)
        with store.reading() as db:
            rows = db.execute(query).all()
        return {
            unit: [row.sequence for row in group] for unit, group in itertools.groupby(rows, lambda r: r.unit)
        }


def _refusable(channel: str, payload: bytes) -> bool:
    """Whether the message is wrong in itself: whatever came before it, it must be refused."""
    try:
        if channel == EVENTS:
            fuzz.checked(payload)
        elif channel == HEALTH and payload != WILL:
            open_health(payload, fuzz.KEY, fuzz.NAME)
        elif channel == RESULTS:
            return True  # nobody has asked this unit for anything
    except SyncError:
        return True
    return False
