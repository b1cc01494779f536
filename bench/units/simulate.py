"""Drives simulated units against a broker and a registry that run already."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from bench.units.load import Simulation, SimulationSettings
from sync.fleet.certificates import Authority
from sync.proofs.bundle import key_from_bytes
from sync.registry.database.store import Store
from sync.service.command_line import host_and_port, read_file, wall_ms

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path)


@click.command()
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
def simulate(
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
      python -m bench.units.simulate --units 1000 --rate 1000 --seconds 30 --broker localhost:8883 \\
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


if __name__ == "__main__":
    simulate()
