"""`ostiary registry pseudonym`, `person` and `access`: for investigations, and for people who ask."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sync.errors import SyncError
from sync.events import pseudonym
from sync.person_id import PersonIdError, person_id
from sync.registry.database.store import Store
from sync.registry.reports import export as exports
from sync.registry.reports import status
from sync.registry.reports.subject import about
from sync.service.command_line import ACCOUNT, AS_JSON, DATABASE, FILE, read_file, show, wall_ms

KEY_BYTES = 32
TENANT_KEY = click.option(
    "--tenant-key", type=FILE, help="The tenant's pseudonym key: PERSON is then a badge number."
)


@click.command("pseudonym")
@DATABASE
@click.argument("badge")
@click.option("--tenant-key", required=True, type=FILE, help="The tenant's pseudonym key.")
@click.option("--why", required=True, help="The case, request or ticket; it is on record.")
@ACCOUNT
def pseudonym_command(database: str, badge: str, tenant_key: Path, why: str, account: str) -> None:
    """Say under which pseudonym a badge number stands in the events.

    \b
    Example:
      ostiary registry pseudonym 4711 --tenant-key tenant.key --why "request 2026-17" \\
        --database sqlite:///registry.db
    """
    store = Store.open(database, create=False)
    who = str(_person(badge, tenant_key))
    store.log_access(account, "pseudonym", 1, wall_ms(), subject=f"{who}: {why}")
    click.echo(who)


@click.command("person")
@DATABASE
@click.argument("person")
@TENANT_KEY
@click.option("--why", required=True, help="The case, request or ticket; it is on record.")
@ACCOUNT
def person_command(database: str, person: str, tenant_key: Path | None, why: str, account: str) -> None:
    """Print everything that the registry holds about one person, as JSON Lines.

    PERSON is a pseudonym, or a badge number with --tenant-key. Events come first, then alarms, then who asked
    about them; with a badge number also what the fleet keeps of their enrolment.

    \b
    Example:
      ostiary registry person 4711 --tenant-key tenant.key --why "request 2026-17" \\
        --database sqlite:///registry.db
    """
    store = Store.open(database, create=False)
    who = _person(person, tenant_key)
    # On record first: an answer that is not on record must not exist.
    found = exports.count(store, person=str(who))
    store.log_access(account, "person", found, wall_ms(), subject=f"{who}: {why}")
    for line in exports.as_jsonl(about(store, str(who), person_id(person) if tenant_key else None)):
        click.echo(line, nl=False)


@click.command("access")
@DATABASE
@click.option("--account", help="One account only.")
@click.option("--limit", default=200, show_default=True, type=click.IntRange(1, 100_000))
@AS_JSON
def access_command(database: str, account: str | None, limit: int, as_json: bool) -> None:
    """Show who read, exported, asked for or acknowledged what, newest first.

    \b
    Example:
      ostiary registry access --account m.desk --database sqlite:///registry.db
    """
    found = status.accesses(Store.open(database, create=False), account, limit)
    columns: dict[str, Callable[[dict[str, Any]], object]] = {
        "time (UTC)": lambda row: row["time"],
        "account": lambda row: row["account"],
        "what": lambda row: row["action"],
        "rows": lambda row: row["rows"],
        "about": lambda row: row["subject"] or "",
    }
    show(found, columns, as_json)


def _person(text: str, tenant_key: Path | None) -> uuid.UUID:
    if tenant_key is None:
        try:
            return uuid.UUID(text)
        except ValueError as err:
            raise SyncError(
                "that is no pseudonym; with a badge number give --tenant-key, which makes one of it"
            ) from err
    key = read_file(tenant_key)
    if len(key) != KEY_BYTES:
        raise SyncError(f"{tenant_key.name} is no tenant's key: that has {KEY_BYTES} bytes")
    try:
        return pseudonym(key, person_id(text))
    except PersonIdError as err:
        raise SyncError(f"that is no badge number: {err}") from err
