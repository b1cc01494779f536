"""Drives any number of units over MQTT for real, from one thread, at a given rate."""

from __future__ import annotations

import datetime as dt
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from bench.units.memory_log import MemoryLog, simulated_event
from sync.events import UnitId, unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.transport.agent import Agent, AgentSettings
from sync.transport.mqtt import LinkSettings, Reactor
from sync.transport.topics import RECEIPTS, topic

TENANT_KEY = b"simulated units have no people.."
CONNECT_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """`rate_hz` events a second in all. Units sign what has gathered every `seal_every_s`."""

    host: str
    port: int
    units: int = 100
    rate_hz: float = 200.0
    seconds: float = 10.0
    seal_every_s: float = 0.02
    drain_s: float = 60.0
    prefix: str = "sim"


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What was seen. Latencies run from the event to the receipt in the unit's hands, after the commit."""

    units: int
    connected: int
    connect_s: float
    events: int
    acknowledged: int
    send_s: float
    total_s: float
    events_per_s: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    resends: int
    refused: int


class Simulation:
    """Units with their own keys, certificates and sessions. `keys` are to be registered first."""

    def __init__(
        self, settings: SimulationSettings, authority: Authority, registry_key: ec.EllipticCurvePublicKey
    ) -> None:
        self._settings = settings
        self._authority = authority
        self._registry_key = registry_key
        self._everyone_at = 0.0
        names = [
            unit_id(f"{settings.prefix}-{number // 10}/unit-{number}") for number in range(settings.units)
        ]
        self._signers = {name: FileSigner.generate() for name in names}

    @property
    def keys(self) -> dict[UnitId, bytes]:
        """Public audit keys (DER) of the simulated units."""
        return {name: key_to_der(signer.public_key()) for name, signer in self._signers.items()}

    def run(self, progress: Callable[[int], None] = lambda _: None) -> SimulationReport:
        """Connect, send at the rate, wait for the last receipt, say goodbye."""
        with tempfile.TemporaryDirectory(prefix="ostiary-simulation-") as folder:
            reactor = Reactor()
            try:
                return self._run(reactor, Path(folder), progress)
            finally:
                reactor.close()

    def _run(self, reactor: Reactor, folder: Path, progress: Callable[[int], None]) -> SimulationReport:
        settings = self._settings
        started = time.monotonic()
        agents = [self._agent(reactor, name, folder) for name in self._signers]
        while time.monotonic() - started < CONNECT_LIMIT_S and not all(a.link.connected for a in agents):
            reactor.poll(0.05)
        connected = sum(agent.link.connected for agent in agents)
        connect_s = time.monotonic() - started
        dice = random.Random(1)
        self._warm_up(reactor, agents, dice)
        begun = time.monotonic()
        made = 0
        wanted = int(settings.rate_hz * settings.seconds)
        while made < wanted:
            now = time.monotonic()
            due = min(wanted, int((now - begun) * settings.rate_hz) + 1)
            for number in range(made, due):
                log = agents[number % len(agents)].log
                if isinstance(log, MemoryLog):
                    log.append(simulated_event(dice, TENANT_KEY, _wall_ms(), int((now - begun) * 1000)))
            progress(due - made)
            made = due
            self._round(reactor, agents)
        send_s = time.monotonic() - begun
        while time.monotonic() - begun - send_s < settings.drain_s and any(
            agent.log.status().pending for agent in agents
        ):
            self._round(reactor, agents)
        return self._report(agents, connected, connect_s, send_s, time.monotonic() - begun)

    def _warm_up(self, reactor: Reactor, agents: Sequence[Agent], dice: random.Random) -> None:
        """One event per unit, until a worker has answered each: its start is not what is measured."""
        logs = [agent.log for agent in agents if isinstance(agent.log, MemoryLog)]
        for log in logs:
            log.append(simulated_event(dice, TENANT_KEY, _wall_ms(), 0))
        until = time.monotonic() + self._settings.drain_s
        while time.monotonic() < until and any(log.status().pending for log in logs):
            self._round(reactor, agents)
        for log in logs:
            log.latencies_s.clear()

    def _round(self, reactor: Reactor, agents: Sequence[Agent]) -> None:
        """Units with something to do, and all of them now and then: a thousand idle steps cost a core."""
        now = time.monotonic()
        everyone = len(agents) <= 200 or now >= self._everyone_at
        if everyone:
            self._everyone_at = now + 0.1
        for agent in agents:
            if everyone or agent.link.inbox:
                agent.step()
        reactor.poll(0.005)

    def _agent(self, reactor: Reactor, name: UnitId, folder: Path) -> Agent:
        settings = self._settings
        own = Authority(folder, self._authority.certificate, self._authority.key)
        issued = own.issue(name, dt.datetime.now(dt.UTC))
        files = type(issued)(self._authority.folder / "ca.pem", issued.certificate, issued.key)
        link = reactor.link(
            LinkSettings(settings.host, settings.port, name, files),
            subscriptions=[topic(name, RECEIPTS)],
        )
        return Agent(
            log=MemoryLog(name, time.monotonic, _wall_ms),
            signer=self._signers[name],
            link=link,
            registry_key=self._registry_key,
            now_s=time.monotonic,
            time_ms=_wall_ms,
            settings=AgentSettings(window=8, seal_every_s=settings.seal_every_s, receipt_timeout_s=5.0),
            facts=lambda: {"simulated": True},
        )

    def _report(
        self, agents: Sequence[Agent], connected: int, connect_s: float, send_s: float, total_s: float
    ) -> SimulationReport:
        logs = [agent.log for agent in agents if isinstance(agent.log, MemoryLog)]
        waits = [wait for log in logs for wait in log.latencies_s] or [float("nan")] * 2
        cuts = statistics.quantiles(waits, n=100) if len(waits) > 1 else waits * 99
        acknowledged = sum(log.acknowledged for log in logs)
        return SimulationReport(
            units=len(agents),
            connected=connected,
            connect_s=round(connect_s, 2),
            events=sum(log.sequence for log in logs),
            acknowledged=acknowledged,
            send_s=round(send_s, 2),
            total_s=round(total_s, 2),
            events_per_s=round((acknowledged - len(logs)) / total_s, 1),
            latency_p50_ms=round(cuts[49] * 1e3, 1),
            latency_p95_ms=round(cuts[94] * 1e3, 1),
            latency_p99_ms=round(cuts[98] * 1e3, 1),
            resends=sum(agent.counts.resends for agent in agents),
            refused=sum(agent.counts.refused for agent in agents),
        )


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
