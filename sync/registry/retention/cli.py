"""`ostiary registry retain`: delete months by hand, asked for and on record."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry.database.store import Store, month_of
from sync.registry.retention.months import due, forget_before
from sync.service.command_line import ACCOUNT, DATABASE, FILE, wall_ms


@click.command("retain")
@DATABASE
@click.option(
    "--from-month", required=True, type=click.IntRange(200001, 999912), help="First month kept, yyyymm."
)
@click.option("--signing-key", required=True, type=FILE, help="Signs the record of it: the receipts' (PEM).")
@ACCOUNT
@click.option("--yes", is_flag=True, help="Do not ask.")
def retain_command(database: str, from_month: int, signing_key: Path, account: str, yes: bool) -> None:
    """Delete every event received before a month, on record; what is left still verifies.

    The record is signed and goes with every export: `ostiary audit verify` tells it from a cut that nobody
    declares. Exit code 1 when a unit keeps its events because its log does not verify.

    \b
    Example:
      ostiary registry retain --from-month 202405 --signing-key receipts.key --database sqlite:///registry.db
    """
    store, signer = Store.open(database, create=False), FileSigner.load(signing_key)
    store.remember_receipts_key(key_to_der(signer.public_key()))
    if from_month > month_of(wall_ms()):
        raise click.UsageError(
            "what is kept begins with this month at the latest: give this month or an earlier one"
        )
    doomed = due(store, from_month)
    if not doomed:
        click.echo(f"there are no events from before {from_month}")
        return
    if not yes:
        total = f"{sum(doomed.values())} events of {len(doomed)} units from before {from_month}"
        click.confirm(f"Delete {total} for good?", abort=True)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("deleting", total=sum(doomed.values()))
        done = forget_before(
            store,
            from_month,
            signer=signer,
            account=account,
            now_ms=wall_ms(),
            progress=lambda more: bar.update(task, advance=more),
        )
    click.echo(f"{done.events} events of {done.units} units were deleted")
    for why in done.refused.values():
        click.echo(why, err=True)
    if done.refused:
        raise click.exceptions.Exit(1)
