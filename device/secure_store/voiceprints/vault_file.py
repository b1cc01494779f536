"""The vault on disk: one SQLite file in WAL mode, which only this module opens.

It knows no keys: it gives what it could read, and the vault tells whether that is genuine.
"""

from __future__ import annotations

import hmac
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from device.secure_store.errors import StoreError, StoreUnavailableError
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.records import Row
from sync.durable import replace_file, sync_folder
from sync.plain_file import LARGE_BYTES, check_plain_or_new, plain_bytes
from sync.plain_words import what_and_why, why

_SCHEMA = """
CREATE TABLE IF NOT EXISTS head (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS people (
    id BLOB PRIMARY KEY, tag BLOB NOT NULL UNIQUE, wrapped BLOB NOT NULL, record BLOB NOT NULL
);
"""
VAULT, COPY = "vault.db", "vault-copy.db"
_BUSY_S = 10.0
_DAMAGE = {
    *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT),
    *(sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG),
    *(sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_INTERNAL),
}
"""Primary codes that speak of what is in the file. All others speak of the machine: space, rights, locks."""
_UNREAD = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
"""What the disk, or its server, does not give now. It may give it again: that proves no damage."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What one file held. `complaint` says why it was not read to the end, `unread` that the disk did it."""

    head: bytes | None = None
    rows: dict[uuid.UUID, Row] = field(default_factory=dict)
    complaint: str | None = None
    unread: bool = False


