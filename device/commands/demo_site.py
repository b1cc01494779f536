"""The hospital around the demo's door: broker, registry and dashboard, on ports of this machine alone.

Real ones: what the door decides goes to its audit log, is signed by its TPM, travels over MQTT with mutual
TLS, is verified and stored by a registry worker, and appears on the page.
"""

from __future__ import annotations

import datetime as dt
import http.client
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from device.access.decision import Decision
from device.clock import system_clock
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.secure_store import Store as UnitStore
from device.settings import Settings
from device.unit.audit import AuditTrail, EventContext
from sync.agent import Agent, AgentSettings
from sync.broker import write_configuration
from sync.bundle import key_to_der
from sync.command_line import wall_ms
from sync.dashboard.accounts.accounts import Accounts
from sync.dashboard.migrations import prepare
from sync.dashboard.site import places
from sync.dashboard.site.places import Place
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.mqtt import LinkSettings, Reactor, TlsFiles
from sync.outbox import Outbox
from sync.registry.store import Store
from sync.topics import RECEIPTS, topic

UNIT = unit_id("demo/entrance")
ACCOUNT = "auditor"
START_LIMIT_S = 60.0
SENT_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0


class SiteError(DeviceError):
    """A part of the hospital did not start or did not answer."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the demo needs of it. The account may read and nothing else."""

    origin: str
    password: str
    trail: AuditTrail
    agent: Agent
    reactor: Reactor
    log: Outbox

    def decided(self, decision: Decision, evidence: Evidence | None) -> None:
        """Write the event down and send it; the registry has stored it when this returns.

        Raises SiteError when it gives no receipt in time.
        """
        self.trail.decided(decision, evidence)
        deadline = time.monotonic() + SENT_LIMIT_S
        while self.log.status().pending:
            if time.monotonic() > deadline:
                raise SiteError("the registry has not stored the attempt; see `ostiary registry --help`")
            self.agent.step()
            self.reactor.poll(0.01)

    def listed(self) -> int:
        """How many attempts the page lists, asked as a browser would: log in, open the list."""
        parts = urllib.parse.urlsplit(self.origin)
        page = http.client.HTTPConnection(parts.netloc, timeout=START_LIMIT_S)
        try:
            form = urllib.parse.urlencode({"account": ACCOUNT, "password": self.password})
            headers = {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
            page.request("POST", "/login", form, headers)
            answer = page.getresponse()
            cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
            answer.read()
            page.request("GET", "/events", headers={"Cookie": cookie})
            return page.getresponse().read().decode().count('data-key="')
        except OSError as err:
            raise SiteError(f"the dashboard does not answer: {err}") from err
        finally:
            page.close()


@contextmanager
def starting(
    unit: UnitStore, settings: Settings, folder: Path
) -> Iterator[Callable[[], AbstractContextManager[Site]]]:
    """Start everything and do not wait for it; leaving stops it in the reverse order. What is yielded waits,
    and connects the unit. Raises SiteError."""
    with ExitStack() as parts:
        now = dt.datetime.now(dt.UTC)
        authority = Authority.open(folder / "pki", now)
        broker_port, page_port = _free_port(), _free_port()
        origin, password = f"http://127.0.0.1:{page_port}", secrets.token_urlsafe(12)
        receipts = FileSigner.create(folder / "receipts.key")
        database = f"sqlite:///{folder}/registry.db"
        _fill(database, key_to_der(unit.audit_signer.public_key()), settings.door.name, password)
        _mosquitto(parts, authority, broker_port, now)
        files = authority.issue("worker-1", now)
        worker = ["registry", "worker", "--database", database, "--broker", f"127.0.0.1:{broker_port}"]
        worker += ["--ca", str(files.ca), "--cert", str(files.certificate), "--key", str(files.key)]
        _start(parts, [*worker, "--signing-key", str(folder / "receipts.key")], folder / "worker.log")
        page = ["dashboard", "serve", "--database", database, "--address", origin]
        _start(parts, [*page, "--organisation", "Ostiary demo"], folder / "page.log")

        @contextmanager
        def connected() -> Iterator[Site]:
            with ExitStack() as mine:
                log = mine.enter_context(
                    Outbox(folder / "outbox.db", unit=UNIT, doors={settings.door.name}, now_ms=wall_ms)
                )
                context = EventContext.of(unit, log.next_boot(), system_clock())
                reactor = Reactor()
                mine.callback(reactor.close)
                identity = authority.issue(UNIT, now)
                tls = TlsFiles(identity.ca, identity.certificate, identity.key)
                agent = Agent(
                    log=log,
                    signer=unit.audit_signer,
                    link=reactor.link(
                        LinkSettings("127.0.0.1", broker_port, UNIT, tls),
                        subscriptions=[topic(UNIT, RECEIPTS)],
                    ),
                    registry_key=receipts.public_key(),
                    now_s=time.monotonic,
                    time_ms=wall_ms,
                    settings=AgentSettings(seal_every_s=0.0, receipt_timeout_s=1.0),
                    facts=lambda: {"keystore": unit.keystore.kind},
                )
                _wait_for_page(page_port, folder / "page.log")
                trail = AuditTrail(log, context, lambda: None, system_clock)
                yield Site(origin, password, trail, agent, reactor, log)

        yield connected


def _fill(database: str, key: bytes, door: str, password: str) -> None:
    """The registry knows the unit, the page its door and one account that may only read."""
    store = Store.open(database)
    try:
        prepare(store)
        store.register(UNIT, key, wall_ms())
        places.replace(store, [Place(UNIT, door, "The demo's door", "entrance", "Entrance")])
        accounts = Accounts(store)
        accounts.accept(accounts.invite("auditor", (), "demo", wall_ms()), ACCOUNT, password, wall_ms())
    finally:
        store.close()


def _mosquitto(parts: ExitStack, authority: Authority, port: int, now: dt.datetime) -> None:
    # mosquitto gives up root, and its user cannot enter the demo's own folder.
    folder = Path(tempfile.mkdtemp(prefix="ostiary-broker-"))
    parts.callback(shutil.rmtree, folder, ignore_errors=True)
    files = authority.issue("broker", now, hosts=("127.0.0.1",))
    configuration = write_configuration(
        folder, port=port, ca=files.ca, certificate=files.certificate, key=files.key, address="127.0.0.1"
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    log = parts.enter_context((folder.parent / f"{folder.name}.log").open("wb"))
    parts.callback((folder.parent / f"{folder.name}.log").unlink)
    _spawn(parts, [program, "-c", str(configuration)], log)


def _start(parts: ExitStack, arguments: list[str], log: Path) -> None:
    program = [sys.executable, "-c", "from device.cli import main; main()"]
    _spawn(parts, [*program, *arguments], parts.enter_context(log.open("wb")))


def _spawn(parts: ExitStack, command: list[str], log: IO[bytes]) -> None:
    try:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    except OSError as err:
        raise SiteError(f"{command[0]} does not start ({err.strerror}); run scripts/setup") from err
    parts.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for_page(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as err:
            if time.monotonic() > deadline:
                lines = log.read_text(errors="replace").splitlines()
                raise SiteError(f"the dashboard did not start: {lines[-1] if lines else err}") from err
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
