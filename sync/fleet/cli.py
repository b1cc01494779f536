"""`ostiary fleet`: certificates for units, and units that do not exist."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from sync.broker import write_configuration
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.fleet.provisioning.cli import COMMANDS
from sync.fleet.simulate import Simulation, SimulationSettings
from sync.fleet.state_cli import STATE_COMMANDS
from sync.proofs.bundle import key_from_bytes
from sync.registry.database.store import Store
from sync.service.command_line import host_and_port, read_file, wall_ms

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path)
WORKER = re.compile(r"worker-[1-9][0-9]{0,2}")


@click.group()
def fleet() -> None:
    """A site's authority, who is let in, the broker's configuration, simulated units."""


@fleet.command("certificate")
@click.argument("name")
@click.option(
    "--authority", required=True, type=FOLDER, help="Where the authority is kept; made on first use."
)
@click.option("--host", "hosts", multiple=True, help="Makes it a server's certificate (may be repeated).")
@click.option("--renew", is_flag=True, help="Replace the certificate and key that are there.")
def certificate_command(name: str, authority: Path, hosts: tuple[str, ...], renew: bool) -> None:
    """Issue a certificate: NAME is a unit (site/unit), `worker-1` and so on, or a broker with --host.

    \b
    Example:
      ostiary fleet certificate st-mary/icu-2 --authority pki
      ostiary fleet certificate worker-1 --authority pki
      ostiary fleet certificate broker --host mqtt.st-mary.example --authority pki
    """
    if not hosts and not WORKER.fullmatch(name):
        unit_id(name)
    now = dt.datetime.now(dt.UTC)
    files = Authority.open(authority, now).issue(name, now, hosts, renew=renew)
    click.echo(f"{files.certificate} and {files.key} are good for 90 days")


@fleet.command("broker")
@click.argument("folder", type=FOLDER)
@click.option("--listen", default="127.0.0.1", show_default=True, help="This machine's address for units.")
@click.option("--port", default=8883, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--workers", default=8, show_default=True, type=click.IntRange(1, 999), help="How many may join."
)
@click.option("--ca", required=True, type=FILE, help="Whom we trust (PEM).")
@click.option("--cert", required=True, type=FILE, help="The broker's certificate (PEM).")
@click.option("--key", required=True, type=FILE, help="Its private key (PEM).")
def broker_command(
    folder: Path, listen: str, port: int, workers: int, ca: Path, cert: Path, key: Path
) -> None:
    """Write a mosquitto configuration with mutual TLS and rights per unit, and all it needs, into FOLDER.

    As root, the files are given to the user mosquitto, which the broker runs as.

    \b
    Example:
      ostiary fleet broker /etc/mosquitto/ostiary --listen 0.0.0.0 --ca ca.pem --cert broker.pem \\
        --key broker.key
    """
    made = write_configuration(
        folder.resolve(), port=port, ca=ca, certificate=cert, key=key, address=listen, workers=workers
    )
    click.echo(f"start it with: mosquitto -c {made}")


@fleet.command("simulate")
@click.option("--broker", required=True, metavar="HOST:PORT", help="The MQTT broker.")
@click.option("--authority", required=True, type=FOLDER, help="Issues the simulated units' certificates.")
@click.option("--registry-key", required=True, type=FILE, help="Who signs receipts (PEM).")
@click.option("--database", required=True, envvar="OSTIARY_DATABASE", help="Where the units are registered.")
@click.option("--units", default=100, show_default=True, type=click.IntRange(1, 20000))
@click.option("--rate", default=200.0, show_default=True, type=float, help="Events a second, in all.")
@click.option("--seconds", default=10.0, show_default=True, type=float)
@click.option("--seal-every", default=0.02, show_default=True, type=float, help="Seconds between signatures.")
@click.option("--prefix", default="sim", show_default=True, help="Start of the simulated sites' names.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def simulate_command(
    broker: str,
    authority: Path,
    registry_key: Path,
    database: str,
    units: int,
    rate: float,
    seconds: float,
    seal_every: float,
    prefix: str,
    as_json: bool,
) -> None:
    """Drive many units over MQTT for real: own keys, certificates, sessions. Exit code 1 if an event is lost.

    \b
    Example:
      ostiary fleet simulate --units 1000 --rate 1000 --seconds 30 --broker localhost:8883 \\
        --authority pki --registry-key receipts.pem --database sqlite:///registry.db
    """
    host, port = host_and_port(broker)
    settings = SimulationSettings(host, port, units, rate, seconds, seal_every, prefix=prefix)
    issuer = Authority.open(authority, dt.datetime.now(dt.UTC))
    simulation = Simulation(settings, issuer, key_from_bytes(read_file(registry_key)))
    store = Store.open(database, create=False)
    for name, key in simulation.keys.items():
        store.register(name, key, wall_ms())
    store.close()
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("events", total=int(rate * seconds))
        report = simulation.run(lambda more: bar.update(task, advance=more))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
    else:
        for what, value in dataclasses.asdict(report).items():
            click.echo(f"{what:>16} {value}")
    if report.acknowledged != report.events or report.connected != report.units:
        raise click.exceptions.Exit(1)


for _command in (*COMMANDS, *STATE_COMMANDS):
    fleet.add_command(_command)
