"""Reads plain files, and never more than a stated number of bytes.

A named pipe without a writer, a device such as /dev/zero or a file without end would hold a process for ever.
Inputs that may be pipes (sound, `-`) are not read here.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path

MAX_BYTES = 4 << 20
"""Settings, keys, certificates, states, and the rules of a large hospital: none of their kind is larger."""
LARGE_BYTES = 1 << 28
"""Lists, recordings, a whole vault."""
NETWORK_BYTES = 1 << 31
"""A checkpoint or a network."""
CHUNK_BYTES = 1 << 16


class PlainFileError(OSError):
    """The path names no plain file, or one that is too large."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISLNK, "a link"),
)


def plain_bytes(path: Path, at_most: int = MAX_BYTES) -> bytes:
    """All of `path`. Raises OSError whose `strerror` says in plain words why it is not read."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Python sets aside as much as is asked for: never ask for the limit.
        data = file.read(size + 1) if size <= at_most else b""
        while size <= at_most and len(data) <= at_most and (more := file.read(CHUNK_BYTES)):
            data += more  # of a file whose size is not told, as below /proc, or that grows
        if max(size, len(data)) > at_most:
            raise PlainFileError(
                errno.EFBIG, f"it is larger than {_size(at_most)}; is it the right file?", str(path)
            )
    return data


def plain_text(path: Path, at_most: int = MAX_BYTES) -> str:
    """As `plain_bytes`, for UTF-8 with or without a byte-order mark. Raises OSError, UnicodeDecodeError."""
    return plain_bytes(path, at_most).decode("utf-8-sig")


def open_plain(path: Path, *, links: bool = True) -> BufferedReader:
    """`path` opened, for a caller that reads piece by piece within its own limit. Raises OSError."""
    return os.fdopen(plain_descriptor(path, links=links), "rb")


def plain_descriptor(path: str | os.PathLike[str], *, links: bool = True) -> int:
    """`path` opened for reading, to be closed by the caller. Raises OSError; `links` False refuses a link."""
    check_plain(path, links=links)  # first: opening alone starts some devices, a watchdog for one
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        _check(os.fstat(descriptor), path)  # it may be another one by now
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_plain(*paths: str | os.PathLike[str], links: bool = True) -> None:
    """Raises OSError at the first that is no plain file; for libraries that open a path themselves."""
    for path in paths:
        try:
            found = Path(path).stat(follow_symlinks=links)
        except ValueError:
            raise PlainFileError(errno.EINVAL, "it is not a path", str(path)) from None
        _check(found, path)


def plain_path(path: Path) -> Path:
    """`path`, if a plain file is there; for libraries that open it themselves. Raises OSError."""
    check_plain(path)
    return path


def check_plain_or_new(path: Path) -> Path:
    """`path`, if it is new or a plain file. Raises OSError."""
    with suppress(FileNotFoundError):
        check_plain(path)
    return path


def open_output(path: Path) -> BufferedWriter:
    """`path` opened for a result; it may be a pipe, if somebody reads it. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as err:
        if err.errno != errno.ENXIO:
            raise
        raise PlainFileError(
            err.errno, "it is a named pipe or a socket that nobody reads", str(path)
        ) from None
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def write_output(path: Path, data: bytes) -> None:
    """Write a command's whole result to `path`. Raises OSError as `open_output` does."""
    with open_output(path) as file:
        file.write(data)


def _check(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((name for test, name in _KINDS if test(found.st_mode)), "a device")
    number = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
    raise PlainFileError(number, f"it is {kind}, and a plain file belongs there", os.fspath(path))


def _size(count: int) -> str:
    for shift, unit in ((20, "MiB"), (10, "KiB")):
        if count >= 1 << shift:
            return f"{count >> shift} {unit}"
    return f"{count} bytes"
