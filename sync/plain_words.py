"""Errors of the operating system and of libraries in words for a nurse, an installer or an auditor.

`[Errno 40] Too many levels of symbolic links` becomes "its links lead in a circle". What a library says by
itself is in the log at debug level.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sqlite3
import ssl

_LOG = logging.getLogger(__name__)

_WORDS = {
    errno.ENOENT: "it is not there",
    errno.EACCES: "this user may not use it",
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
_DAMAGED = "it is damaged, or no file of this program"
_FOREIGN_FORM = "it does not have the form that this version writes"
_SQLITE = {
    sqlite3.SQLITE_FULL: _WORDS[errno.ENOSPC],
    sqlite3.SQLITE_IOERR: _WORDS[errno.EIO],
    sqlite3.SQLITE_READONLY: "it can only be read",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; look at its folder, the disk and who owns it",
    sqlite3.SQLITE_BUSY: _WORDS[errno.EBUSY],
    sqlite3.SQLITE_LOCKED: _WORDS[errno.EBUSY],
    sqlite3.SQLITE_NOMEM: _WORDS[errno.ENOMEM],
    sqlite3.SQLITE_PERM: _WORDS[errno.EACCES],
    sqlite3.SQLITE_CORRUPT: "it is damaged, or the disk does not give it",  # SQLite says so of EIO, too
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_ERROR: _FOREIGN_FORM,
    sqlite3.SQLITE_SCHEMA: _FOREIGN_FORM,
    sqlite3.SQLITE_CONSTRAINT: "it does not go together with what is there",
    sqlite3.SQLITE_FORMAT: _DAMAGED,
}
_SQLITE_WRITES = {
    *(sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC),
    *(sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_CLOSE),
}
"""Where SQLite does not tell a disk that fails from a quota, or from one that is full when it has to keep."""
_SQLITE_OF_THE_DISK = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
_SQLITE_TEXTS = {
    "database or disk is full": sqlite3.SQLITE_FULL,
    "disk I/O error": sqlite3.SQLITE_IOERR,
    "attempt to write a readonly database": sqlite3.SQLITE_READONLY,
    "unable to open database file": sqlite3.SQLITE_CANTOPEN,
    "database is locked": sqlite3.SQLITE_BUSY,
    "file is not a database": sqlite3.SQLITE_NOTADB,
    "database disk image is malformed": sqlite3.SQLITE_CORRUPT,
}
_REMEDIES = {
    errno.ENOSPC: "make room on that disk and try again; nothing is lost",
    errno.EDQUOT: "remove files of that user, or have the quota raised, and try again; nothing is lost",
    errno.EROFS: "see why that disk is read-only (`dmesg` tells of a card that fails), then mount it "
    "writable or replace it; nothing is lost",
    errno.EIO: "see `dmesg`; replace a card or disk that fails, and restore a backup",
    errno.ESTALE: "mount that folder again and try again; nothing is lost",
}
_NOT_TRUSTED = {
    9: "it begins later than this machine's clock says",
    10: "it has run out, or this machine's clock is wrong",
    18: "it signed itself",
    19: "it is of an authority that is not known here",
    20: "it is of an authority that is not known here",
    21: "it is of an authority that is not known here",
    23: "it was revoked",
    62: "it is of another name",
    64: "it is of another address",
}
"""By X509_V_ERR, openssl/x509_vfy.h."""
_TLS = {
    "WRONG_VERSION_NUMBER": "the other side speaks no TLS at that port",
    "HTTP_REQUEST": "the other side speaks no TLS at that port",
    "UNSUPPORTED_PROTOCOL": "the other side speaks no version of TLS that is allowed here",
    "PROTOCOL_VERSION": "the other side speaks no version of TLS that is allowed here",
    "UNKNOWN_CA": "the other side does not know the authority of our certificate",
    "CERTIFICATE_REQUIRED": "the other side asks for a certificate of ours",
    "CERTIFICATE_EXPIRED": "our certificate has run out, says the other side",
    "CERTIFICATE_REVOKED": "our certificate was revoked, says the other side",
    "BAD_CERTIFICATE": "the other side does not take our certificate",
    "ACCESS_DENIED": "the other side lets this certificate do nothing",
    "HANDSHAKE_FAILURE": "the two sides have no way of TLS in common",
    "NO_SHARED_CIPHER": "the two sides have no way of TLS in common",
    "UNRECOGNIZED_NAME": "the other side does not know the name that it was called by",
    "UNEXPECTED_EOF": _WORDS[errno.ECONNRESET],
    "KEY_VALUES_MISMATCH": "the key and the certificate do not belong together",
    "NO_START_LINE": "it holds no certificate or key in PEM",
    "PEM_LIB": "it holds no certificate or key in PEM",
    "BAD_DECRYPT": "it has a pass phrase, or another one",
}
"""By a part of OpenSSL's reason."""
_OURS = ("device", "sync", "quantize")


