"""`ostiary registry command`, `commands` and `desire`: what units should do, and how they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sync.events import unit_id
from sync.keys import FileSigner
from sync.orders.commands import ACTIONS, MAX_LIFE_MS, NUMBERS
from sync.registry import commands
from sync.registry.database.store import Store
from sync.service.command_line import ACCOUNT, AS_JSON, DATABASE, FILE, show, wall_ms
from sync.transport.health import FACTS, check_facts


@click.command("command")
@DATABASE
@click.argument("unit")
@click.argument("action", type=click.Choice(sorted(ACTIONS)))
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An argument (may be repeated).")
@click.option("--signing-key", required=True, type=FILE, help="Whose commands the unit obeys (PEM).")
@click.option(
    "--life",
    default=600,
    show_default=True,
    type=click.IntRange(1, MAX_LIFE_MS // 1000),
    help="Seconds until it expires.",
)
@ACCOUNT
def command_command(
    database: str,
    unit: str,
    action: str,
    settings: tuple[str, ...],
    signing_key: Path,
    life: int,
    account: str,
) -> None:
    """Order a unit to do something. A worker sends it; `registry commands` shows the answer.

    \b
    Example:
      ostiary registry command st-mary/icu-2 resend --set after=1200 --signing-key commands.key \\
        --database sqlite:///registry.db
    """
    made = commands.issue(
        Store.open(database, create=False),
        FileSigner.load(signing_key),
        unit_id(unit),
        action,
        {name: _value(name, value) for name, value in map(_pair, settings)},
        account=account,
        now_ms=wall_ms(),
        life_ms=life * 1000,
    )
    click.echo(f"command {made.counter} for {made.unit}: {action}, for {life} s")


@click.command("commands")
@DATABASE
@click.option("--unit", help="One unit only.")
@AS_JSON
def commands_command(database: str, unit: str | None, as_json: bool) -> None:
    """List the commands given to units, and their answers.

    \b
    Example:
      ostiary registry commands --database sqlite:///registry.db
    """
    found = commands.listed(Store.open(database, create=False), wall_ms(), unit_id(unit) if unit else None)
    columns: dict[str, Callable[[dict[str, Any]], object]] = {
        "unit": lambda row: row["unit"],
        "number": lambda row: row["counter"],
        "action": lambda row: row["action"],
        "by": lambda row: row["account"],
        "state": lambda row: row["state"],
        "why": lambda row: row["why"] or "",
    }
    show(found, columns, as_json)


@click.command("desire")
@DATABASE
@click.argument("unit")
@click.argument("facts", nargs=-1, metavar="NAME=VERSION...")
def desire_command(database: str, unit: str, facts: tuple[str, ...]) -> None:
    """Say what a unit should report of itself; anything else raises UNIT_DRIFTED. Without facts: nothing.

    \b
    Example:
      ostiary registry desire st-mary/icu-2 policy=rules-7 software=0.1.0 --database sqlite:///registry.db
    """
    wanted = dict(map(_pair, facts))
    for name in wanted:
        if name not in FACTS:
            raise click.UsageError(f"a unit reports {', '.join(sorted(FACTS))}; {name} is none of them")
    check_facts(wanted)
    Store.open(database, create=False).desire(unit_id(unit), wanted)
    click.echo(f"{unit} should report {', '.join(facts) or 'whatever it likes'}")


def _value(name: str, value: str) -> int | str:
    """A person's id or a door of digits alone is text all the same."""
    return int(value) if name in NUMBERS and value.isdigit() else value


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError("an argument is given as NAME=VALUE")
    return name, value
