"""Sessions: random ids of which only a hash is stored; they end when idle, and after a shift."""

from __future__ import annotations

import hashlib
import json
import secrets

import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.schema import accounts, sessions
from sync.registry.database.store import Store

IDLE_MS = 15 * 60_000
LIFE_MS = 10 * 3600_000
WALL_LIFE_MS = 30 * 86_400_000
TOUCH_EVERY_MS = 30_000


class Sessions:
    """Every login gets an id of its own, so nobody can prepare one for somebody else."""

    def __init__(self, store: Store, idle_ms: int = IDLE_MS) -> None:
        self._store = store
        self._idle_ms = idle_ms

    def begin(self, account: str, now_ms: int, replaces: str | None = None) -> str:
        """A new session's secret, for the cookie; the one it replaces ends."""
        secret = secrets.token_urlsafe(32)
        with self._store.transaction() as db:
            if replaces:
                db.execute(sa.delete(sessions).where(sessions.c.id_hash == hashed(replaces)))
            db.execute(sa.delete(sessions).where(sessions.c.created_ms < now_ms - WALL_LIFE_MS))
            db.execute(
                sa.insert(sessions).values(
                    id_hash=hashed(secret),
                    account=account,
                    csrf=secrets.token_urlsafe(24),
                    created_ms=now_ms,
                    seen_ms=now_ms,
                )
            )
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
