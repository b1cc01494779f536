"""`ostiary registry`: units, alarms, exports; the commands of the folders beside it are added here."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sync.errors import SyncError
from sync.events import UnitId, unit_id
from sync.keys import FileSigner
from sync.plain_file import open_output
from sync.proofs.bundle import key_from_bytes, key_to_der
from sync.registry.campaigns.cli import campaigns_group, watch_list_group
from sync.registry.commands.cli import command_command, commands_command, desire_command
from sync.registry.database.store import Store
from sync.registry.ingest.cli import worker_command
from sync.registry.readmission.cli import approve_command, readmit_command, requests_command
from sync.registry.reports import export as exports
from sync.registry.reports import status
from sync.registry.reports.cli import access_command, person_command, pseudonym_command
from sync.registry.retention.cli import retain_command
from sync.registry.watch.cli import watch_command
from sync.service.command_line import ACCOUNT, AS_JSON, DATABASE, FILE, read_file, show, wall_ms


@click.group()
def registry() -> None:
    """The registry: takes events from every unit, checks them, keeps them."""


@registry.command("create")
@DATABASE
def create_command(database: str) -> None:
    """Make a registry in a new SQLite file or an empty PostgreSQL database.

    \b
    Example:
      ostiary registry create --database sqlite:///registry.db
    """
    Store.open(database).close()
    click.echo("the registry is ready")


@registry.command("new-key")
@click.argument("path", type=FILE)
def new_key_command(path: Path) -> None:
    """Make a signing key (receipts, or commands) and, beside it, the public key that units need.

    \b
    Example:
      ostiary registry new-key receipts.key
    """
    signer = FileSigner.create(path)
    public = path.with_suffix(".pem")
    public.write_bytes(signer.public_pem())
    click.echo(f"{path} signs and stays here; {public} goes to every unit")


@registry.command("register")
@DATABASE
@click.argument("unit")
@click.option("--key", required=True, type=FILE, help="Its public audit key.")
def register_command(database: str, unit: str, key: Path) -> None:
    """Register a unit under its public audit key.

    \b
    Example:
      ostiary registry register st-mary/icu-2 --key icu-2.pem --database sqlite:///registry.db
    """
    name = unit_id(unit)
    Store.open(database, create=False).register(name, key_to_der(key_from_bytes(read_file(key))), wall_ms())
    click.echo(f"{name} is registered")


@registry.command("revoke")
@DATABASE
@click.argument("unit")
def revoke_command(database: str, unit: str) -> None:
    """Revoke a unit: its events, certificates and claims are refused from now on.

    \b
    Example:
      ostiary registry revoke st-mary/icu-2 --database sqlite:///registry.db
    """
    Store.open(database, create=False).revoke(unit_id(unit), wall_ms())
    click.echo(f"{unit} is revoked")


@registry.command("units")
@DATABASE
@AS_JSON
def units_command(database: str, as_json: bool) -> None:
    """Show the state of every unit.

    \b
    Example:
      ostiary registry units --database sqlite:///registry.db
    """
    found = status.unit_statuses(Store.open(database, create=False), wall_ms())
    columns: dict[str, Callable[[status.UnitStatus], object]] = {
        "unit": lambda unit: unit.unit,
        "state": lambda unit: unit.state,
        "events": lambda unit: unit.size,
        "pending": lambda unit: unit.health.get("pending", ""),
        "drift": lambda unit: ", ".join(unit.drifted),
    }
    show(found, columns, as_json)


@registry.command("alarms")
@DATABASE
@AS_JSON
def alarms_command(database: str, as_json: bool) -> None:
    """List open alarms. Exit code 1 when there is one.

    \b
    Example:
      ostiary registry alarms --database sqlite:///registry.db
    """
    found = status.open_alarms(Store.open(database, create=False))
    columns: dict[str, Callable[[dict[str, Any]], object]] = {
        "id": lambda alarm: alarm["id"],
        "severity": lambda alarm: alarm["severity"],
        "kind": lambda alarm: alarm["kind"],
        "unit": lambda alarm: alarm["unit"] or "",
        "times": lambda alarm: alarm["times"],
        "evidence": lambda alarm: json.dumps(alarm["evidence"])[:80],
    }
    show(found, columns, as_json)
    if found:
        raise click.exceptions.Exit(1)


@registry.command("acknowledge")
@DATABASE
@click.argument("alarm", type=int)
@ACCOUNT
def acknowledge_command(database: str, alarm: int, account: str) -> None:
    """Note that somebody has looked at an alarm.

    \b
    Example:
      ostiary registry acknowledge 17 --account m.desk --database sqlite:///registry.db
    """
    store = Store.open(database, create=False)
    if not status.acknowledge(store, alarm, account, wall_ms()):
        raise SyncError(f"there is no open alarm {alarm}; `ostiary registry alarms` lists them")
    click.echo(f"alarm {alarm} is acknowledged by {account}")


@registry.command("refusals")
@DATABASE
def refusals_command(database: str) -> None:
    """Count what was refused, by day, reason and unit, as JSON Lines.

    \b
    Example:
      ostiary registry refusals --database sqlite:///registry.db
    """
    show(status.refusal_counts(Store.open(database, create=False)), {}, as_json=True)


@registry.command("export")
@DATABASE
@click.option("--form", type=click.Choice(["jsonl", "csv", "bundle"]), default="jsonl", show_default=True)
@click.option("--unit", help="One unit only; a bundle needs it.")
@click.option("--out", "-o", type=FILE, required=True, help="Where it goes.")
@ACCOUNT
def export_command(database: str, form: str, unit: str | None, out: Path, account: str) -> None:
    """Write events out: JSON Lines, CSV, or a bundle that `ostiary audit verify` checks.

    \b
    Example:
      ostiary registry export --form bundle --unit st-mary/icu-2 -o icu-2.bundle --database sqlite:///r.db
    """
    store = Store.open(database, create=False)
    name = _log_name(unit) if unit else None
    if form == "bundle":
        if name is None:
            raise click.UsageError("give --unit: a log bundle is of one unit")
        made = exports.bundle(store, name)
        # On record first: an export that is not on record must not exist.
        store.log_access(account, "export", len(made.events), wall_ms(), subject=f"bundle of {name}")
        with open_output(out) as file:
            file.write(made.to_bytes())
        count = len(made.events)
    else:
        count = exports.count(store, name)
        store.log_access(account, "export", count, wall_ms(), subject=f"{form} of {name or 'all units'}")
        page = exports.rows(store, name)
        with io.TextIOWrapper(open_output(out), encoding="utf-8", newline="") as file:
            file.writelines(exports.as_csv(page) if form == "csv" else exports.as_jsonl(page))
    click.echo(f"{count} events are in {out}")


def _log_name(text: str) -> UnitId:
    """A unit, or one of its closed logs: `site/unit~1`."""
    unit, mark, number = text.partition("~")
    unit_id(unit)
    if mark and not number.isdigit():
        raise click.UsageError("a closed log is named site/unit~1, ~2 and so on")
    return UnitId(text)


for _command in (
    worker_command,
    watch_command,
    retain_command,
    command_command,
    commands_command,
    desire_command,
    pseudonym_command,
    person_command,
    access_command,
    readmit_command,
    approve_command,
    requests_command,
    campaigns_group,
    watch_list_group,
):
    registry.add_command(_command)
