"""`ostiary config`: the settings, their sources, and every mistake in a settings file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import click

from device.settings import (
    Settings,
    SettingsError,
    load,
    memory_dir,
    models_dir,
    read_table,
    retired,
    settings_file,
    state_dir,
)

EXIT_NO = 1
MASK = "********"
FILE = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Item:
    """One setting in force. A secret's value is masked."""

    key: str
    value: Any
    source: str
    """`default`, the settings file, or the environment variable that it comes from."""


@click.group()
def config() -> None:
    """Show and check the settings: /etc/ostiary/ostiary.toml, or the file that $OSTIARY_CONFIG names."""


@config.command()
@click.option("--config", "path", type=FILE, help="Settings file.")
@click.option("--changed", is_flag=True, help="Only what is not a default.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def show(path: Path | None, changed: bool, as_json: bool) -> None:
    """Show every setting as it counts, secrets masked, and where it comes from.

    \b
    Example: ostiary config show --changed
    """
    found = [item for item in effective(path) if not changed or item.source != "default"]
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found]))
        return
    for item in found:
        click.echo(f"{item.key} = {json.dumps(item.value)}    # {item.source}")


@config.command()
@click.argument("path", type=FILE, required=False)
def check(path: Path | None) -> None:
    """Check a settings file and list every mistake in it, with the nearest key where one is misspelt.

    Names what counted in earlier versions, too. Exit code 1 when there is a mistake.

    \b
    Example: ostiary config check /etc/ostiary/ostiary.toml
    """
    try:
        load(path)
    except SettingsError as err:
        for mistake in err.mistakes:
            click.echo(mistake, err=True)
        raise click.exceptions.Exit(EXIT_NO) from err
    file = settings_file(path)
    click.echo(f"{file or 'the defaults'}: no mistake")
    for idle in retired(read_table(file)) if file is not None else ():
        click.echo(f"{idle}; remove it")


def effective(path: Path | None = None) -> list[Item]:
    """Every setting in the order of the tree, and the two folders. Raises SettingsError."""
    file = settings_file(path)
    settings = load(path)
    table = read_table(file) if file is not None else {}
    return [*leaves(settings, Settings(), table, "", str(file)), *_folders()]


def leaves(node: Any, base: Any, table: Any, prefix: str, file: str) -> Iterator[Item]:
    for item in fields(node):
        value, key = getattr(node, item.name), f"{prefix}{item.name}"
        given = table.get(item.name) if isinstance(table, dict) else None
        if is_dataclass(value):
            yield from leaves(value, getattr(base, item.name), given, f"{key}.", file)
            continue
        shown = MASK if item.metadata.get("secret") and value else _plain(value)
        yield Item(key, shown, "default" if given is None else file)


def _folders() -> Iterator[Item]:
    for key, variable, folder in (
        ("state folder", "OSTIARY_STATE_DIR", state_dir()),
        ("models folder", "OSTIARY_MODELS_DIR", models_dir()),
        ("folder in memory", "OSTIARY_RUNTIME_DIR", memory_dir()),
    ):
        shown = "" if folder is None else str(folder)
        yield Item(key, shown, variable if os.environ.get(variable) else "default")


def _plain(value: Any) -> Any:
    """`value` in JSON types."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
