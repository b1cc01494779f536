"""The hospital around the demo's door: real broker, registry and dashboard, on this machine alone.

The door's decisions go to its audit log, its TPM signs them, they travel over MQTT with mutual TLS, a
registry worker verifies and stores them, and the page shows them.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from device.access.decision import Decision
from device.clock import system_clock
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.secure_store import Store as UnitStore
from device.settings import Settings
from device.unit.audit import AuditTrail, EventContext
from sync.broker import write_configuration
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.outbox import Outbox
from sync.plain_words import what_and_why, why
from sync.proofs.bundle import key_to_der
from sync.service.command_line import wall_ms
from sync.transport.agent import Agent, AgentSettings
from sync.transport.mqtt import LinkSettings, Reactor, TlsFiles
from sync.transport.topics import RECEIPTS, topic

UNIT = unit_id("demo/entrance")
ACCOUNT = "auditor"
START_LIMIT_S = 60.0
SENT_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0


class Site:
    """The hospital around the demo's door, which waits for none of it: decisions are in its log, and travel
    once the registry runs. The page's account may only read.
    """

    def __init__(self, unit: UnitStore, settings: Settings, folder: Path, parts: ExitStack) -> None:
        """Open the unit's audit log alone, which `parts` closes; `start` does the rest."""
        self._unit, self._door, self._folder, self._parts = unit, settings.door.name, folder, parts
        self._log = parts.enter_context(
            Outbox(folder / "outbox.db", unit=UNIT, doors={self._door}, now_ms=wall_ms)
        )
        context = EventContext.of(unit, self._log.next_boot(), system_clock())
        self._trail = AuditTrail(self._log, context, lambda: None, system_clock)
        self._broker_port, self._page_port = _free_port(), _free_port()
        self.origin, self.password = f"http://127.0.0.1:{self._page_port}", secrets.token_urlsafe(12)
        self._agent: Agent | None = None
        self._reactor = Reactor()
        parts.callback(self._reactor.close)

    def start(self) -> None:
        """Start broker, worker and page without waiting for them. Raises DeviceError."""
        now = dt.datetime.now(dt.UTC)
        folder, parts = self._folder, self._parts
        authority = Authority.open(folder / "pki", now)
        receipts = FileSigner.create(folder / "receipts.key")
        database = f"sqlite:///{folder}/registry.db"
        _mosquitto(parts, authority, self._broker_port, now)
        _fill(database, key_to_der(self._unit.audit_signer.public_key()), self._door, self.password)
        files = authority.issue("worker-1", now)
        worker = ["registry", "worker", "--database", database, "--broker", f"127.0.0.1:{self._broker_port}"]
        worker += ["--ca", str(files.ca), "--cert", str(files.certificate), "--key", str(files.key)]
        _start(parts, [*worker, "--signing-key", str(folder / "receipts.key")], folder / "worker.log")
        page = ["dashboard", "serve", "--database", database, "--address", self.origin]
        _start(parts, [*page, "--organisation", "Ostiary demo"], folder / "page.log")
        identity = authority.issue(UNIT, now)
        tls = TlsFiles(identity.ca, identity.certificate, identity.key)
        link = LinkSettings("127.0.0.1", self._broker_port, UNIT, tls)
        self._agent = Agent(
            log=self._log,
            signer=self._unit.audit_signer,
            link=self._reactor.link(link, subscriptions=[topic(UNIT, RECEIPTS)]),
            registry_key=receipts.public_key(),
            now_s=time.monotonic,
            time_ms=wall_ms,
            settings=AgentSettings(seal_every_s=0.0, receipt_timeout_s=1.0),
            facts=lambda: {"keystore": self._unit.keystore.kind},
        )

    def decided(self, decision: Decision, evidence: Evidence | None) -> None:
        """Write the event, and send what can be sent now."""
        self._trail.decided(decision, evidence)
        self._send()

    def ready(self) -> bool:
        """Whether the page answers."""
        try:
            socket.create_connection(("127.0.0.1", self._page_port), timeout=1).close()
        except OSError:
            return False
        return True

    def settle(self) -> None:
        """Wait until the page answers and the registry has stored every event. Raises DeviceError."""
        deadline = time.monotonic() + START_LIMIT_S
        while not self.ready():
            if time.monotonic() > deadline:
                lines = (self._folder / "page.log").read_text(errors="replace").splitlines()
                raise DeviceError(f"the dashboard did not start{': ' + lines[-1] if lines else ''}")
            self._send()
            time.sleep(0.05)
        deadline = time.monotonic() + SENT_LIMIT_S
        while self._log.status().pending:
            if time.monotonic() > deadline:
                raise DeviceError("the registry has not stored the attempts; see `ostiary registry --help`")
            self._send()

    def listed(self) -> int:
        """How many attempts the page lists, asked as a browser does: log in, open the list."""
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
            raise DeviceError(f"the dashboard does not answer: {what_and_why(err)}") from err
        finally:
            page.close()

    def _send(self) -> None:
        if self._agent is not None:
            self._agent.step()
            self._reactor.poll(0.01)


@contextmanager
def site_around(unit: UnitStore, settings: Settings, folder: Path) -> Iterator[Site]:
    """The hospital, not yet started; leaving stops its parts in reverse order."""
    with ExitStack() as parts:
        yield Site(unit, settings, folder, parts)


def _fill(database: str, key: bytes, door: str, password: str) -> None:
    """Tell the registry of the unit, and the page of its door and of an account that may only read."""
    # What a database needs takes as long to load as the door's models; the first row does not wait for it.
    from sync.dashboard.accounts.accounts import Accounts
    from sync.dashboard.migrations import prepare
    from sync.dashboard.site import places
    from sync.dashboard.site.places import Place
    from sync.registry.database.store import Store

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
        raise DeviceError(f"{command[0]} does not start ({why(err)}); run scripts/setup") from err
    parts.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
