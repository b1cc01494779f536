"""Short-lived scoped bearer tokens, signed with a key that only this unit's store can derive.

A token is `ost1.PAYLOAD.MAC`, both parts base64url without padding. There is no algorithm to choose and no
key id to follow. A token can be tied to a client certificate (RFC 8705), and then works with that one alone.

The book, a SQLite file, lists the numbers of tokens that were issued and recalled: a token that is not in it
opens nothing. `ostiary api token` writes it and the facade reads it at every request, so a recall counts at
once.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from device.api.errors import (
    BAD_TOKEN,
    EXPIRED_TOKEN,
    NO_TOKEN,
    WRONG_CERTIFICATE,
    WRONG_SCOPE,
    ApiError,
    ProblemError,
)
from device.api.results import opened_database
from device.secure_store.signing import Mac
from sync.plain_words import what_and_why

SCOPES = ("otp", "register", "verify", "results", "people", "forget", "stream")
MAX_TOKEN_CHARS = 2048
_PREFIX = "ost1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    token_id TEXT PRIMARY KEY, client TEXT NOT NULL, scopes TEXT NOT NULL, certificate TEXT NOT NULL,
    issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL, recalled INTEGER NOT NULL DEFAULT 0);
"""
_PURPOSE = "api token"
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Token:
    """Who may do what until when. `certificate` is the SHA-256 of a client certificate, or empty."""

    client: str
    scopes: frozenset[str]
    issued_s: int
    expires_s: int
    certificate: str = ""
    token_id: str = field(default_factory=lambda: secrets.token_hex(8))
    first_s: int = 0
    """When the first token of its renewals was issued."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "first_s", self.first_s or self.issued_s)
        if not _CLIENT.fullmatch(self.client):
            raise ApiError("a client's name is 1 to 64 letters, digits, dots, dashes and underscores")
        if not self.scopes or not self.scopes <= set(SCOPES):
            raise ApiError(f"scopes are some of {', '.join(SCOPES)}, at least one")
        if self.expires_s <= self.issued_s:
            raise ApiError("a token must be valid for some time")


def issue(token: Token, mac: Mac) -> str:
    """`token` as the string a caller sends."""
    table = {
        "sub": token.client,
        "scope": sorted(token.scopes),
        "iat": token.issued_s,
        "exp": token.expires_s,
        "jti": token.token_id,
        "x5t": token.certificate,
        "nbf": token.first_s,
    }
    payload = _encode(json.dumps(table, separators=(",", ":")).encode())
    return f"{_PREFIX}.{payload}.{_encode(mac(_PURPOSE, payload.encode()))}"


def authenticate(
    header: str | None,
    scope: str | None,
    mac: Mac,
    *,
    now_s: float,
    certificate: str = "",
    max_life_s: float,
) -> Token:
    """The token in an Authorization header, if it covers `scope` (None: any). Raises ProblemError."""
    # 1. One bearer token of a sane size.
    if header is None:
        raise ProblemError(NO_TOKEN, "send `Authorization: Bearer TOKEN`; `ostiary api token` issues one")
    kind, _, text = header.partition(" ")
    if kind.lower() != "bearer" or not text.isascii() or len(text) > MAX_TOKEN_CHARS:
        raise ProblemError(BAD_TOKEN, "this is no bearer token of this unit")
    # 2. Signed by this unit; nothing in it is looked at before.
    prefix, _, rest = text.strip().partition(".")
    payload, _, signature = rest.partition(".")
    if prefix != _PREFIX or not hmac.compare_digest(_encode(mac(_PURPOSE, payload.encode())), signature):
        raise ProblemError(BAD_TOKEN, "this unit did not issue this token")
    try:
        table = json.loads(_decode(payload))
        token = Token(
            table["sub"],
            frozenset(table["scope"]),
            table["iat"],
            table["exp"],
            table["x5t"],
            table["jti"],
            table.get("nbf", 0),
        )
    except (ValueError, KeyError, TypeError, binascii.Error, ApiError) as err:
        raise ProblemError(BAD_TOKEN, "this token holds what this unit does not understand") from err
    # 3. In its time. A clock set back does not stretch a life beyond the longest one allowed.
    if now_s >= token.expires_s or now_s < token.issued_s - 60:
        raise ProblemError(EXPIRED_TOKEN, "ask for a new token")
    if token.expires_s - token.issued_s > max_life_s:
        raise ProblemError(BAD_TOKEN, "this token lives longer than this unit now allows")
    # 4. Over the connection it was made for.
    if token.certificate and not hmac.compare_digest(token.certificate, certificate):
        raise ProblemError(WRONG_CERTIFICATE, "use the client certificate the token was issued for")
    # 5. For this.
    if scope is not None and scope not in token.scopes:
        raise ProblemError(WRONG_SCOPE, f"this needs the scope `{scope}`")
    return token


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


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
            self._db = opened_database(path, _SCHEMA)
        except (OSError, sqlite3.Error) as err:
            raise ApiError(
                f"cannot open {path.name}: {what_and_why(err)}; move it away, which recalls every token"
            ) from err

    def add(self, token: Token) -> None:
        """Note a token before it is given out; drops expired ones."""
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
        """Whether the token was issued here and not recalled. Raises ApiError when the book is unreadable."""
        try:
            with self._lock:
                row = self._db.execute(
                    "SELECT recalled FROM tokens WHERE token_id = ?", (token.token_id,)
                ).fetchone()
        except sqlite3.Error as err:
            raise ApiError(f"the book of tokens cannot be read: {what_and_why(err)}") from err
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
        """Recall tokens by number, by client, or all; returns how many."""
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

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction. Raises ApiError when it cannot be written."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as err:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise ApiError(f"the book of tokens cannot be written: {what_and_why(err)}") from err
