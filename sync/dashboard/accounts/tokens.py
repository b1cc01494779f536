"""Tokens for other systems: a few rights, a few sites, an end. Of the secret only a hash is stored."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import NAME, Right, Viewer, covers
from sync.dashboard.accounts.sessions import hashed, hold_session
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import tokens
from sync.registry.database.store import Store

DAY_MS = 86_400_000
LONGEST_DAYS = 366
MOST = 200
TOUCH_EVERY_MS = 60_000
RIGHTS = (Right.DOORS, Right.EVENTS, Right.PEOPLE, Right.INCIDENTS)
"""What a token may hold: it reads, and changes nothing, sees no names and commands no door."""
_TOKEN = re.compile(r"ostiary_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token: all but the secret."""

    id: str
    name: str
    rights: tuple[Right, ...]
    scopes: tuple[str, ...]
    created_by: str
    created_ms: int
    expires_ms: int
    used_ms: int | None
    revoked_ms: int | None


class Tokens:
    """The tokens of one registry."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def make(
        self, name: str, rights: Sequence[Right], scopes: Sequence[str], days: int, by: Viewer, now_ms: int
    ) -> str:
        """A new token, shown this once. Raises RefusedError."""
        if not NAME.fullmatch(name):
            raise RefusedError("A token's name has 1 to 32 lower-case letters, digits, dots and dashes.")
        if not rights or any(right not in RIGHTS or not by.may(right) for right in rights):
            raise RefusedError("Choose at least one right, of those that a token may hold.")
        if not covers(by.scopes, scopes):
            raise RefusedError("You can give only the tags that you have.")
        if not 1 <= days <= LONGEST_DAYS:
            raise RefusedError("A token lives 1 to {0} days.", 400, LONGEST_DAYS)
        number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        expires_ms = now_ms + days * DAY_MS
        with self._store.transaction() as db:
            hold_session(db, by.account, by.session)
            alive = (tokens.c.name == name, tokens.c.revoked_ms.is_(None), tokens.c.expires_ms > now_ms)
            if db.execute(sa.select(tokens.c.id).where(*alive)).first() is not None:
                raise RefusedError("A token of this name is in use; revoke it first, or choose another name.")
            db.execute(
                sa.insert(tokens).values(
                    id=number,
                    secret_hash=hashed(secret),
                    name=name,
                    rights=json.dumps([right.name for right in rights]),
                    scopes=json.dumps(list(scopes)),
                    created_by=by.account,
                    created_ms=now_ms,
                    expires_ms=expires_ms,
                )
            )
            about = (
                f"{name}: {', '.join(right.value for right in rights)}; {' '.join(scopes) or 'everywhere'}"
            )
            journal.append(db, by.account, "token", f"{about}; {days} days", now_ms)
        return f"ostiary_{number}_{secret}"

    def listed(self, viewer: Viewer) -> list[Token]:
        """Newest first: those that give nothing beyond what this account may see."""
        with self._store.reading() as db:
            rows = db.execute(sa.select(tokens).order_by(tokens.c.created_ms.desc())).all()
        mine = (made for made in map(_token, rows) if covers(viewer.scopes, made.scopes))
        return list(islice(mine, MOST))

    def revoke(self, number: str, by: Viewer, now_ms: int) -> None:
        """It is refused from now on. Raises RefusedError when there is no such token."""
        with self._store.transaction() as db:
            row = db.execute(sa.select(tokens).where(tokens.c.id == number)).one_or_none()
            if row is None or not covers(by.scopes, tuple(json.loads(row.scopes))):
                raise RefusedError("There is no such token.", 404)
            here = (tokens.c.id == number, tokens.c.revoked_ms.is_(None))
            if db.execute(sa.update(tokens).where(*here).values(revoked_ms=now_ms)).rowcount:
                journal.append(db, by.account, "token revoked", row.name, now_ms)

    def viewer(self, presented: str, now_ms: int) -> Viewer | None:
        """Who asks with this token, or None."""
        found = _TOKEN.fullmatch(presented)
        if found is None:
            return None
        with self._store.reading() as db:
            row = db.execute(sa.select(tokens).where(tokens.c.id == found[1])).one_or_none()
        if row is None or not hmac.compare_digest(row.secret_hash, hashed(found[2])):
            return None
        if row.revoked_ms is not None or row.expires_ms <= now_ms:
            return None
        if now_ms - (row.used_ms or 0) > TOUCH_EVERY_MS:
            with self._store.transaction() as db:
                db.execute(sa.update(tokens).where(tokens.c.id == row.id).values(used_ms=now_ms))
        made = _token(row)
        return Viewer(f"token:{made.name}", "token", made.scopes, "", "", frozenset(made.rights))


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    held = tuple(Right[name] for name in json.loads(row.rights) if name in Right.__members__)
    return Token(
        row.id, row.name, held, tuple(json.loads(row.scopes)), row.created_by, row.created_ms, row.expires_ms,
        row.used_ms, row.revoked_ms,
    )  # fmt: skip
