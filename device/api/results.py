"""Results on disk until they expire: enciphered, found by keyed hash, durable before the caller gets them.

Requests that wait are not on disk: after a power cut a transaction is here, or was never answered. An expired
result is overwritten; its transaction id stays taken for as long again.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device.api.errors import GONE, OTHER_BODY, ApiError, ProblemError
from device.secure_store.signing import Mac
from sync.plain_file import check_plain_or_new
from sync.plain_words import why

PHRASE_HORIZON = 512
_NONCE_BYTES = 12
_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, sealed BLOB,
    expires_s REAL NOT NULL, forget_s REAL NOT NULL);
CREATE INDEX IF NOT EXISTS results_by_age ON results (forget_s);
CREATE TABLE IF NOT EXISTS enrolling (key BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, forget_s REAL);
CREATE TABLE IF NOT EXISTS phrases (at INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB UNIQUE);
"""


@dataclass(frozen=True, slots=True)
class Transaction:
    """Keyed hashes of one caller's transaction id, and of what it asked."""

    key: bytes
    fingerprint: bytes


def transaction(mac: Mac, client: str, tid: str, *asked: str | bytes) -> Transaction:
    """The transaction `tid` of `client`: two callers may use one id and never see each other's results."""
    parts = [part.encode() if isinstance(part, str) else part for part in asked]
    told = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return Transaction(mac("api transaction", f"{client}\0{tid}".encode()), mac("api request", told))


class Results:
    """Safe for threads. One process at a time serves it."""

    def __init__(
        self, path: Path, mac: Mac, *, now_s: Callable[[], float], lifetime_s: float, most: int
    ) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._alone = _locked(path.with_suffix(".lock"))
        self._cipher = AESGCM(mac("api results", b"key"))
        self._now_s = now_s
        self._lifetime_s = lifetime_s
        self._most = most
        self._lock = threading.Lock()
        try:
            self._db = opened_database(path, _SCHEMA)
        except (sqlite3.Error, OSError) as err:
            os.close(self._alone)
            raise ApiError(f"cannot open {path.name}: {why(err)}; move it away to start afresh") from err
        self.purge()

    def find(self, wanted: Transaction) -> dict[str, Any] | None:
        """The result of this very request; None without one.

        Raises ProblemError: 409 for an id used with another request, 410 for an expired result.
        """
        row = self._row(wanted.key)
        if row is None:
            return None
        fingerprint, sealed, expires_s = row
        if not hmac.compare_digest(fingerprint, wanted.fingerprint):
            raise ProblemError(OTHER_BODY, "this transaction id was used with another request")
        return self._opened(wanted.key, sealed, expires_s)

    def fetch(self, key: bytes) -> dict[str, Any] | None:
        """The result under `key`; None without one. Raises ProblemError (410) when it has expired."""
        row = self._row(key)
        return None if row is None else self._opened(key, row[1], row[2])

    def put(self, done: Transaction, body: dict[str, Any]) -> dict[str, Any]:
        """Keep `body` until it expires; durable when this returns."""
        now_s = self._now_s()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, json.dumps(body, allow_nan=False).encode(), done.key)
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute(
                    "INSERT INTO results VALUES (?, ?, ?, ?, ?)",
                    (
                        *(done.key, done.fingerprint, sealed),
                        *(now_s + self._lifetime_s, now_s + 2 * self._lifetime_s),
                    ),
                )
                self._db.execute("DELETE FROM enrolling WHERE key = ?", (done.key,))
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk ends one by itself, and no second error hides it
                    self._db.execute("ROLLBACK")
                raise
        return body

    def purge(self) -> None:
        """Overwrite expired results; drop those whose id is free again, or beyond the limit."""
        now_s = self._now_s()
        with self._lock:
            self._db.execute("UPDATE results SET sealed = NULL WHERE expires_s <= ?", (now_s,))
            self._db.execute("DELETE FROM results WHERE forget_s <= ?", (now_s,))
            self._db.execute("DELETE FROM enrolling WHERE forget_s <= ?", (now_s,))
            self._db.execute(
                "DELETE FROM results WHERE key IN"
                " (SELECT key FROM results ORDER BY forget_s DESC LIMIT -1 OFFSET ?)",
                (self._most,),
            )

    def count(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM results").fetchone()[0])

    # An enrolment and its result are two writes to two stores. This note, made before the first of them, lets
    # the same request replace what a power cut between them left behind, and no other request.

    def begin_enrolment(self, asked: Transaction) -> None:
        with self._lock:
            self._db.execute(
                "INSERT OR REPLACE INTO enrolling VALUES (?, ?, ?)",
                (asked.key, asked.fingerprint, self._now_s() + self._lifetime_s),
            )

    def began_enrolment(self, asked: Transaction) -> bool:
        with self._lock:
            row = self._db.execute("SELECT fingerprint FROM enrolling WHERE key = ?", (asked.key,)).fetchone()
        return row is not None and hmac.compare_digest(row[0], asked.fingerprint)

    # The phrases shown lately, for the challenge book.

    def shown_before(self, digest: bytes) -> bool:
        with self._lock:
            found = self._db.execute("SELECT 1 FROM phrases WHERE digest = ?", (digest,)).fetchone()
        return found is not None

    def remember(self, digest: bytes) -> None:
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO phrases (digest) VALUES (?)", (digest,))
            self._db.execute(
                "DELETE FROM phrases WHERE at <= (SELECT max(at) FROM phrases) - ?", (PHRASE_HORIZON,)
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()
        os.close(self._alone)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _row(self, key: bytes) -> tuple[bytes, bytes | None, float] | None:
        with self._lock:
            row = self._db.execute(
                "SELECT fingerprint, sealed, expires_s FROM results WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def _opened(self, key: bytes, sealed: bytes | None, expires_s: float) -> dict[str, Any]:
        if sealed is None or self._now_s() >= expires_s:
            raise ProblemError(GONE, "the result of this transaction has expired")
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key)
        except InvalidTag as err:
            raise ApiError("a stored result was changed or belongs to another unit") from err
        body: dict[str, Any] = json.loads(plain)
        return body


def opened_database(path: Path, schema: str) -> sqlite3.Connection:
    """A SQLite file of this unit's user alone, shared by threads; what is deleted in it is overwritten.

    Raises OSError or sqlite3.Error.
    """
    os.close(os.open(check_plain_or_new(path), os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 0o600))
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
        database.execute(f"PRAGMA {pragma}")
    database.executescript(schema)
    return database


def _locked(path: Path) -> int:
    """A lock for the life of this process: two facades on one file would judge one transaction twice."""
    descriptor = os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        os.close(descriptor)
        raise ApiError("another facade already serves from this state folder") from err
    return descriptor
