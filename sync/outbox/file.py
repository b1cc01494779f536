"""The SQLite file of one unit's audit log, in WAL mode with `synchronous=FULL`, and the ballast beside it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from sync.events import UnitId
from sync.outbox.parts import SCHEMA, OutboxError
from sync.plain_file import check_plain_or_new
from sync.plain_words import why
from sync.proofs import chain
from sync.proofs.heads import NO_HEAD
from sync.proofs.merkle import Frontier

BUSY_TIMEOUT_S = 5.0


class LogFile:
    """The open file. Threads share `db` and hold `lock` while they use it; other processes have their own."""

    def __init__(self, path: Path, unit: UnitId, ballast_bytes: int, busy_s: float = BUSY_TIMEOUT_S) -> None:
        """Raises OutboxError for a file that cannot be opened or is another unit's."""
        self._path, self._ballast = path, path.with_name(path.name + ".ballast")
        self.lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Nobody else reads a log that is made here; one that was made for a group of users stays theirs.
            # The log that SQLite writes ahead, and its index, take the rights of the file.
            os.close(os.open(check_plain_or_new(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_s)
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.execute("PRAGMA cache_size=-256")  # KiB; SQLite's own 2 MB fill up in days
            # The log file that SQLite writes ahead must itself fit into the ballast.
            pages = min(500, max(32, ballast_bytes // 4096 // 4))
            self.db.execute(f"PRAGMA wal_autocheckpoint={pages}")
            self._prepare(unit, ballast_bytes)
        except (sqlite3.Error, OSError) as err:
            raise cannot_open(path, err) from err

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """A change that is on the disk when it ends, or has not happened. Takes the lock."""
        with self.lock:
            try:
                self.db.execute("BEGIN IMMEDIATE")
                yield
                self.db.execute("COMMIT")
            except sqlite3.Error as err:
                self.rollback()
                raise OutboxError(f"the audit log cannot be written ({why(err)})") from err
            except BaseException:
                self.rollback()
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the log for several questions. Call it under the lock."""
        try:
            self.db.execute("BEGIN")
            yield
        except sqlite3.Error as err:
            raise OutboxError(f"the audit log cannot be read ({why(err)})") from err
        finally:
            self.rollback()

    def rollback(self) -> None:
        """Undo the transaction that was begun and not ended, if there is one."""
        if self.db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")

    def used_bytes(self) -> int:
        pages, free, page_bytes = (
            self.db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page_bytes)

    def free_bytes(self) -> int:
        """On the disk, for this process."""
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize

    def give_up_ballast(self) -> None:
        """Free the space that was kept for the record of an overflow."""
        self._ballast.unlink(missing_ok=True)

    def _prepare(self, unit: UnitId, ballast_bytes: int) -> None:
        self.db.executescript(SCHEMA)
        self.db.execute(
            "INSERT OR IGNORE INTO state VALUES (1, ?, 0, ?, 0, ?, ?, 0, 0, 0, 0, '', 0)",
            (unit, chain.genesis(unit), Frontier().to_bytes(), NO_HEAD),
        )
        self.db.execute("INSERT OR IGNORE INTO base VALUES (1, ?, x'')", (Frontier().to_bytes(),))
        self.db.execute("INSERT OR IGNORE INTO reports VALUES (1, 0)")
        (known,) = self.db.execute("SELECT unit FROM state").fetchone()
        if known != unit:
            raise OutboxError(f"this audit log belongs to {known}; give {unit} its own state directory")
        if not self._ballast.exists() and ballast_bytes:
            # A disk too full for its ballast is a full disk: `append` will find out and say so.
            with contextlib.suppress(OSError):
                self._ballast.write_bytes(b"\x00" * ballast_bytes)


def cannot_open(path: Path, err: Exception) -> OutboxError:
    return OutboxError(f"the audit log {path.name} cannot be opened ({why(err)}); run `ostiary doctor`")
