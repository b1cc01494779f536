from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync.durable import Watched, move_file, replace_file

Python = Callable[..., subprocess.Popen[bytes]]

IMPORTS = """
import os, signal, sys
from pathlib import Path
from sync.durable import replace_file
"""
WRITER = """
path, number, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sys.stdin.read()
for _ in range(200):
    replace_file(path, bytes([number]) * size, durable=False)
"""
STOPS_BEFORE_THE_NAME = """
rename = Path.replace
def stop(draft, path):
    STOP
    return rename(draft, path)
Path.replace = stop
replace_file(Path(sys.argv[1]), b"new")
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Disk:
    """What this thread asked the kernel for, in order; every call is really made.

    Threads of other tests may still write: a door's page is written as long as its process lives.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        fsync, replace, own = os.fsync, os.rename, threading.get_ident()

        def note(what: str) -> None:
            if threading.get_ident() == own:
                self.asked.append(what)

        def note_fsync(handle: int) -> None:
            name = Path(f"/proc/self/fd/{handle}").readlink()
            note(f"fsync {'folder' if name.is_dir() else name.name}")
            fsync(handle)

        def note_replace(path: Path, target: Path) -> Path:
            note(f"rename {path.name} {target.name}")
            replace(path, target)
            return target

        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(Path, "replace", note_replace)


def test_content_then_name_then_folder_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    replace_file(tmp_path / "rules.toml", b"new")
    written = re.fullmatch(r"fsync (rules\.toml\.\w+\.new)", disk.asked[0])
    assert written
    assert disk.asked[1:] == [f"rename {written[1]} rules.toml", "fsync folder"]
    (tmp_path / "made").write_bytes(b"large")
    disk.asked.clear()
    move_file(tmp_path / "made", tmp_path / "kept")
    assert disk.asked == ["fsync made", "rename made kept", "fsync folder"]


def test_the_mode_is_the_one_asked_for_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "page", b"shown", 0o644, durable=False)
    finally:
        os.umask(before)
    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o644
    assert names(tmp_path) == ["page"]


def test_a_file_that_cannot_be_replaced_keeps_its_content_and_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(OSError, match="kept"):
        replace_file(tmp_path / "kept", b"new")
    assert (tmp_path / "kept").is_dir()
    assert names(tmp_path) == ["kept"]


@pytest.fixture
def python() -> Iterator[Python]:
    """Starts processes, and ends those that a failed test leaves."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", IMPORTS + code, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def test_processes_that_replace_one_file_at_once_all_succeed_and_nobody_reads_a_mixture(
    tmp_path: Path, python: Python
) -> None:
    path = tmp_path / "standing"
    replace_file(path, bytes([0]) * 100_000, durable=False)
    writers = [python(WRITER, path, number, 100_000 + number) for number in range(1, 5)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()  # all begin now
    while any(writer.poll() is None for writer in writers):
        found = path.read_bytes()
        assert found == bytes([found[0]]) * (100_000 + found[0])
    assert [writer.returncode for writer in writers] == [0] * 4
    assert names(tmp_path) == ["standing"]


def test_what_a_killed_writer_left_is_removed_by_the_next_process(tmp_path: Path, python: Python) -> None:
    killed = python(
        STOPS_BEFORE_THE_NAME.replace("STOP", "os.kill(os.getpid(), signal.SIGKILL)"), tmp_path / "a"
    )
    assert killed.wait() == -signal.SIGKILL
    assert names(tmp_path) != []
    (tmp_path / "rules.new").write_bytes(b"no draft of ours")
    assert python("replace_file(Path(sys.argv[1]), b'b')", tmp_path / "b").wait() == 0
    assert names(tmp_path) == ["b", "rules.new"]


def test_the_draft_of_a_writer_that_is_only_slow_stays(tmp_path: Path, python: Python) -> None:
    slow = python(
        STOPS_BEFORE_THE_NAME.replace("STOP", "print('here', flush=True); sys.stdin.read()"), tmp_path / "a"
    )
    assert slow.stdout is not None
    assert slow.stdout.readline() == b"here\n"
    assert python("replace_file(Path(sys.argv[1]), b'b')", tmp_path / "b").wait() == 0
    slow.communicate()
    assert slow.returncode == 0
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_watched_file_is_read_again_when_it_is_another_one_and_not_while_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "document"
    watched = Watched(path, 5)
    assert watched.read() == b""
    replace_file(path, b"first and long")
    os.utime(path, ns=(1, 1))  # as old as a file that has lain there for a while
    assert watched.read() == b"first"
    path.write_bytes(b"fired and long")  # behind its back: by its number, time and size it is the same file
    os.utime(path, ns=(1, 1))
    assert [watched.read() for _ in range(3)] == [b"first"] * 3
    replace_file(path, b"other and long")
    assert watched.read() == b"other", "of the same size"
    replace_file(path, b"third and long")
    assert watched.read() == b"third", "however soon"
    path.unlink()
    assert watched.read() == b""
