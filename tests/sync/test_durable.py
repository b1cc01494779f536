from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sync.durable import Watched, move_file, replace_file


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
    assert disk.asked == ["fsync rules.toml.new", "rename rules.toml.new rules.toml", "fsync folder"]
    (tmp_path / "made").write_bytes(b"large")
    disk.asked.clear()
    move_file(tmp_path / "made", tmp_path / "kept")
    assert disk.asked == ["fsync made", "rename made kept", "fsync folder"]


def test_the_mode_is_the_one_asked_for_whatever_a_draft_or_the_umask_says(tmp_path: Path) -> None:
    draft = tmp_path / "page.new"
    draft.write_bytes(b"left by a cut")
    draft.chmod(0o600)
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "page", b"shown", 0o644, durable=False)
    finally:
        os.umask(before)
    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o644
    assert not draft.exists()


def test_a_file_that_cannot_be_replaced_keeps_its_content_and_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(OSError, match="kept"):
        replace_file(tmp_path / "kept", b"new")
    assert (tmp_path / "kept").is_dir()
    assert not (tmp_path / "kept.new").exists()


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
