"""Every command that a message, a page or a document tells people to type is there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from device.cli import cli

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("device", "sync", "quantize", "bench", "scripts", "packaging", "systemd", "docs", "README.md")
HISTORY = ROOT / "docs" / "adr"
WRITTEN = {".py", ".html", ".js", ".toml", ".md", ".service", ".sh", ""}
NO_COMMAND = {"model bundle"}
"""Bytes that are signed, not something to type."""
NAMED = re.compile(
    r"(?:`|<code>|ExecStart=\S*/)(?:sudo (?:-u \S+ )?)?ostiary ((?:[a-z][a-z-]+(?: (?=[a-z])|\b))+)"
)


def texts() -> list[Path]:
    """All files in which somebody may read the name of a command."""
    files: list[Path] = []
    for part in PARTS:
        start = ROOT / part
        files += [start] if start.is_file() else sorted(start.rglob("*"))
    return [
        path
        for path in files
        if path.is_file() and path.suffix in WRITTEN and HISTORY not in path.parents
        and "__pycache__" not in path.parts
    ]  # fmt: skip


def missing(words: list[str]) -> bool:
    """Whether these words lead to no command, up to where arguments begin."""
    command: click.Command = cli
    context = click.Context(cli)
    for word in words:
        if not isinstance(command, click.Group):
            return False
        found = command.get_command(context, word)
        if found is None:
            return True
        command = found
    return False


def test_every_command_that_anything_names_is_there() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: ostiary {named}"
        for path in texts()
        for named in NAMED.findall(path.read_text("utf-8", errors="replace"))
        if named.strip() not in NO_COMMAND and missing(named.split())
    }
    assert wrong == set()


@pytest.mark.parametrize("named", ["fleet unit-key", "nothing", "store nothing"])
def test_a_command_that_is_gone_would_be_found(named: str) -> None:
    assert NAMED.findall(f"type `ostiary {named}` or <code>ostiary {named}</code>") == [named, named]
    assert missing(named.split())
