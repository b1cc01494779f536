"""Replaces a file so that a power cut leaves the old content or the new, never a part of it."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from sync.plain_file import check_plain_or_new, open_plain, plain_descriptor

_DRAFT = re.compile(r".+\.[0-9a-f]{16}\.new", re.DOTALL)
_tidied: set[Path] = set()  # folders in which this process has looked for drafts that nobody finishes


def replace_file(path: Path, data: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Make `data` the content of `path`, in one step for every reader.

    With `durable`, content and name are on the disk when this returns; without, a power cut may bring the old
    content back. Raises OSError, also where a device or a pipe has this name; the old content stays.
    Processes and threads may replace one file at once: each writes a draft of its own, and the content of the
    last one stays.
    """
    check_plain_or_new(path)
    _remove_drafts(path.parent)
    draft = path
    try:
        draft, handle = _new_draft(path, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)  # a umask may say otherwise
            file.write(data)
            file.flush()
            if durable:
                os.fsync(handle)
            draft.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as err:
        err.filename = str(path)  # a write that fails names nothing, and the draft is known to nobody
        raise
    finally:
        if draft != path:
            with suppress(OSError):  # it has its place now, unless something failed
                draft.unlink()


def _new_draft(path: Path, mode: int) -> tuple[Path, int]:
    """A draft that nobody else writes, locked until its handle is closed."""
    while True:
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with suppress(OSError):  # a disk without locks: then nobody takes one, and nobody removes drafts
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return draft, handle
        os.close(handle)  # removed before it was locked, by a process that took it for one left behind


def _remove_drafts(folder: Path) -> None:
    """Once a process and folder: remove the drafts of writers that a power cut or a kill has ended."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _DRAFT.fullmatch(entry.name)]:
            with suppress(OSError):
                handle = plain_descriptor(folder / name, links=False)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                    (folder / name).unlink()
                finally:
                    os.close(handle)


class Watched:
    """A small file that another process replaces; it is read again only when it has changed."""

    YOUNG_NS = 50_000_000
    """A younger file may have been replaced within one tick of the disk's clock: it is read again."""

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
    """As `replace_file`, with the file `made` on the same disk as the new content. Raises OSError."""
    check_plain_or_new(path)
    with open_plain(made) as file:
        os.fsync(file.fileno())
    made.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
