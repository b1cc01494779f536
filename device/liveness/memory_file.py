"""The memory on disk: one SQLite file of sealed rows. The only module here that opens a file.

Every row is AES-256-GCM under a key that the vault derives; a row is bound to its number, and one keyed hash
over every number and tag vouches for all of them, at a version that rises with every commit. The attempt
history keeps the latest version (`device/access/memory/history.py`), and the history itself is guarded by the
monotonic counter: a memory that is older than the history says, or gone, is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device.liveness.errors import LivenessError, MemoryRollbackError
from device.secure_store.signing import Mac
from device.secure_store.voiceprints.vault_file import speaks_of_damage
from sync.plain_file import check_plain_or_new
from sync.plain_words import why

MAX_ROW_BYTES = 4_096
MAX_ROWS = 65_536
_NONCE_BYTES = 12
_TAG_BYTES = 16
_LOOK_INTO_IT = "find out why, then `ostiary policy start-over`"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS head (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER, mac BLOB);
CREATE TABLE IF NOT EXISTS utterances (number INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
DROP TABLE IF EXISTS habits; -- of version 0.1.0: how people pause and how fast they speak
"""
BUSY_S = 10.0
"""For so long a door waits for another program that holds the file."""


class MemoryFile:
    """Rows by number. `close` it; one process writes utterances."""

    def __init__(self, path: Path, mac: Mac, busy_s: float = BUSY_S) -> None:
        """Open or make the file; one that another program holds is waited for, `busy_s` each time. Raises
        LivenessError when it cannot be opened."""
        self._path = path
        self._mac = mac
        self._cipher = AESGCM(mac("utterance memory key", b""))
        self._tags: dict[int, bytes] = {}
        self._version = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(
                check_plain_or_new(path), timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.execute("PRAGMA trusted_schema = OFF")
            self._db.execute("PRAGMA cache_size = -256")  # KiB; SQLite's own 2 MB fill up in days
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as err:
            raise _unread(err) from err
        except OSError as err:
            raise LivenessError(f"cannot open {path.name}: {why(err)}") from err

    @property
    def version(self) -> int:
        return self._version

    def load(self, at_least: int) -> dict[int, bytes]:
        """Every row, opened, by number. Raises MemoryRollbackError unless it is this unit's latest memory."""
        try:
            head = self._db.execute("SELECT version, mac FROM head").fetchone()
            sealed = self._db.execute(
                "SELECT number, sealed FROM utterances ORDER BY number LIMIT ?", (MAX_ROWS + 1,)
            ).fetchall()
        except (sqlite3.Error, OverflowError) as err:
            raise _unread(err) from err
        # 1. Not gone, and not older than the history knows.
        version = 0 if head is None else head[0]
        if type(version) is not int or version < at_least:
            raise MemoryRollbackError(
                f"the memory of utterances is of version {version}, the history knows {at_least}; "
                f"{_LOOK_INTO_IT}"
            )
        # 2. Whole: these rows and no others, vouched for at this version.
        if len(sealed) > MAX_ROWS or not all(
            type(n) is int and isinstance(s, bytes) and _TAG_BYTES + _NONCE_BYTES < len(s) <= MAX_ROW_BYTES
            for n, s in sealed
        ):
            raise _damaged("its rows do not have the form that this version writes")
        tags = {number: row[-_TAG_BYTES:] for number, row in sealed}
        if (tags or version) and not (
            isinstance(head[1] if head else None, bytes)
            and hmac.compare_digest(head[1], self._vouch(version, tags))
        ):
            raise _damaged("it is not what this unit has signed")
        # 3. Each row genuine.
        try:
            rows = {number: self._open(row, _row_label(number)) for number, row in sealed}
        except InvalidTag as err:
            raise _damaged("a row does not verify") from err
        self._tags, self._version = tags, version
        return rows

    def commit(self, put: Mapping[int, bytes], drop: Iterable[int] = ()) -> int:
        """Durable when it returns, all of it or none. Returns the new version."""
        sealed = {number: self._seal(row, _row_label(number)) for number, row in put.items()}
        gone = set(drop)
        tags = {n: t for n, t in self._tags.items() if n not in gone}
        tags.update({number: row[-_TAG_BYTES:] for number, row in sealed.items()})
        version = self._version + 1
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("DELETE FROM utterances WHERE number = ?", [(n,) for n in gone])
                self._db.executemany("INSERT OR REPLACE INTO utterances VALUES (?, ?)", sealed.items())
                self._db.execute(
                    "INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (version, self._vouch(version, tags))
                )
        except sqlite3.Error as err:
            raise LivenessError(
                f"the memory of utterances cannot be written ({why(err)}); free some space and try again"
            ) from err
        self._tags, self._version = tags, version
        return version

    def close(self) -> None:
        self._db.close()

    def _vouch(self, version: int, tags: Mapping[int, bytes]) -> bytes:
        whole = hashlib.sha256()
        for number in sorted(tags):
            whole.update(number.to_bytes(8) + tags[number])
        return self._mac("utterance memory head", version.to_bytes(8) + whole.digest())

    def _seal(self, body: bytes, label: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, body, label)

    def _open(self, sealed: bytes, label: bytes) -> bytes:
        return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label)


def _unread(err: Exception) -> LivenessError:
    """Damage only where SQLite speaks of the content; a full disk or another process has changed nothing."""
    if speaks_of_damage(err):
        return MemoryRollbackError(f"the memory of utterances is damaged ({why(err)}); {_LOOK_INTO_IT}")
    return LivenessError(
        f"the memory of utterances cannot be used now ({why(err)}): see that its disk works and has room, "
        "and that no other program holds it; nothing is lost"
    )


def _damaged(how: str) -> MemoryRollbackError:
    return MemoryRollbackError(f"the memory of utterances is damaged or foreign ({how}); {_LOOK_INTO_IT}")


def _row_label(number: int) -> bytes:
    return b"utterance" + number.to_bytes(8, signed=True)


def remove(path: Path) -> None:
    """Delete a memory file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
