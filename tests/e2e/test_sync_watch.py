"""Every rule, from units over a real broker to the security desk's webhook.

How soon the last one came is printed: within a minute where the machine is free. Asserted is that all come.
"""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.units.memory_log import MemoryLog
from sync.events import pseudonym, unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.proofs.bundle import key_from_bytes, key_to_der
from sync.registry.database.store import Store
from sync.registry.watch.rules import load_rules
from sync.service.command_line import wall_ms
from sync.transport.agent import Agent, AgentSettings
from sync.transport.health import WILL
from sync.transport.mqtt import LinkSettings, Reactor, Will
from sync.transport.topics import HEALTH, RECEIPTS, topic
from tests.e2e.test_sync_simulate import OSTIARY, registry
from tests.sync.parts import TENANT_KEY, event
from tests.sync.services import NOW
from tests.waiting import PATIENCE_S

__all__ = ["registry"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow]
DAY_MS = 86_400_000


class Desk(http.server.ThreadingHTTPServer):
    """The security desk: notes when each kind of alarm came first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.came: dict[str, float] = {}


class Answer(http.server.BaseHTTPRequestHandler):
    server: Desk

    def do_POST(self) -> None:
        alarm = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.came.setdefault(alarm["kind"], time.monotonic())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Units:
    """Six units at three sites, in this process, on real connections."""

    def __init__(self, folder: Path, port: int, store: Store) -> None:
        authority = Authority.open(folder / "pki", NOW)
        registry_key = key_from_bytes((folder / "receipts.pem").read_bytes())
        self.reactor, self.agents = Reactor(), []
        for number in range(6):
            name, signer = unit_id(f"site-{number // 2}/unit-{number}"), FileSigner.generate()
            store.register(name, key_to_der(signer.public_key()), wall_ms())
            link = self.reactor.link(
                LinkSettings("127.0.0.1", port, name, authority.issue(name, NOW)),
                subscriptions=[topic(name, RECEIPTS)],
                will=Will(topic(name, HEALTH), WILL),
            )
            log = MemoryLog(name, time.monotonic, wall_ms)
            self.agents.append(
                Agent(
                    log=log,
                    signer=signer,
                    link=link,
                    registry_key=registry_key,
                    now_s=time.monotonic,
                    time_ms=wall_ms,
                    settings=AgentSettings(window=8),
                    facts=lambda: {"policy": "rules-8"},
                    certificate_ms=lambda: wall_ms() + 5 * DAY_MS,
                )
            )
        self._number = 0

    def happens(self, unit: int, times: int, at_ms: int | None = None, **changes: Any) -> None:
        """Events of one unit, a second apart, the last of them now (or all of them around `at_ms`)."""
        log = self.agents[unit].log
        assert isinstance(log, MemoryLog)
        for place in range(times):
            time_ms = (at_ms or wall_ms()) - (times - place) * 1000
            clocks = {"time_ms": time_ms, "monotonic_ms": time_ms - wall_ms() + 30 * DAY_MS}
            self._number += 1
            log.append(event(self._number, **{"person": None, **clocks, **changes}))

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            for agent in self.agents:
                agent.step()
            self.reactor.poll(0.05)
        return done()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_every_rule_reaches_the_desk_and_how_soon_is_told(
    registry: tuple[Path, int], desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, port = registry
    database = f"sqlite:///{folder}/r.db"
    store = Store.open(database)
    units = Units(folder, port, store)
    sinks = folder / "sinks.toml"
    sinks.write_text(f'[[sink]]\ntype = "webhook"\nurl = "http://127.0.0.1:{desk.server_port}/"\n')
    watch = subprocess.Popen([*OSTIARY, "registry", "watch", "--sinks", str(sinks), "--database", database])
    try:
        assert units.until(lambda: all(agent.link.connected for agent in units.agents), PATIENCE_S)
        strange_things_happen(units, store)
        assert units.until(lambda: not any(agent.log.status().pending for agent in units.agents), PATIENCE_S)
        lost = units.agents[1].link.client.socket()
        assert lost is not None
        lost.shutdown(socket.SHUT_RDWR)  # its will tells
        units.agents.pop(1)
        arrived = time.monotonic()
        # Three take minutes by their nature (tests/sync/registry/, anomalies and silence), one needs a claim
        # service.
        elsewhere = ("backlog", "clock", "outage", "revocations")
        wanted = {rule.name for rule in load_rules() if rule.form not in elsewhere}
        units.until(lambda: wanted <= set(desk.came), PATIENCE_S)
        assert wanted - set(desk.came) == set()
        slowest = max(desk.came, key=desk.came.__getitem__)
        with capsys.disabled():
            print(f"\n{len(wanted)} rules, the last ({slowest}) after {desk.came[slowest] - arrived:.1f} s")
    finally:
        watch.terminate()
        watch.wait(180)
        units.reactor.close()
        store.close()


def strange_things_happen(units: Units, store: Store) -> None:
    """At least one of everything that a rule of ours looks for."""
    for unit in range(5):
        units.happens(unit, 3, kind="DENIED_SPOOF", reason="not_live", door="icu-2")
    units.happens(0, 5, kind="DENIED_REPLAY", reason="not_live", door="icu-2")
    for unit in (0, 2):
        units.happens(unit, 1, person=pseudonym(TENANT_KEY, "one voice"))
    units.happens(1, 15, kind="DENIED_VOICE", reason="other_voice", door="icu-2")
    units.happens(2, 20, kind="ENROLLED", reason="operator")
    units.happens(3, 1, kind="DENIED_VOICE", reason="other_voice", silent_alarm=True)
    units.happens(3, 1, kind="TAMPER", reason="case_opened")
    units.happens(3, 1, kind="DOOR_OPEN_TOO_LONG", reason="held_open")
    units.happens(3, 1, kind="FAULT", reason="tpm_fault")
    units.happens(3, 3, kind="COMMAND_REFUSED", reason="command_failed")
    two_at_night = wall_ms() // DAY_MS * DAY_MS - DAY_MS + 2 * 3_600_000 + 1_800_000
    for day in range(9, 0, -1):
        units.happens(5, 1, two_at_night - day * DAY_MS, door="icu-2")
    units.happens(5, 30, two_at_night, door="icu-2")
    store.log_access("m.desk", "export", 60_000, wall_ms())
    store.desire(unit_id("site-2/unit-4"), {"policy": "rules-9"})
