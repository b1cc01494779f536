"""Every command that a message, a page or a document tells people to type is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


MODULE = re.compile(r"python3? -m ((?:device|sync|quantize|research|bench)(?:\.\w+)*)")
FILE = re.compile(
    r"(?<![\w/.-])((?:device|sync|quantize|research|bench|scripts|packaging)/(?:[\w-]+/)*[\w-]+\.(?:py|md|toml|json))\b"
)


def test_every_module_that_people_are_told_to_run_is_there() -> None:
    read = [path for path in ROOT.glob("*.*") if path.name != "CHANGELOG.md"]
    for top in (
        "bench",
        "device",
        "docs",
        "packaging",
        "quantize",
        "research",
        "scripts",
        "sync",
        "systemd",
        "tests",
    ):
        read += (ROOT / top).rglob("*")
    named = {
        (path.relative_to(ROOT).as_posix(), module)
        for path in read
        if path.suffix in {".py", ".md", ".toml", ""} and path.is_file()
        for module in MODULE.findall(path.read_text("utf-8", errors="replace"))
    }
    assert len(named) > 20
    at = {module: ROOT / module.replace(".", "/") for _, module in named}
    gone = {
        module
        for module, path in at.items()
        if not (path / "__main__.py").is_file() and not path.with_suffix(".py").is_file()
    }
    assert sorted(f"{name}: python -m {module}" for name, module in named if module in gone) == []


@pytest.mark.parametrize("folder", ["bench", "research"])
def test_the_readme_of_a_folder_lists_each_script_in_it(folder: str) -> None:
    told = (ROOT / folder / "README.md").read_text("utf-8")
    scripts = [
        path.relative_to(ROOT)
        for path in sorted((ROOT / folder).rglob("*.py"))
        if 'if __name__ == "__main__":' in path.read_text("utf-8")
    ]
    assert len(scripts) > 10
    named = {path: ".".join(path.with_suffix("").parts).removesuffix(".__main__") for path in scripts}
    assert [str(path) for path, module in named.items() if str(path) not in told and module not in told] == []


def test_every_page_that_these_lists_point_to_is_there() -> None:
    for folder in ("bench", "research"):
        told = (ROOT / folder / "README.md").read_text("utf-8")
        pages = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", told)}
        assert pages
        assert [page for page in pages if not (ROOT / folder / page).exists()] == []


def test_every_file_that_a_document_names_is_there() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    pages += [
        *(p for folder in ("bench", "research", "quantize") for p in sorted((ROOT / folder).rglob("*.md")))
    ]
    named = {(page, file) for page in pages for file in FILE.findall(page.read_text("utf-8"))}
    assert len(named) > 100
    assert (
        sorted(f"{page.relative_to(ROOT)}: {file}" for page, file in named if not (ROOT / file).exists())
        == []
    )


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


def commands(group: click.Group, path: str = "ostiary") -> Iterator[tuple[str, click.Command]]:
    """Every command below `group`, with what somebody types for it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield f"{path} {name}", found
        if isinstance(found, click.Group):
            yield from commands(found, f"{path} {name}")


def test_help_shows_examples_as_somebody_types_them() -> None:
    shown = {path: command.get_help(click.Context(command)) for path, command in commands(cli)}
    assert [path for path, text in shown.items() if "\\b" in text or "\\\\" in text] == []
