"""Which tokens were issued, and which of them were taken back: a token that is not in here opens nothing.

One SQLite file beside the results. `ostiary api token` writes it and the facade reads it at every request, so
a recall counts at once. It holds no token, only their numbers.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from device.api.errors import ApiError
from device.api.tokens import Token

TOKENS_FILE = Path("api") / "tokens.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    token_id TEXT PRIMARY KEY, client TEXT NOT NULL, scopes TEXT NOT NULL, certificate TEXT NOT NULL,
    issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL, recalled INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """One token that was issued and has not expired."""

    token_id: str
    client: str
    scopes: tuple[str, ...]
    bound: bool
    """To one client certificate."""
    expires_s: int
    recalled: bool


class TokenBook:
    """Safe for threads and processes."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as err:
            raise ApiError(
                f"cannot open {path.name}: {err}; move it away, which recalls every token"
            ) from err

    def add(self, token: Token) -> None:
        """Note a token before it is given out, and forget those that have expired."""
        with self._changing():
            self._db.execute("DELETE FROM tokens WHERE expires_s <= ?", (token.issued_s,))
            self._db.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, 0)",
                (
                    *(token.token_id, token.client, " ".join(sorted(token.scopes)), token.certificate),
                    *(token.issued_s, token.expires_s),
                ),
            )

    def holds(self, token: Token) -> bool:
        """Whether the token was issued here and not taken back. Raises ApiError when that cannot be told."""
        try:
            with self._lock:
                row = self._db.execute(
                    "SELECT recalled FROM tokens WHERE token_id = ?", (token.token_id,)
                ).fetchone()
        except sqlite3.Error as err:
            raise ApiError(f"the book of tokens cannot be read: {err}") from err
        return row is not None and not row[0]

    def listed(self, now_s: float) -> tuple[Listed, ...]:
        """Tokens that have not expired, the newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT token_id, client, scopes, certificate, expires_s, recalled FROM tokens"
                " WHERE expires_s > ? ORDER BY issued_s DESC, token_id",
                (now_s,),
            ).fetchall()
        return tuple(
            Listed(token_id, client, tuple(scopes.split()), bool(certificate), expires_s, bool(recalled))
            for token_id, client, scopes, certificate, expires_s, recalled in rows
        )

    def recall(self, *, token_id: str = "", client: str = "", everything: bool = False) -> int:
        """Take tokens back by number, by client, or all of them; how many."""
        with self._changing():
            return self._db.execute(
                "UPDATE tokens SET recalled = 1 WHERE NOT recalled AND (token_id = ? OR client = ? OR ?)",
                (token_id, client, everything),
            ).rowcount

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction. Raises ApiError when it cannot be kept."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as err:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise ApiError(f"the book of tokens cannot be written: {err}") from err
