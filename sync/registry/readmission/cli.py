"""`ostiary registry readmit`, `approve` and `requests`: what takes two people."""

from __future__ import annotations

from pathlib import Path

import click

from sync.events import unit_id
from sync.proofs.bundle import key_from_bytes, key_to_der
from sync.registry import readmission
from sync.registry.database.store import Store
from sync.service.command_line import ACCOUNT, DATABASE, FILE, read_file, show, wall_ms


@click.command("readmit")
@DATABASE
@click.argument("unit")
@click.option("--why", required=True, help="What was found; it is on record.")
@click.option("--key", type=FILE, help="Its public audit key, where it has a new one (a new TPM).")
@ACCOUNT
def readmit_command(database: str, unit: str, why: str, key: Path | None, account: str) -> None:
    """Ask for a unit to begin a new log, after a fork, a rewrite or a new disk. Another person approves.

    The log that there is stays, closed, as `site/unit~1`.

    \b
    Example:
      ostiary registry readmit st-mary/icu-2 --why "disk replaced, ticket 812" --account m.desk \\
        --database sqlite:///registry.db
    """
    der = key_to_der(key_from_bytes(read_file(key))) if key else None
    store, now_ms = Store.open(database, create=False), wall_ms()
    number = readmission.ask(store, unit_id(unit), account=account, why=why, now_ms=now_ms, key=der)
    click.echo(f"request {number}; another account approves it: ostiary registry approve {number}")


@click.command("approve")
@DATABASE
@click.argument("number", type=int)
@ACCOUNT
def approve_command(database: str, number: int, account: str) -> None:
    """Agree to what another person asked for.

    \b
    Example:
      ostiary registry approve 3 --account n.desk --database sqlite:///registry.db
    """
    store = Store.open(database, create=False)
    unit, closed = readmission.approve(store, number, account=account, now_ms=wall_ms())
    click.echo(f"{unit} begins a new log with its next batch; what there was is {closed}")


@click.command("requests")
@DATABASE
def requests_command(database: str) -> None:
    """Show what was asked for and who approved it, as JSON Lines.

    \b
    Example:
      ostiary registry requests --database sqlite:///registry.db
    """
    show(readmission.listed(Store.open(database, create=False)), {}, as_json=True)
