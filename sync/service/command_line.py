"""What the command lines share: options, the clock, addresses, files, tables."""

from __future__ import annotations

import dataclasses
import getpass
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sync.errors import SyncError
from sync.plain_file import MAX_BYTES, plain_bytes
from sync.plain_words import why

FILE = click.Path(path_type=Path)
DATABASE = click.option(
    "--database", required=True, envvar="OSTIARY_DATABASE", help="sqlite:///FILE or postgresql://..."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")
ACCOUNT = click.option("--account", default=getpass.getuser, help="Who does this; it is on record.")
Row = TypeVar("Row")


def wall_ms() -> int:
    """UTC now, in milliseconds: the clock that every command line passes down."""
    return time.time_ns() // 1_000_000


def host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("mqtts://").rstrip("/").rpartition(":")
    six = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if six else host
    odd = not host.isprintable() or any(letter in host for letter in "/ ") or (":" in host and not six)
    if not host or odd or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise click.UsageError("a broker is given as HOST:PORT")
    return host, int(port)


def read_file(path: Path, at_most: int = MAX_BYTES) -> bytes:
    """All of `path`, a plain file of at most `at_most` bytes. Raises SyncError."""
    try:
        return plain_bytes(path, at_most)
    except OSError as err:
        raise SyncError(f"cannot read {path}: {why(err)}") from err


def utc(time_ms: int | None) -> str:
    """A moment as people read it, to the minute, UTC; empty for None."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}" if time_ms else ""


def show(found: Sequence[Row], columns: Mapping[str, Callable[[Row], object]], as_json: bool) -> None:
    """Print rows (dicts or dataclasses) as JSON Lines, or as a table: a column for each heading."""
    if as_json:
        for row in found:
            click.echo(json.dumps(row, default=dataclasses.asdict))
        return
    table = Table(*columns)
    for row in found:
        table.add_row(*(Text(str(cell(row))) for cell in columns.values()))  # no markup: people wrote it
    Console().print(table)
