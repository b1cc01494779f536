"""Everything between doors and a registry as real processes, and somebody who kills them at random."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from sync.events import Record, UnitId, unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.proofs import chain
from sync.proofs.bundle import key_to_der
from sync.proofs.verify import verify
from sync.registry.database.schema import events
from sync.registry.database.store import Store
from sync.registry.reports import export, status
from tests.sync.services import NOW, Mosquitto, Postgres, free_port

ROOT = Path(__file__).parents[2]


class Process:
    """A command that can be killed and started again."""

    def __init__(
        self, name: str, command: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """`environment` is added to ours."""
        self.name = name
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=ROOT, env=self._environment
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def ended_well(self) -> bool:
        return self._process is not None and self._process.poll() == 0


class Cable:
    """A TCP connection to the broker that can be cut and mended."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._pairs: list[socket.socket] = []
        self._cut = False
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for end in self._pairs:
                _hang_up(end)
            self._pairs.clear()

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                if self._cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                far.settimeout(None)
            except OSError:
                if self._listener.fileno() < 0:
                    return
                near.close()
                continue
            with self._lock:
                self._pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    _hang_up(source)
    _hang_up(sink)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@dataclass(slots=True)
class Tally:
    """What came of it."""

    events: int = 0
    promised: int = 0
    lost: int = 0
    twice: int = 0
    out_of_order: int = 0
    wrong_chain: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    alarms: list[str] = field(default_factory=list)
    findings: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {times}" for name, times in sorted(self.kills.items()))
        return (
            f"{self.events} events in {self.seconds:.0f} s, {sum(self.kills.values())} kills ({kills}): "
            f"lost {self.lost}, twice {self.twice}, out of order {self.out_of_order}, wrong chain "
            f"{self.wrong_chain}, alarms {self.alarms}, findings of the verifier {self.findings}"
        )


