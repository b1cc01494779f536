"""`ostiary fleet`: certificates and the broker's configuration; the other commands are put in from beside."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import click

from sync.broker import write_configuration
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.fleet.provisioning.cli import COMMANDS
from sync.fleet.state_cli import STATE_COMMANDS
from sync.service.command_line import FILE

FOLDER = click.Path(path_type=Path, file_okay=False)
WORKER = re.compile(r"worker-[1-9][0-9]{0,2}")


@click.group()
def fleet() -> None:
    """A site's authority, who is let in, the broker's configuration, how units should be."""


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


for _command in (*COMMANDS, *STATE_COMMANDS):
    fleet.add_command(_command)
