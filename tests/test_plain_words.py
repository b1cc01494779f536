"""What the operating system says reaches nobody as it is: every message is in plain words."""

from __future__ import annotations

import ast
import errno
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.plain_file import PlainFileError
from sync.plain_words import what_and_why, why

REPOSITORY = Path(__file__).parents[1]
OF_THE_SYSTEM = {
    *("OSError", "PermissionError", "FileNotFoundError", "ConnectionError", "TimeoutError"),
    *("sqlite3.Error", "ssl.SSLError", "socket.gaierror"),
}


def raw(path: Path) -> Iterator[str]:
    """Where the code shows a caught error of the system as it is."""
    for handler in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(handler, ast.ExceptHandler) or handler.type is None or handler.name is None:
            continue
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if not {ast.unparse(kind) for kind in kinds} & OF_THE_SYSTEM:
            continue
        for node in ast.walk(handler):
            shown = None
            if isinstance(node, ast.FormattedValue):
                shown = node.value
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "str" and node.args:
                shown = node.args[0]
            elif isinstance(node, ast.Attribute) and node.attr == "strerror":
                shown = node.value
            elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
                named = (arg for arg in node.args if isinstance(arg, ast.Name))
                shown = next((arg for arg in named if arg.id == handler.name), None)
            if isinstance(shown, ast.Name) and shown.id == handler.name:
                yield f"{path.relative_to(REPOSITORY)}:{handler.lineno}"


def test_no_message_holds_what_the_operating_system_says() -> None:
    own = REPOSITORY / "sync" / "plain_words.py"
    files = [path for top in ("device", "sync", "quantize") for path in (REPOSITORY / top).rglob("*.py")]
    assert [place for path in sorted(files) if path != own for place in raw(path)] == []


@pytest.mark.parametrize("number", [n for n in errno.errorcode if n not in (errno.EBADF, errno.EINVAL)])
def test_no_number_and_no_brackets_of_any_error_are_left(number: int) -> None:
    said = what_and_why(OSError(number, os.strerror(number), "/x/rules.toml"))
    assert said.startswith("/x/rules.toml: ")
    assert "Errno" not in said
    assert "[" not in said
    assert "None" not in said


def test_what_people_meet_most_is_said_as_they_would_say_it() -> None:
    for number, words in (
        (errno.ELOOP, "its links lead in a circle"),
        (errno.EDQUOT, "the disk space that this user may fill is full"),
        (errno.ESTALE, "the server that has this folder no longer knows it"),
        (errno.EMFILE, "this process has as many files open as it may"),
    ):
        assert why(OSError(number, os.strerror(number))) == words
    assert why(TimeoutError()) == "there was no answer in time"
    assert why(socket.gaierror(-2, "Name or service not known")) == "no such host is known"
    assert why(sqlite3.OperationalError("database or disk is full")) == "the disk is full"
    assert why(sqlite3.DatabaseError("file is not a database")) == "file is not a database"


def test_words_of_our_own_stay_as_they_are() -> None:
    ours = PlainFileError(errno.EINVAL, "it is a named pipe, and a plain file belongs there", "/x")
    assert what_and_why(ours) == "/x: it is a named pipe, and a plain file belongs there"
    assert why(OSError("the door has no such port")) == "the door has no such port"
    assert why(ValueError("7 is no month")) == "7 is no month"


def test_links_in_a_circle_are_told_in_words_by_a_command(tmp_path: Path) -> None:
    circle = tmp_path / "circle.toml"
    circle.symlink_to(circle)
    ostiary = [sys.executable, "-c", "from device.cli import main; main()"]
    for arguments in (("policy", "check", str(circle)), ("registry", "sinks", "check", str(circle))):
        ran = subprocess.run([*ostiary, *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode != 0
        assert "Errno" not in ran.stdout + ran.stderr


def test_a_process_that_may_open_no_more_files_is_told_so_by_a_vault_that_is_whole(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from device.secure_store import StoreUnavailableError\n"
        "from device.secure_store.voiceprints.vault_file import VaultFile\n"
        "vault = VaultFile(Path(sys.argv[1]))\n"
        "vault.read(); vault._open(); vault.close()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try:\n    vault.read()\nexcept StoreUnavailableError as err:\n    print(err)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "vault.db")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "it cannot be opened" in ran.stdout, ran.stderr
    assert "unable to open database file" not in ran.stdout
    assert "nothing is lost" in ran.stdout