class World:
    """Doors, agents, a broker on its default configuration, workers and a database."""

    def __init__(
        self,
        folder: Path,
        *,
        units: int,
        workers: int,
        events_per_unit: int,
        pause_s: float,
        database: Postgres | None = None,
    ) -> None:
        self.folder = folder
        self.database = database
        self.url = database.url if database else f"sqlite:///{folder}/registry.db"
        authority = Authority.open(folder / "pki", NOW)
        self.broker = Mosquitto(folder, authority, default=True)
        self.broker.start()
        self.cable, self.far_cable = Cable(self.broker.port), Cable(self.broker.port)
        self.signers: dict[UnitId, FileSigner] = {}
        receipts_key = folder / "receipts.key"
        receipts = FileSigner.load_or_create(receipts_key)
        (folder / "receipts.pem").write_bytes(receipts.public_pem())
        store = Store.open(self.url)
        ostiary = [sys.executable, "-c", "from device.cli import main; main()"]
        self.doors: list[Process] = []
        self.agents: list[Process] = []
        self.workers: list[Process] = []
        for number in range(units):
            name = unit_id(f"site-{number % 3}/unit-{number}")
            audit_key = folder / f"unit-{number}.key"
            self.signers[name] = FileSigner.load_or_create(audit_key)
            store.register(name, key_to_der(self.signers[name].public_key()), time.time_ns() // 1_000_000)
            files = authority.issue(name, NOW)
            outbox = self.outbox(name)
            module = [sys.executable, "-m", "tests.e2e.sync_unit"]
            self.doors.append(
                Process(
                    "unit", [*module, str(outbox), name, str(events_per_unit), str(pause_s)], folder / "log"
                )
            )
            command = [*ostiary, "sync", "--unit", name, "--outbox", str(outbox)]
            command += ["--broker", f"127.0.0.1:{self.cable.port}", "--ca", str(files.ca)]
            command += ["--cert", str(files.certificate), "--key", str(files.key)]
            command += ["--registry-key", str(folder / "receipts.pem"), "--audit-key", str(audit_key)]
            command += ["--receipt-timeout", "2"]
            self.agents.append(Process("agent", command, folder / "log"))
        store.close()
        files = authority.issue("registry", NOW)
        for number in range(workers):
            command = [*ostiary, "registry", "worker", "--database", self.url, "--name", f"worker-{number}"]
            command += ["--broker", f"127.0.0.1:{self.far_cable.port}", "--ca", str(files.ca)]
            command += ["--cert", str(files.certificate), "--key", str(files.key)]
            command += ["--signing-key", str(receipts_key)]
            self.workers.append(Process("worker", command, folder / "log"))
        self.total = units * events_per_unit
        self.kills: Counter[str] = Counter()

    def outbox(self, unit: UnitId) -> Path:
        return self.folder / f"{unit.replace('/', '_')}.db"

    def start(self) -> None:
        for process in (*self.workers, *self.agents, *self.doors):
            process.start()

    def stop(self) -> None:
        for process in (*self.doors, *self.agents, *self.workers):
            process.kill()
        self.cable.close()
        self.far_cable.close()
        self.broker.remove()

    def strike(self, dice: random.Random, targets: list[str]) -> None:
        """Kill something that runs; bring it back a moment later."""
        target = dice.choice(targets)
        rest_s = dice.uniform(0.0, 0.4)
        strike: dict[str, Callable[[], None]] = {
            "unit": lambda: _again(
                dice.choice([d for d in self.doors if not d.ended_well] or self.doors), rest_s
            ),
            "agent": lambda: _again(dice.choice(self.agents), rest_s),
            "worker": lambda: _again(dice.choice(self.workers), rest_s),
            "broker": lambda: _again(self.broker, rest_s),
            "database": lambda: _again(self.database, rest_s),
            "network": lambda: _cut(dice.choice([self.cable, self.far_cable]), rest_s),
        }
        strike[target]()
        self.kills[target] += 1

    def lose_a_worker(self) -> None:
        """One that has been at work dies, and nobody brings it back."""
        self.workers.pop().kill()
        self.kills["worker for good"] += 1

    def mend(self) -> None:
        """Whatever was dead or has ended early runs again."""
        for process in (*self.workers, *self.agents):
            if not process.running:
                process.start()
        for door in self.doors:
            if not door.running and not door.ended_well:
                door.start()

    def arrived(self) -> int:
        store = Store.open(self.url)
        try:
            return export.count(store)
        finally:
            store.close()

    def tally(self, seconds: float) -> Tally:
        """Hold every promise of every door against the registry's rows."""
        tally = Tally(kills=self.kills, seconds=seconds)
        store = Store.open(self.url)
        for unit, signer in self.signers.items():
            lines = self.outbox(unit).with_suffix(".promised").read_text().splitlines()
            promised = {int(n): link for n, link in (line.split() for line in lines if len(line) > 70)}
            query = sa.select(events.c.sequence, events.c.event_id, events.c.body)
            query = query.where(events.c.unit == unit).order_by(events.c.received_ms, events.c.sequence)
            with store.reading() as db:
                rows = db.execute(query).all()
            sequences = [row.sequence for row in rows]
            tally.events += len(rows)
            tally.promised += len(promised)
            tally.lost += len(set(promised) - set(sequences))
            tally.twice += len(sequences) - len(set(sequences))
            tally.twice += len(rows) - len({row.event_id for row in rows})
            tally.out_of_order += sum(b != a + 1 for a, b in itertools.pairwise(sequences))
            tally.wrong_chain += sum(
                Record.from_bytes(bytes(row.body)).sequence != row.sequence for row in rows
            )
            bundle = export.bundle(store, unit)
            tally.findings += len(verify(bundle.to_bytes(), signer.public_key(), unit=unit).findings)
            tally.wrong_chain += _chain_mismatches(bundle.events, bundle.chain, promised)
        tally.alarms = [alarm["kind"] for alarm in status.open_alarms(store)]
        store.close()
        return tally


def _chain_mismatches(bodies: tuple[bytes, ...], link: bytes, promised: dict[int, str]) -> int:
    wrong = 0
    for sequence, body in enumerate(bodies, start=1):
        link = chain.link(link, chain.leaf_hash(body))
        wrong += promised.get(sequence, link.hex()) != link.hex()
    return wrong


def _again(process: Process | Mosquitto | Postgres | None, rest_s: float) -> None:
    if process is None:
        return
    process.kill()
    time.sleep(rest_s)
    process.start()


def _cut(cable: Cable, rest_s: float) -> None:
    cable.cut()
    time.sleep(rest_s)
    cable.mend()


def run(
    world: World,
    *,
    kills: int,
    targets: list[str],
    seed: int,
    limit_s: float,
    every_s: float,
    lose_a_worker: bool = False,
) -> Tally:
    """Let it live, kill `kills` times (a worker for good half-way, if asked), let it finish, count."""
    dice = random.Random(seed)
    started = time.monotonic()
    world.start()
    try:
        for number in range(kills):
            time.sleep(dice.uniform(0.0, 2 * every_s))
            if lose_a_worker and number == kills // 2:
                world.lose_a_worker()
            else:
                world.strike(dice, targets)
            world.mend()
        while world.arrived() < world.total and time.monotonic() - started < limit_s:
            world.mend()
            time.sleep(0.5)
    finally:
        seconds = time.monotonic() - started
        world.stop()
    return world.tally(seconds)


def size(name: str, default: int) -> int:
    """CI runs the small version; a person sets e.g. OSTIARY_KILL_EVENTS=100000 for the full one."""
    return int(os.environ.get(name, default))
