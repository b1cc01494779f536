"""What the command lines share: the clock, addresses, files."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sync.errors import SyncError
from sync.plain_file import MAX_BYTES, plain_bytes
from sync.plain_words import why

FILE = click.Path(path_type=Path)
DATABASE = click.option(
    "--database", required=True, envvar="OSTIARY_DATABASE", help="sqlite:///FILE or postgresql://..."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


def wall_ms() -> int:
    """UTC now, in milliseconds: the clock of every command line, passed down from here."""
    return time.time_ns() // 1_000_000


def host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("mqtts://").rstrip("/").rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.UsageError("a broker is given as HOST:PORT")
    return host, int(port)


def read_file(path: Path, at_most: int = MAX_BYTES) -> bytes:
    """All of `path`, which is a plain file of so many bytes at most. Raises SyncError."""
    try:
        return plain_bytes(path, at_most)
    except OSError as err:
        raise SyncError(f"cannot read {path}: {why(err)}") from err
