"""Sessions: random ids of which only a hash is stored; they end when idle, and after a shift."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import accounts, sessions
from sync.registry.database.store import Store

IDLE_MS = 15 * 60_000
LIFE_MS = 10 * 3600_000
WALL_LIFE_MS = 30 * 86_400_000
TOUCH_EVERY_MS = 30_000


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who showed that they are `account`: `still` must hold of its row when their session begins."""

    account: str
    still: tuple[sa.ColumnElement[bool], ...]

    def hold(self, db: Connection) -> None:
        """Keep the account as it is until the transaction ends. Raises RefusedError where it has changed."""
        # The lock first: what is asked after it sees what the one before left (PostgreSQL, READ COMMITTED).
        mine = accounts.c.name == self.account
        db.execute(sa.select(accounts.c.name).where(mine).with_for_update())
        good = sa.select(accounts.c.name).where(mine, accounts.c.disabled_ms.is_(None), *self.still)
        if db.execute(good).first() is None:
            raise RefusedError("This account was changed a moment ago. Log in again.", 401)


def hold_session(db: Connection, account: str, session: str) -> None:
    """Keep a session (its hash) until the transaction ends. Raises RefusedError where it has ended.

    For what outlives it, as a key or a link does: who ends the sessions of an account ends that, too.
    """
    db.execute(sa.select(accounts.c.name).where(accounts.c.name == account).with_for_update())
    mine = (sessions.c.id_hash == session, sessions.c.account == account)
    if db.execute(sa.select(sessions.c.id_hash).where(*mine)).first() is None:
        raise RefusedError("Your session has ended. Log in and do it again.", 403)


class Sessions:
    """Every login gets an id of its own, so nobody can prepare one for somebody else."""

    def __init__(self, store: Store, idle_ms: int = IDLE_MS) -> None:
        self._store = store
        self._idle_ms = idle_ms

    def begin(self, login: Login, now_ms: int, replaces: str | None = None) -> str:
        """A new session's secret, for the cookie; the one it replaces ends.

        Raises RefusedError where the account is not any more as it was when they showed who they are.
        """
        secret = secrets.token_urlsafe(32)
        with self._store.transaction() as db:
            login.hold(db)
            if replaces:
                db.execute(sa.delete(sessions).where(sessions.c.id_hash == hashed(replaces)))
            db.execute(sa.delete(sessions).where(sessions.c.created_ms < now_ms - WALL_LIFE_MS))
            db.execute(
                sa.insert(sessions).values(
                    id_hash=hashed(secret),
                    account=login.account,
                    csrf=secrets.token_urlsafe(24),
                    created_ms=now_ms,
                    seen_ms=now_ms,
                )
            )
            journal.append(db, login.account, "login", login.account, now_ms)
        return secret

    def viewer(self, secret: str | None, now_ms: int, *, touch: bool = True) -> Viewer | None:
        """Whose session this is, or None. `touch` counts as activity; a page that only listens is none."""
        if not secret or len(secret) > 128:
            return None
        wanted = sessions.c.id_hash == hashed(secret)
        query = (
            sa.select(sessions, accounts.c.role, accounts.c.scopes)
            .join(accounts, accounts.c.name == sessions.c.account)
            .where(wanted, accounts.c.disabled_ms.is_(None))
        )
        with self._store.reading() as db:
            row = db.execute(query).one_or_none()
        if row is None:
            return None
        wall = row.role == "wall"
        too_old = now_ms - row.created_ms > (WALL_LIFE_MS if wall else LIFE_MS)
        idle = not wall and now_ms - row.seen_ms > self._idle_ms
        if too_old or idle:
            self.end(secret)
            return None
        if touch and now_ms - row.seen_ms > TOUCH_EVERY_MS:
            with self._store.transaction() as db:
                db.execute(sa.update(sessions).where(wanted).values(seen_ms=now_ms))
        return Viewer(row.account, row.role, tuple(json.loads(row.scopes)), row.id_hash, row.csrf)

    def end(self, secret: str) -> None:
        with self._store.transaction() as db:
            db.execute(sa.delete(sessions).where(sessions.c.id_hash == hashed(secret)))


def hashed(secret: str) -> str:
    """SHA-256 of a secret of ours (hex): all that the database keeps of it."""
    return hashlib.sha256(secret.encode()).hexdigest()
