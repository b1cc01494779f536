"""Replaces a file so that a power cut leaves the old content or the new, never a part of it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from sync.plain_file import check_plain_or_new, open_plain


def replace_file(path: Path, data: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Make `data` the content of `path`, in one step for anybody who reads it.

    With `durable` it is on the disk when this returns, the name in its folder included; without, a power cut
    may bring the old content back. Raises OSError, also where a device or a pipe has this name; the old
    content stays.
    """
    check_plain_or_new(path)
    draft = path.with_name(path.name + ".new")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)  # a draft that was left there, or a umask, may say otherwise
            file.write(data)
            file.flush()
            if durable:
                os.fsync(handle)
        draft.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise


class Watched:
    """A small file that somebody else replaces: read again only when it is another one."""

    YOUNG_NS = 50_000_000
    """A file so young may have been replaced within the same tick of the disk's clock: it is read again."""

    def __init__(self, path: Path, at_most: int) -> None:
        self._path = path
        self._at_most = at_most
        self._known: tuple[int, int, int] | None = None
        self._data = b""

    def read(self) -> bytes:
        """Up to `at_most` bytes; empty when there is no such file."""
        try:
            found = self._path.stat()
            if (found.st_ino, found.st_mtime_ns, found.st_size) != self._known:
                with open_plain(self._path) as file:
                    found = os.fstat(file.fileno())
                    self._data = file.read(min(self._at_most, found.st_size))
                young = time.time_ns() - found.st_mtime_ns < self.YOUNG_NS
                self._known = None if young else (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            self._known, self._data = None, b""
        return self._data


def move_file(made: Path, path: Path) -> None:
    """As `replace_file`, for a file that was written under another name on the same disk."""
    check_plain_or_new(path)
    with open_plain(made) as file:
        os.fsync(file.fileno())
    made.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
