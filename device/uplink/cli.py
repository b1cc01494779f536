"""`ostiary sync`: sends events, in a process beside the door's, which has no network."""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric import ec

from device.errors import DeviceError
from device.secure_store.keystore import Keystore
from device.secure_store.store import open_keystore
from device.settings import load, state_dir
from device.state_folder import StateFolder
from device.uplink.facts import unit_facts
from device.uplink.handler import unit_handler
from device.uplink.letters.mail import DoorMail
from device.uplink.letters.prints import Letters, PrintMail
from device.uplink.network import Network, Place
from device.uplink.renewal import Reminder, Renewal
from device.uplink.state import NAME, StateFile
from sync.errors import SyncError
from sync.events import Signer, unit_id
from sync.keys import FileSigner
from sync.outbox import Outbox
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why
from sync.proofs.bundle import key_from_bytes
from sync.service import journal
from sync.service.command_line import host_and_port, read_file, wall_ms
from sync.service.metrics import MetricsFile
from sync.service.service_manager import ServiceManager
from sync.service.terminated import stop_event
from sync.transport.agent import Agent, AgentSettings
from sync.transport.connecting import Validity
from sync.transport.health import WILL
from sync.transport.mqtt import LinkSettings, Reactor, TlsFiles, Will
from sync.transport.topics import COMMANDS, DESIRED, HEALTH, KEPT, PARTS, RECEIPTS, topic

SEND_EVERY_S = 0.02
WAIT_AFTER_FAULT_S = 5.0
FILE = click.Path(path_type=Path)

log = logging.getLogger(__name__)


