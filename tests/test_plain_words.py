"""What the operating system or a library says reaches nobody as it is: every message is in plain words."""

from __future__ import annotations

import ast
import errno
import json
import logging
import os
import re
import resource
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RLIMIT_FSIZE

import onnxruntime as ort
import pytest

from device.access.memory.history import HistoryError
from device.commands.installed.doctor import look_at
from device.errors import DeviceError
from device.settings import Settings
from sync.durable import replace_file
from sync.plain_file import PlainFileError
from sync.plain_words import malformed, remedy, told, what_and_why, why

REPOSITORY = Path(__file__).parents[1]
OF_THE_SYSTEM = {
    *("OSError", "PermissionError", "FileNotFoundError", "ConnectionError", "TimeoutError"),
    *("sqlite3.Error", "ssl.SSLError", "socket.gaierror"),
}
OF_LIBRARIES = {
    *("Exception", "ImportError", "RuntimeError", "TSS2_Exception", "SQLAlchemyError", "ArgumentError"),
    *("binascii.Error", "termios.error", "DBAPIError"),
}
"""ONNX Runtime, NumPy and zipfile raise anything: they are caught as Exception."""


MEANT = {"err.name", "err.filename", "err.rc", "err.code", "err.smtp_code", "err.timeout"}
"""Attributes that hold a name or a number."""
LOGS = re.compile(r"_?log\.(?!debug)", re.IGNORECASE)


def raw(path: Path) -> Iterator[str]:
    """Where the code shows a caught error of the system as it is."""
    for handler in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(handler, ast.ExceptHandler) or handler.type is None or handler.name is None:
            continue
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if not {ast.unparse(kind) for kind in kinds} & (OF_THE_SYSTEM | OF_LIBRARIES):
            continue
        for node in ast.walk(handler):
            shown = None
            if isinstance(node, ast.FormattedValue):
                shown = node.value
                if isinstance(shown, ast.Subscript | ast.Attribute):  # `err.args[-1]`
                    shown = next((one for one in ast.walk(shown) if isinstance(one, ast.Name)), None)
                    if ast.unparse(node.value) in MEANT:
                        shown = None
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "str" and node.args:
                shown = node.args[0]
            elif isinstance(node, ast.Attribute) and node.attr == "strerror":
                shown = node.value
            elif isinstance(node, ast.Call) and LOGS.match(ast.unparse(node.func)):
                named = (arg for arg in node.args if isinstance(arg, ast.Name))
                shown = next((arg for arg in named if arg.id == handler.name), None)
            if isinstance(shown, ast.Name) and shown.id == handler.name:
                yield f"{path.relative_to(REPOSITORY)}:{handler.lineno}"


@contextmanager
def limited(what: int, at: int) -> Iterator[None]:
    """This process may have no more, for a while."""
    before, ignored = resource.getrlimit(what), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(what, (at, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_no_message_holds_what_the_operating_system_or_a_library_says() -> None:
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
    assert why(sqlite3.DatabaseError("file is not a database")) == "it is damaged, or no file of this program"


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


def test_what_sqlite_says_is_in_the_log_at_debug_level_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE one (number INTEGER CHECK (number > 1))")
    for statement in ("SELECT * FROM nobody", "INSERT INTO one VALUES (1)"):
        with pytest.raises(sqlite3.Error) as caught:
            db.execute(statement)
        assert str(caught.value) not in why(caught.value)
        assert str(caught.value) in caplog.text
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


def test_a_database_that_this_program_closed_itself_is_not_called_one_of_another_form() -> None:
    db = sqlite3.connect(":memory:")
    db.close()
    with pytest.raises(sqlite3.Error) as caught:
        db.execute("SELECT 1")
    assert why(caught.value) == "a fault of the program (ProgrammingError)"


def test_what_a_library_says_is_in_the_log_at_debug_level_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Exception, match="ONNXRuntimeError") as caught:
        ort.InferenceSession(b"no network")
    assert told(caught.value, "it is no network") == "it is no network"
    assert str(caught.value) in caplog.text
    assert told(IndexError("index 7 is out of bounds for axis 0")) == "a fault of the program (IndexError)"
    assert told(DeviceError("the door has no such port")) == "the door has no such port"
    assert told(MemoryError()) == "there is no memory left"


@pytest.mark.parametrize(
    ("name", "shown"), [("numpy", "the Python package numpy"), (None, "a Python package")]
)
def test_a_package_that_cannot_be_loaded_is_named_where_python_names_it(name: str | None, shown: str) -> None:
    def look(_: Settings) -> str:
        raise ImportError("libopenblas.so.0: cannot open shared object file", name=name)

    assert look_at("models", look, Settings(), "").detail == f"{shown} cannot be loaded"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
def test_what_a_disk_may_answer_comes_with_what_to_do(number: int) -> None:
    assert remedy(OSError(number, os.strerror(number)))


def test_a_file_that_was_not_replaced_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    with pytest.raises(OSError, match=r"rules\.toml") as caught, limited(RLIMIT_FSIZE, 10):
        replace_file(path, bytes(100))
    assert caught.value.filename == str(path)


def test_a_file_in_a_folder_that_is_missing_is_named_and_not_its_draft(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "rules.toml"
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(path, b"new")
    assert caught.value.filename == str(path)


@pytest.mark.parametrize(
    ("err", "words"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)"), "speaks no TLS"),
        (
            ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca"),
            "authority of our certificate",
        ),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x"), "asks for a certificate of ours"),
        (ssl.SSLError(9, "[SSL] PEM lib (_ssl.c:4059)"), "no certificate or key in PEM"),
        (ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"), "ended the connection"),
        (ssl.SSLError(1, "[SSL: BAD_LENGTH] bad length (_ssl.c:1)"), "TLS failed, for a rare reason"),
    ],
)
def test_what_openssl_says_reaches_nobody_as_it_is(err: ssl.SSLError, words: str) -> None:
    assert words in why(err)
    for raw_word in ("_ssl.c", "alert", "tlsv1", "lib ("):
        assert raw_word not in why(err).lower()


def test_a_certificate_that_is_not_trusted_has_its_reason_in_our_words() -> None:
    err = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    for code, words in ((10, "run out"), (20, "not known here"), (62, "another name"), (999, "must")):
        err.verify_code, err.verify_message = code, "unable to get local issuer certificate"
        assert words in why(err)
        assert "issuer" not in why(err)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (lambda: json.loads('{"a": }'), "no JSON from line 1, column 7, on"),
        (lambda: {}["norms"], "'norms' is missing"),
        (lambda: b"\xff".decode(), "bytes that are no text"),
        (lambda: float("x"), "not what belongs there"),
        (lambda: len(3), "not what belongs there"),  # type: ignore[arg-type]
    ],
)
def test_what_python_says_of_a_document_reaches_nobody_as_it_is(document, words: str) -> None:
    with pytest.raises(Exception) as caught:
        document()
    assert words in malformed(caught.value)


def test_what_a_disk_does_not_give_is_not_to_be_begun_anew() -> None:
    def unread(_: Settings) -> str:
        raise HistoryError("cannot read history: the disk or device fails") from OSError(errno.EIO, "x")

    def damaged(_: Settings) -> str:
        raise HistoryError("the history is damaged")

    assert "start-over" not in look_at("history", unread, Settings(), "`ostiary policy start-over`").fix
    assert "dmesg" in look_at("history", unread, Settings(), "").fix
    assert "start-over" in look_at("history", damaged, Settings(), "").fix
