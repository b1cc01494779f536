"""The words in which people are told why the machine did not do something.

An operating system says `[Errno 40] Too many levels of symbolic links`; a nurse, an installer or an auditor
is told that a link leads in a circle.
"""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import ssl

_WORDS = {
    errno.ENOENT: "it is not there",
    errno.EACCES: "this user may not",
    errno.EPERM: "this user may not, or it is protected against changes",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk space that this user may fill is full",
    errno.EROFS: "the disk can only be read",
    errno.EIO: "the disk or device fails",
    errno.ESTALE: "the server that has this folder no longer knows it",
    errno.ELOOP: "its links lead in a circle",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOTDIR: "a part of its path is a file and no folder",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "it is there already",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EFBIG: "the file would be larger than it may be",
    errno.EXDEV: "it lies on another disk",
    errno.EMFILE: "this process has as many files open as it may",
    errno.ENFILE: "this machine has as many files open as it can",
    errno.ENOMEM: "there is no memory left",
    errno.EAGAIN: "it is not ready; try again",
    errno.EBUSY: "another program is using it",
    errno.ETXTBSY: "another program is running it",
    errno.ENODEV: "the device is not there",
    errno.ENXIO: "the device is not there, or nobody reads it",
    errno.ENOEXEC: "it is no program for this machine",
    errno.EPIPE: "the other side has gone",
    errno.EADDRINUSE: "another program has this port",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.ENETUNREACH: "no network leads there",
    errno.EHOSTUNREACH: "no network leads there",
    errno.ENETDOWN: "the network is down",
    errno.ECONNREFUSED: "nobody answers there",
    errno.ECONNRESET: "the other side ended the connection",
    errno.ECONNABORTED: "the other side ended the connection",
    errno.ENOTCONN: "the other side ended the connection",
    errno.ETIMEDOUT: "there was no answer in time",
}
_SQLITE = {
    "database or disk is full": _WORDS[errno.ENOSPC],
    "disk I/O error": _WORDS[errno.EIO],
    "attempt to write a readonly database": "it can only be read",
    "unable to open database file": "it cannot be opened; look at its folder, the disk and who owns it",
    "database is locked": _WORDS[errno.EBUSY],
}


def why(err: BaseException) -> str:
    """What is wrong, in words for people and without the name of the file.

    What our own code says stays as it is, and so does what is no error of the system.
    """
    if isinstance(err, sqlite3.Error):
        return _SQLITE.get(str(err), str(err))
    if isinstance(err, socket.gaierror):
        return "no such host is known"
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {err.verify_message}"
    if isinstance(err, ssl.SSLError):
        return (err.reason or str(err)).replace("_", " ").lower()
    if isinstance(err, TimeoutError) and err.errno is None and not str(err):
        return _WORDS[errno.ETIMEDOUT]
    if not isinstance(err, OSError) or err.errno is None:
        return str(err)
    if err.strerror and err.strerror != os.strerror(err.errno):  # of our own, or of a library
        return err.strerror
    return _WORDS.get(err.errno) or os.strerror(err.errno).lower()


def what_and_why(err: BaseException) -> str:
    """The same, with the file before it where the error names one."""
    name = getattr(err, "filename", None)
    named = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
    return f"{named}{why(err)}"
