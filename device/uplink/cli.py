"""`ostiary sync`: the unit's side of the network. Runs beside the door process, which has none."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from importlib.metadata import version
from pathlib import Path

import click

from device.errors import DeviceError
from device.settings import load, state_dir
from device.state_folder import StateFolder
from device.uplink.facts import unit_facts
from device.uplink.handler import unit_handler
from device.uplink.keys import unit_keystore
from device.uplink.mail import DoorMail
from sync import journal
from sync.agent import Agent, AgentSettings
from sync.bundle import key_from_bytes
from sync.command_line import host_and_port, read_file, wall_ms
from sync.errors import SyncError
from sync.events import Signer, unit_id
from sync.health import WILL
from sync.keys import FileSigner
from sync.metrics import MetricsFile
from sync.mqtt import LinkSettings, Reactor, TlsFiles, Will
from sync.outbox import Outbox
from sync.service_manager import ServiceManager
from sync.topics import COMMANDS, DESIRED, HEALTH, PARTS, RECEIPTS, topic

SEND_EVERY_S = 0.02
WAIT_AFTER_FAULT_S = 5.0
FILE = click.Path(path_type=Path)

log = logging.getLogger(__name__)


@click.command()
@click.option("--unit", help="This unit, as site/unit; else from the unit's settings.")
@click.option("--outbox", "path", type=FILE, help="The audit log's file; else the unit's own.")
@click.option("--broker", required=True, metavar="HOST:PORT", help="The site's MQTT broker.")
@click.option("--ca", required=True, type=FILE, help="Whom we trust (PEM).")
@click.option("--cert", required=True, type=FILE, help="This unit's certificate (PEM).")
@click.option("--key", required=True, type=FILE, help="Its private key (PEM).")
@click.option("--registry-key", required=True, type=FILE, help="Who signs receipts (PEM).")
@click.option("--command-key", type=FILE, help="Who may command (PEM); nobody when it is left out.")
@click.option("--metrics", type=FILE, help="Keep figures for Prometheus' textfile collector here.")
@click.option("--audit-key", type=FILE, help="Signs heads; else the unit's TPM or key store does.")
@click.option(
    "--window", default=4, show_default=True, type=click.IntRange(1, 100), help="Batches under way."
)
@click.option(
    "--receipt-timeout", default=5.0, show_default=True, type=float, help="Seconds before resending."
)
@click.option(
    "--health-every",
    default=30.0,
    show_default=True,
    type=click.FloatRange(1.0, 3600.0),
    help="Seconds between health messages; a unit is called silent after three minutes or three of them.",
)
@click.option(
    "--seal-every",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0.0, 3600.0),
    help="Seconds between signed heads; more saves rows, and leaves what is newer to the unit's disk.",
)
@click.option("--once", is_flag=True, help="Stop when everything has a receipt; exit code 1 if not in time.")
@click.option("--timeout", default=60.0, show_default=True, type=float, help="Seconds for --once.")
def sync(
    unit: str | None,
    path: Path | None,
    broker: str,
    ca: Path,
    cert: Path,
    key: Path,
    registry_key: Path,
    command_key: Path | None,
    metrics: Path | None,
    audit_key: Path | None,
    window: int,
    receipt_timeout: float,
    health_every: float,
    seal_every: float,
    once: bool,
    timeout: float,
) -> None:
    """Send what the door wrote down to the registry, and forget it on the registry's receipt only.

    \b
    Example:
      ostiary sync --unit st-mary/icu-2 --outbox audit.db --broker mqtt.st-mary.example:8883 \\
        --ca ca.pem --cert unit.pem --key unit.key --registry-key registry.pem --audit-key audit.key
    """
    journal.set_up(logging.WARNING, "%(asctime)s %(levelname)s %(message)s")
    settings = load()
    name = unit_id(unit or settings.door.unit)
    own_log = path is None
    path = path or StateFolder(state_dir()).audit_log
    host, port = host_and_port(broker)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    link_settings = LinkSettings(host, port, name, TlsFiles(ca, cert, key))
    reactor = Reactor()
    with contextlib.ExitStack() as stack:
        keystore = "software"
        signer: Signer
        if audit_key is not None:
            signer = FileSigner.load_or_create(audit_key)
        else:
            held = stack.enter_context(contextlib.closing(unit_keystore(settings)))
            signer, keystore = held.audit_signer(), held.kind
        door, orders = settings.door.name, StateFolder(state_dir()).orders
        outbox = stack.enter_context(Outbox(path, unit=name, doors=(door,), now_ms=wall_ms))
        facts = {"software": version("ostiary"), "keystore": keystore}
        try:
            link = reactor.link(
                link_settings,
                subscriptions=[topic(name, channel) for channel in (RECEIPTS, COMMANDS, DESIRED, PARTS)],
                will=Will(topic(name, HEALTH), WILL),
            )
            agent = Agent(
                log=outbox,
                signer=signer,
                link=link,
                registry_key=key_from_bytes(read_file(registry_key)),
                now_s=time.monotonic,
                time_ms=wall_ms,
                settings=AgentSettings(
                    window=window,
                    receipt_timeout_s=receipt_timeout,
                    health_every_s=health_every,
                    seal_every_s=seal_every,
                ),
                # A log that was named says nothing about this machine's own rules and models.
                facts=lambda: {**facts, **unit_facts(settings)} if own_log else facts,
            )
            if command_key is not None:
                command_public_key = key_from_bytes(read_file(command_key))
                agent.handler = unit_handler(
                    agent, outbox, command_public_key, path.with_name("commands"), door, keystore, orders
                )
                desired = StateFolder(state_dir()).desired
                agent.mail = DoorMail(desired, name, command_public_key, wall_ms, agent.report_now)
            figures = MetricsFile(metrics) if metrics else None
            done = _run(agent, reactor, stop, time.monotonic() + timeout if once else None, figures)
            if link.connected:
                link.publish(topic(name, HEALTH), agent.health("stopped"), retain=True)
        finally:
            reactor.close()
    if once and not done:
        raise click.exceptions.Exit(1)


def _run(
    agent: Agent, reactor: Reactor, stop: threading.Event, until: float | None, figures: MetricsFile | None
) -> bool:
    """Until stopped, or until everything has a receipt (True) or `until` has passed (False)."""
    manager = ServiceManager()
    manager.ready("sending")
    while not stop.is_set():
        try:
            agent.step()
            if figures is not None and figures.due(time.monotonic()):
                figures.write(agent.figures(), time.monotonic())
            manager.status(
                "sending" if agent.link.connected else "no broker answers; events wait on the disk"
            )
        except (SyncError, DeviceError) as err:
            # A busy TPM comes back. A damaged log is the operator's to look at; silence would hide it.
            log.error("%s", err)
            manager.status(str(err))
            stop.wait(WAIT_AFTER_FAULT_S)
        manager.progress()  # a round has ended; what it could not do is in the status
        reactor.poll(SEND_EVERY_S)
        if until is not None:
            if agent.log.status().pending == 0:
                return True
            if time.monotonic() > until:
                return False
    return False