class VaultFile:
    """One file, one connection, used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._sum_path = path.with_name(path.name + ".sum")

    def exists(self) -> bool:
        return self.path.exists()

    def read(self) -> Contents:
        """Everything readable; damage costs only the rows on a damaged page.

        Raises StoreUnavailableError when the machine, not the file, is at fault. What a disk does not give is
        a complaint, as the other file may have it.
        """
        if not self.exists():
            return Contents(complaint="the file is missing")
        rows: dict[uuid.UUID, Row] = {}
        head = None
        try:
            found = self._open().execute("SELECT body FROM head").fetchone()
            head = found[0] if found and isinstance(found[0], bytes) else None
            for columns in self._open().execute("SELECT id, tag, wrapped, record FROM people"):
                if all(isinstance(c, bytes) for c in columns) and len(columns[0]) == 16:
                    row = Row(uuid.UUID(bytes=columns[0]), *columns[1:])
                    rows[row.record_id] = row
        except OSError as err:
            self.close()
            raise StoreUnavailableError(unavailable(self.path.name, err)) from err
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as err:
            self.close()
            if getattr(err, "sqlite_errorcode", None) in _UNREAD:
                return Contents(head, rows, f"it cannot be read: {why(err)}", unread=True)
            if not speaks_of_damage(err):
                raise StoreUnavailableError(unavailable(self.path.name, err)) from err
            return Contents(head, rows, why(err))
        return Contents(head, rows)

    def find(self, record_id: uuid.UUID) -> Row | None:
        """One row, or None when it is absent or lies on a page that cannot be read."""
        try:
            with self._within_reach():
                columns = (
                    self._open()
                    .execute("SELECT tag, wrapped, record FROM people WHERE id = ?", (record_id.bytes,))
                    .fetchone()
                )
        except sqlite3.Error:
            self.close()
            return None
        if columns is None or not all(isinstance(c, bytes) for c in columns):
            return None
        return Row(record_id, *columns)

    def edition(self) -> tuple[int, int]:
        """Changes when another process has committed, or has replaced the file."""
        with self._within_reach():
            if self._db is not None and (not self.exists() or self.path.stat().st_ino != self._inode):
                self.close()
            version: int = self._open().execute("PRAGMA data_version").fetchone()[0]
            return self._inode, version

    def commit(self, head: bytes, put: Iterable[Row] = (), drop: Iterable[uuid.UUID] = ()) -> None:
        """One durable transaction: all of it is on the disk when this returns, or none of it ever is."""
        try:
            db = self._open()
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.executemany("DELETE FROM people WHERE id = ?", [(i.bytes,) for i in drop])
                db.executemany(
                    "INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?)",
                    [(r.record_id.bytes, r.tag, r.wrapped, r.record) for r in put],
                )
                db.execute("INSERT OR REPLACE INTO head VALUES (1, ?)", (head,))
        except (sqlite3.Error, OSError) as err:
            self.close()
            raise StoreUnavailableError(
                f"the vault cannot be written ({what_and_why(err)}); free some space and try again, "
                "nothing is lost"
            ) from err

    def scrub(self) -> bool:
        """Empty the write-ahead log, so that what was deleted is not left behind in it.

        False while another process is in the middle of reading; the log is then emptied by a later change.
        """
        with self._within_reach():
            ((busy, _, _),) = self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return not busy

    def vouch(self, mac_key: SecretBytes, counter: int) -> None:
        """Note a MAC over every byte of the file as it is at `counter`, unused space included."""
        if self.scrub():
            write_durably(self._sum_path, self._sum(mac_key, counter))

    def tampered(self, mac_key: SecretBytes, counter: int) -> bool:
        """Whether any byte differs from what was vouched for at this very counter."""
        if not self.exists() or not self._sum_path.exists():
            return False
        noted = plain_bytes(self._sum_path)
        return noted[:8] == counter.to_bytes(8) and noted != self._sum(mac_key, counter)

    def _sum(self, mac_key: SecretBytes, counter: int) -> bytes:
        # Closing any descriptor of a file drops every POSIX lock this process holds on it, SQLite's too.
        # Another process would then take itself for the last one and delete the log that this one writes to.
        self.close()
        stamp = counter.to_bytes(8)
        with mac_key.view() as key:
            return stamp + hmac.digest(key, b"file" + stamp + plain_bytes(self.path, LARGE_BYTES), "sha256")

    def rebuild(self, head: bytes, rows: Iterable[Row]) -> None:
        """Replace the file by a fresh one with exactly this content, atomically."""
        self.close()
        fresh = self._draft()
        fresh.remove()
        fresh.commit(head, rows)
        fresh.scrub()
        fresh.close()
        # First the file, then the old log: a cut in between replays the old log, whose head is current or
        # unreadable. The other order could leave the old file without its last commits: a rollback.
        fresh.path.replace(self.path)
        sync_folder(self.path.parent)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            fresh.path.with_name(fresh.path.name + suffix).unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def remove_draft(self) -> None:
        """What a `rebuild` left that was cut off. Only under the vault's lock: nobody may be writing it."""
        with suppress(OSError):  # a disk that takes no change keeps it until it does
            self._draft().remove()

    def _draft(self) -> VaultFile:
        return VaultFile(self.path.with_name(self.path.name + ".new"))

    def remove(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm", ".sum"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextmanager
    def _within_reach(self) -> Iterator[None]:
        """Raises StoreUnavailableError where the machine, not the file, is at fault."""
        try:
            yield
        except (sqlite3.Error, OSError) as err:
            if isinstance(err, sqlite3.Error) and speaks_of_damage(err):
                raise
            self.close()
            raise StoreUnavailableError(unavailable(self.path.name, err)) from err

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            db = sqlite3.connect(
                check_plain_or_new(self.path), timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db = db
            db.execute("PRAGMA schema_version")  # creates the file
            self.path.chmod(0o600)
            self._inode = self.path.stat().st_ino
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL may lose the last commits
            db.execute("PRAGMA secure_delete = ON")
            db.execute("PRAGMA cell_size_check = ON")
            db.execute("PRAGMA cache_size = -256")  # KiB; SQLite's own 2 MB fill up in weeks
            db.execute("PRAGMA trusted_schema = OFF")
            db.executescript(_SCHEMA)
        return self._db


def unavailable(name: str, err: Exception) -> str:
    """What to do where the machine keeps the store from its files."""
    return (
        f"{name} of the store cannot be used now ({why(err)}): see that its disk has room and that it "
        "belongs to the unit's user; nothing is lost"
    )


def speaks_of_damage(err: Exception) -> bool:
    """Whether an error is about the content of the file, and not about the machine that reads it."""
    code = getattr(err, "sqlite_errorcode", None)
    return code is None or code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in _DAMAGE


def refuse_a_link_to_nowhere(path: Path) -> None:
    """Raises StoreUnavailableError where `path` links to what is not there, as before a disk is mounted."""
    if path.is_symlink() and not path.exists():
        raise StoreUnavailableError(
            f"{path} is a link to {path.readlink()}, which is not there: mount its disk; nothing is lost"
        )


def refuse_over_a_vault(folder: Path) -> None:
    """Raises StoreError where a vault lies in `folder`: new keys would make it unreadable for ever."""
    if any((folder / name).exists() for name in (VAULT, COPY)):
        raise StoreError(
            "there is a vault here, but the files of its keys are missing: put them back from a backup; once "
            "they are lost for good, `ostiary store init --replace` destroys the vault, and everybody has to "
            "enrol again"
        )


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data` (mode 0600): after a power cut it is the old content or the new, whole.

    Raises StoreUnavailableError when it cannot be written; the old content stays.
    """
    try:
        replace_file(path, data)
    except OSError as err:
        raise StoreUnavailableError(unavailable(path.name, err)) from err
