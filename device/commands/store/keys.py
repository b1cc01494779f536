"""`ostiary store new-tenant-key`, `tenant-key`, `audit-key`, `exchange-key`: keys shared with others."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import click

from device.commands.store.group import (
    EXISTING,
    OUT,
    opened_store,
    options,
    state_folder,
    store,
    store_settings,
)
from device.secure_store.errors import StoreError
from device.secure_store.keystore import Keystore
from device.secure_store.store import open_keystore
from device.secure_store.voiceprints.tenant import KEY_BYTES
from device.state_folder import StateFolder
from sync.keys import public_pem
from sync.plain_file import plain_bytes
from sync.plain_words import why


@store.command("new-tenant-key")
@OUT
def new_tenant_key(out: Path) -> None:
    """At the operator's desk, once: make the key under which people are pseudonyms at all its doors.

    Its holder, with a list of badge numbers, can tell whom an event is about; destroying every copy unlinks
    every event from every person.

    Example: ostiary store new-tenant-key --out tenant.key
    """
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
    except OSError as err:
        raise StoreError(f"{out} cannot be made: {why(err)}") from err
    click.echo(f"{out} goes to every unit by `ostiary store tenant-key`; keep no copy in the clear")


@store.command("tenant-key")
@options
@click.argument("key", type=EXISTING)
def tenant_key_command(state: Path | None, config: Path | None, key: Path) -> None:
    """Take the operator's pseudonym key into this unit's store, enciphered under its sealed key.

    Example: ostiary store tenant-key tenant.key
    """
    with opened_store(state, config) as opened:
        opened.keep_tenant_key(plain_bytes(key)[: KEY_BYTES + 1])
    click.echo("the tenant's key counts from the unit's next start; delete the file that it came in")


@store.command("audit-key")
@options
def audit_key(state: Path | None, config: Path | None) -> None:
    """Print this unit's public audit key (PEM), by which registry and authority know it.

    Works while the door process runs, too.

    Example: ostiary store audit-key > unit.pem
    """
    with _keystore(state, config) as keystore:
        click.echo(public_pem(keystore.audit_signer().public_key()).decode(), nl=False)


@store.command("exchange-key")
@options
def exchange_key(state: Path | None, config: Path | None) -> None:
    """Print this unit's public exchange key (PEM), to which enrolments are sealed; made on the first call.

    Example: ostiary store exchange-key > icu-2.exchange.pem
    """
    with _keystore(state, config) as keystore:
        click.echo(public_pem(keystore.exchange().public_key()).decode(), nl=False)


def _keystore(state: Path | None, config: Path | None) -> closing[Keystore]:
    return closing(open_keystore(StateFolder(state_folder(state)).store, store_settings(config)))