@click.command()
@click.option("--unit", help="This unit, as site/unit; else from the unit's settings.")
@click.option("--outbox", "path", type=FILE, help="The audit log's file; else the unit's own.")
@click.option("--broker", metavar="HOST:PORT", help="The site's MQTT broker, where it was not provisioned.")
@click.option("--ca", type=FILE, help="Whom we trust (PEM).")
@click.option("--cert", type=FILE, help="This unit's certificate (PEM).")
@click.option("--key", type=FILE, help="Its private key (PEM).")
@click.option("--registry-key", type=FILE, help="Who signs receipts (PEM).")
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
@click.option(
    "--once",
    is_flag=True,
    help="Stop when the broker was reached and everything has a receipt; exit code 1 if not in time.",
)
@click.option("--timeout", default=60.0, show_default=True, type=float, help="Seconds for --once.")
def sync(
    unit: str | None,
    path: Path | None,
    broker: str | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    registry_key: Path | None,
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

    A unit that was provisioned knows its broker and its certificate, and renews that in time.

    \b
    Example:
      ostiary sync
      ostiary sync --unit st-mary/icu-2 --outbox audit.db --broker mqtt.st-mary.example:8883 \\
        --ca ca.pem --cert unit.pem --key unit.key --registry-key registry.pem --audit-key audit.key
    """
    journal.set_up(logging.WARNING, "%(asctime)s %(levelname)s %(message)s")
    settings = load()
    name = unit_id(unit or settings.door.unit)
    own_log = path is None
    path = path or StateFolder(state_dir()).audit_log
    files = (ca, cert, key, registry_key)
    place = Network(state_dir()).place() if broker is None else None
    if place is None and (broker is None or None in files):
        raise click.UsageError(
            "this unit was not provisioned (ostiary provision CLAIM): give --broker, --ca, --cert, --key and "
            "--registry-key"
        )
    if place is not None and (name != place.unit or audit_key is not None):
        raise click.UsageError(f"this unit was provisioned as {place.unit}, with the audit key in its TPM")
    stop = stop_event()
    reactor = Reactor()
    with contextlib.ExitStack() as stack:
        keystore = "software"
        signer: Signer
        held: Keystore | None = None
        if audit_key is not None:
            signer = FileSigner.load_or_create(audit_key)
        else:
            held = stack.enter_context(
                contextlib.closing(open_keystore(StateFolder(state_dir()).store, settings.store))
            )
            signer, keystore = held.audit_signer(), held.kind
        door, orders = settings.door.name, StateFolder(state_dir()).orders
        outbox = stack.enter_context(Outbox(path, unit=name, doors=(door,), now_ms=wall_ms))
        facts = {"software": version("ostiary"), "keystore": keystore}
        try:
            at = _provisioned(held, place) if place is not None else _by_hand(broker, files, command_key)
            link = reactor.link(
                LinkSettings(*host_and_port(at.broker), name, at.tls),
                context=at.context,
                certificate=at.certificate,
                subscriptions=[
                    topic(name, channel) for channel in (RECEIPTS, COMMANDS, DESIRED, PARTS, KEPT)
                ],
                will=Will(topic(name, HEALTH), WILL),
            )
            agent = Agent(
                log=outbox,
                signer=signer,
                link=link,
                registry_key=at.registry_key,
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
                certificate_ms=lambda: _until_ms(link.validity()),
            )
            if at.command_key is not None:
                desired = StateFolder(state_dir()).desired
                prints = PrintMail(desired / "prints", name, signer, at.registry_key)
                agent.handler = unit_handler(
                    agent, outbox, at.command_key, path.with_name("commands"), door, keystore, orders, prints
                )
                mail = DoorMail(desired, name, at.command_key, wall_ms, agent.report_now)
                agent.mail = Letters(mail, prints)
            figures = MetricsFile(metrics) if metrics else None
            until = time.monotonic() + timeout if once else None
            state = StateFile(path.with_name(NAME), wall_ms)
            left = _run(agent, reactor, stop, until, figures, state, at.renewal)
            if link.connected:
                link.publish(topic(name, HEALTH), agent.health("stopped"), retain=True)
        finally:
            reactor.close()
    if once and left:
        click.echo(f"ostiary: {left}", err=True)
        raise click.exceptions.Exit(1)


@dataclass(frozen=True, slots=True)
class _Site:
    """Where this unit sends, its identity, and the keys that it trusts."""

    broker: str
    tls: TlsFiles | None
    context: ssl.SSLContext | None
    registry_key: ec.EllipticCurvePublicKey
    command_key: ec.EllipticCurvePublicKey | None
    renewal: Renewal | None = None

    def certificate(self) -> bytes:
        """The certificate for the broker now, PEM."""
        if self.renewal is not None:
            return self.renewal.place.certificates.encode()
        return plain_bytes(self.tls.certificate) if self.tls is not None else b""


def _until_ms(validity: Validity | None) -> int | None:
    return None if validity is None else int(validity.ends.timestamp() * 1000)


def _by_hand(broker: str | None, files: tuple[Path | None, ...], command_key: Path | None) -> _Site:
    """The site of files that were brought here by hand."""
    ca, cert, key, registry_key = (file or Path() for file in files)
    commands = key_from_bytes(read_file(command_key)) if command_key is not None else None
    tls = TlsFiles(ca, cert, key)
    return _Site(broker or "", tls, None, key_from_bytes(read_file(registry_key)), commands)


def _provisioned(keystore: Keystore | None, place: Place) -> _Site:
    """The site of a provisioned unit, whose TLS key is in the TPM."""
    from device.secure_store.hardware.tpm_keystore import TpmKeystore  # a laptop needs no TPM libraries
    from device.uplink.admission import come_back, known, renew
    from device.uplink.tpm_tls import TpmTls

    if not isinstance(keystore, TpmKeystore):
        raise DeviceError(
            "this unit was provisioned with a TPM, and its settings name none; set `[store] keystore` and "
            "`tcti` as they were"
        )
    network = Network(state_dir())
    tls = TpmTls(keystore, network, place)

    def renewed(now: Place) -> Place:
        following = renew(now, keystore, network)
        tls.renew(following)
        return following

    def back(now: Place) -> Place | None:
        if known(now):
            return None
        following = come_back(now, keystore, network)
        tls.renew(following)
        return following

    return _Site(
        place.broker,
        None,
        tls.context,
        key_from_bytes(place.receipts_key.encode()),
        key_from_bytes(place.command_key.encode()),
        Renewal(place, renewed, back),
    )


def _run(
    agent: Agent,
    reactor: Reactor,
    stop: threading.Event,
    until: float | None,
    figures: MetricsFile | None,
    state: StateFile,
    renewal: Renewal | None,
) -> str:
    """Send until stopped; with `until`, until then or until the broker was reached and all has a receipt.

    Returns what was not done; empty when nothing is left to send.
    """
    reached = False
    manager = ServiceManager()
    manager.ready("sending")
    reminder = Reminder()
    while not stop.is_set():
        try:
            agent.step()
            if renewal is not None:
                renewal.step(datetime.now(UTC), time.monotonic(), agent.link.connected)
            if figures is not None and figures.due(time.monotonic()):
                figures.write(agent.figures(), time.monotonic())
            if reminder.due(time.monotonic()):
                reminder.look(agent.link.validity(), datetime.now(UTC))
            if agent.link.connected or agent.link.last_error:
                state.tell(agent.link.connected, agent.link.last_error, reminder.until_ms)
            manager.status(
                "sending" if agent.link.connected
                else f"events wait on the disk: {agent.link.last_error or 'no broker answers'}"
            )  # fmt: skip
        except (SyncError, DeviceError, OSError) as err:
            # A busy TPM and a full disk come back. A damaged log is the operator's to look at.
            said = what_and_why(err)
            log.error("%s", said)
            manager.status(said)
            state.tell(False, said)
            stop.wait(WAIT_AFTER_FAULT_S)
        manager.progress()  # a round has ended; what it could not do is in the status
        reactor.poll(SEND_EVERY_S)
        if until is not None:
            reached = reached or agent.link.connected
            if reached and agent.log.status().pending == 0:
                return ""
            if time.monotonic() > until:
                return _left(agent, reached)
    state.tell(False, "the uplink was stopped")
    return "the uplink was stopped"


def _left(agent: Agent, reached: bool) -> str:
    """What `--once` did not do in its time."""
    if reached:
        return f"the broker was reached, and {agent.log.status().pending} events have no receipt yet"
    return f"no broker was reached, so nothing was sent: {agent.link.last_error or 'none answered in time'}"
