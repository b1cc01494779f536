"""Gives every option that takes a file something that is none: a pipe, a device, a folder, nothing, too much.

`python -m tests.strange_files FOLDER WORD...` plays every command that begins so and prints a line of
JSON for each case. What hangs ends the whole process and shows where, also inside a library.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from device.cli import cli, main

PATIENCE_S = 180
"""Says that something hangs, and nothing else."""
MEMORY_BYTES = 12 << 30
"""What a process may take that reads a device without end: more than any command needs."""
LARGE_BYTES = 100_000_000
KINDS = ("pipe", "device", "folder", "socket", "empty", "large", "circle")

VALUES = {
    "database": "sqlite:///{folder}/registry.db",
    "broker": "127.0.0.1:1",
    "phrase": "one two three four",
    "door": "door-1",
    "host": "localhost",
    "unit": "site-1/unit-1",
    "why": "a test of files",
    "reason": "a test of files",
    "step": "begin",
    "scope": "all",
    "event_id": "00000000-0000-4000-8000-000000000000",
    "sequence": "1",
    "client": "one",
    "name": "site-1",
    "deployment": "site-1",
}
"""What the other arguments are, by their names."""
ALSO_FILES = {"audit": ("source",)}
"""Arguments that are a file or an address."""
ONCE = {("sync",): ("--once", "--timeout", "0.1"), ("registry", "watch"): ("--once",)}
SERVICES = (
    *(("run",), ("watch",), ("api", "serve"), ("dashboard", "serve"), ("fleet", "serve")),
    *(("fleet", "simulate"), ("registry", "worker")),
)
"""What runs until it is stopped once its files are right, as an empty file of settings is."""
OUTPUTS = {"out", "metrics", "svg", "image", "qr", "output"}
MAY_BE_A_PIPE = {(("readers", "watch"), "device"), (("run",), "source"), (("watch",), "source")}
"""A reader's line, and sound."""


@dataclass(frozen=True, slots=True)
class Case:
    """How one command took one strange file."""

    command: str
    option: str
    kind: str
    code: int
    said: str


def commands(
    command: click.Command = cli, context: click.Context | None = None, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by its words."""
    context = context or click.Context(cli)
    if not isinstance(command, click.Group):
        yield words, command
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, click.Context(inner, parent=context, info_name=name), (*words, name))


def files_of(words: tuple[str, ...], command: click.Command) -> list[click.Parameter]:
    """The parameters of a command that are files, and not folders alone."""
    also = ALSO_FILES.get(words[0], ())
    return [
        one
        for one in command.params
        if ((isinstance(one.type, click.Path) and one.type.file_okay) or one.name in also)
        and (words, one.name) not in MAY_BE_A_PIPE
        and not (words in SERVICES and one.name in OUTPUTS)
    ]


def kinds_for(words: tuple[str, ...], one: click.Parameter) -> tuple[str, ...]:
    """An empty and a large file are right for what is written, and an empty one may be for a service."""
    if one.name in OUTPUTS:
        return tuple(kind for kind in KINDS if kind not in ("empty", "large"))
    return tuple(kind for kind in KINDS if kind != "empty") if words in SERVICES else KINDS


def make(path: Path, kind: str) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":  # by a link: nobody may replace the real one
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    elif kind == "circle":
        path.symlink_to(path)
    else:
        with path.open("wb") as file:
            file.truncate(LARGE_BYTES if kind == "large" else 0)
    return path


def play(folder: Path, words: tuple[str, ...], command: click.Command) -> Iterator[Case]:
    ordinary = folder / "ordinary.txt"
    ordinary.write_text("an ordinary file\n")
    (folder / "folder").mkdir(exist_ok=True)
    for tried in files_of(words, command):
        for kind in kinds_for(words, tried):
            strange = folder / f"strange-{kind}"
            if not os.path.lexists(strange):
                make(strange, kind)
            arguments = [*words, *ONCE.get(words, ())]
            for one in command.params:
                chosen = strange if one is tried else _ordinary(one, ordinary, folder)
                if chosen is not None:
                    count = max(one.nargs, 1)
                    option = one.opts[0] if isinstance(one, click.Option) else None
                    arguments += [option, str(chosen)] if option else [str(chosen)] * count
            code, said = _main(arguments, folder / "said")
            yield Case(" ".join(words), tried.opts[0], kind, code, said)


NOT_MADE_YET = ("rules.toml", "history", "memory.db", "input-level.json", "audit/uplink.json")
"""What a unit's folder may hold and a new one does not."""
LOOKS = (("people",), ("policy", "recent"), ("forget", "9999"))
"""What only reads the state, or has nothing to change in it."""


def play_state(folder: Path) -> Iterator[Case]:
    """In a unit's folder, one file after the other is something else, and then itself again."""
    state, copy = folder / "state", folder / "copy"
    there = [str(path.relative_to(state)) for path in sorted(state.rglob("*")) if path.is_file()]
    for name in (*there, *(one for one in NOT_MADE_YET if one not in there)):
        for kind in ("pipe", "device", "circle"):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(state, copy)
            (copy / name).unlink(missing_ok=True)
            make(copy / name, kind)
            os.environ["OSTIARY_STATE_DIR"] = str(copy)
            for look in LOOKS:
                code, said = _main(list(look), folder / "said")
                yield Case(" ".join(look), name, kind, code, said)


def _ordinary(one: click.Parameter, ordinary: Path, folder: Path) -> object:
    """A value for another parameter; None leaves it out."""
    if not one.required and not (isinstance(one, click.Argument) and one.nargs == 1):
        return None
    if isinstance(one.type, click.Path):
        return ordinary if one.type.file_okay else folder / "folder"
    if isinstance(one.type, click.Choice):
        return one.type.choices[0]
    if one.name in VALUES:
        return VALUES[one.name].format(folder=folder)
    return "1"


def _main(arguments: list[str], said: Path) -> tuple[int, str]:
    """(exit code, everything told) of one command in this process; -1 for a traceback."""
    code = 0
    sys.argv = ["ostiary", *arguments]
    with _told_to(said):
        faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException:  # noqa: BLE001 - whatever it is, a command must not end so
            code = -1
            traceback.print_exc()
        finally:
            faulthandler.cancel_dump_traceback_later()
    return code, said.read_text(errors="replace")


@contextmanager
def _told_to(path: Path) -> Iterator[None]:
    """What this process and the libraries in it print goes to `path`."""
    sys.stdout.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    first = tuple(sys.argv[2:])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with suppress(BrokenPipeError):
        if first == ("--state",):
            for case in play_state(where):
                print(json.dumps(asdict(case)), flush=True)
        for path_of, found in commands():
            if path_of[: len(first)] == first:
                for case in play(where, path_of, found):
                    print(json.dumps(asdict(case)), flush=True)