def one_line(text: str, most: int = 300) -> str:
    """`text` for a message: what does not print is written as its escape, so that it neither moves the rest
    nor commands a terminal; what is long is cut."""
    seen = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[: most + 1])
    return seen if len(text) <= most else f"{seen[:most]}…"


def why(err: BaseException) -> str:
    """What is wrong, without the name of the file. Errors of our own keep their text."""
    if isinstance(err, sqlite3.Error):
        return _of_sqlite(err)
    if isinstance(err, socket.gaierror):
        return "no such host is known"
    if isinstance(err, ssl.SSLError):
        return _of_tls(err)
    if isinstance(err, TimeoutError) and err.errno is None and not str(err):
        return _WORDS[errno.ETIMEDOUT]
    if not isinstance(err, OSError) or err.errno is None:
        return str(err)
    if err.strerror and err.strerror != os.strerror(err.errno):  # of our own, or of a library
        return err.strerror
    return _WORDS.get(err.errno) or os.strerror(err.errno).lower()


def what_and_why(err: BaseException) -> str:
    """As `why`, with the file before it where the error names one."""
    name = getattr(err, "filename", None)
    named = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
    return f"{named}{why(err)}"


def remedy(err: BaseException) -> str:
    """What somebody can do about it; empty where that is not known."""
    if isinstance(err, sqlite3.Error):
        return _REMEDIES.get(_SQLITE_OF_THE_DISK.get(getattr(err, "sqlite_errorcode", 0) & 0xFF, 0), "")
    return _REMEDIES.get(err.errno or 0, "") if isinstance(err, OSError) else ""


def told(err: BaseException, otherwise: str = "") -> str:
    """As `why`, and `otherwise` for what a library says in words of its own, or what nobody foresaw."""
    otherwise = otherwise or f"a fault of the program ({type(err).__name__})"
    if isinstance(err, MemoryError):
        return _WORDS[errno.ENOMEM]
    own = type(err).__module__.partition(".")[0] in _OURS
    if own or isinstance(err, OSError | sqlite3.Error):
        return why(err)
    _LOG.debug("%s: %s says: %s", otherwise, type(err).__name__, err)
    return otherwise


def malformed(err: BaseException) -> str:
    """What is wrong with a document that could not be taken apart: one of `sync.errors.MALFORMED`, or of
    its decoder. What Python says of it, which is for programmers, is in the log at debug level."""
    if type(err).__module__.partition(".")[0] in _OURS:
        return str(err)
    _LOG.debug("malformed: %s says: %s", type(err).__name__, err)
    if isinstance(err, json.JSONDecodeError):
        return f"it is no JSON from line {err.lineno}, column {err.colno}, on"
    if isinstance(err, UnicodeError):
        return "it holds bytes that are no text"
    if isinstance(err, KeyError):
        return f"{one_line(str(err.args[0]), 60)!r} is missing" if err.args else "a part is missing"
    if isinstance(err, RecursionError):
        return "it is nested too deep"
    if isinstance(err, OverflowError):
        return "a number is too large"
    return "a part of it is not what belongs there"


def package(err: ImportError) -> str:
    """The package that cannot be loaded, by its name where Python tells it."""
    return f"the Python package {err.name}" if err.name else "a Python package"


def _of_tls(err: ssl.SSLError) -> str:
    _LOG.debug("OpenSSL says: %s", err)
    if isinstance(err, ssl.SSLCertVerificationError):
        reason = _NOT_TRUSTED.get(err.verify_code, "it does not hold what a certificate must")
        return f"its certificate is not trusted: {reason}"
    if isinstance(err, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _WORDS[errno.ECONNRESET]
    said = f"{getattr(err, 'reason', None) or ''} {err}".upper().replace(" ", "_")
    return next((words for name, words in _TLS.items() if name in said), "TLS failed, for a rare reason")


def _of_sqlite(err: sqlite3.Error) -> str:
    _LOG.debug("SQLite says: %s (%s)", err, getattr(err, "sqlite_errorname", "no code"))
    code = getattr(err, "sqlite_errorcode", _SQLITE_TEXTS.get(str(err)))
    if code is None:  # Python's own word: SQLite was not asked
        return f"a fault of the program ({type(err).__name__})"
    if code in _SQLITE_WRITES:
        return "the disk fails, or has no room left for this user"
    return _SQLITE.get(code & 0xFF, "the database does not take that now")
