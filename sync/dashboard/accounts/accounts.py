"""Accounts: passwords under Argon2id, one-time links, and waits after failures."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import NAME, ROLES, SCOPE
from sync.dashboard.accounts.sessions import Login, hashed, hold_session
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import accounts, failures, links, passkeys, sessions
from sync.registry.database.store import Store

LINK_LIFE_MS = 24 * 3600 * 1000
LEAST_PASSWORD = 12
MOST_PASSWORD = 256
FREE_FAILURES = 5
"""For one account from one address; ten times as many for an account from everywhere, twenty times for one
address with any account."""
HASHES_AT_ONCE = 4
"""Argon2 takes 64 MiB each: a sender of many passwords at once waits, and the machine keeps its memory."""
FIRST_WAIT_MS = 30_000
LONGEST_WAIT_MS = 15 * 60_000
FAILURES_FORGOTTEN_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Account:
    """A person or display that may log in."""

    name: str
    role: str
    scopes: tuple[str, ...]
    created_ms: int
    disabled: bool
    ready: bool
    """Whether the person has chosen a password."""


class Accounts:
    """The accounts of one registry. `hasher` decides what a password costs."""

    def __init__(self, store: Store, hasher: PasswordHasher | None = None) -> None:
        self._store = store
        self._hasher = hasher or PasswordHasher()
        self._hashing = threading.BoundedSemaphore(HASHES_AT_ONCE)
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))

    def listed(self) -> list[Account]:
        with self._store.reading() as db:
            return [_account(row) for row in db.execute(sa.select(accounts).order_by(accounts.c.name))]

    def has_admin(self) -> bool:
        return any(a.role == "admin" and a.ready and not a.disabled for a in self.listed())

    def invite(
        self,
        role: str,
        scopes: Sequence[str],
        by: str,
        now_ms: int,
        *,
        account: str | None = None,
        session: str | None = None,
    ) -> str:
        """A token for a one-time link, good for a day: its opener becomes `account`, or names one.

        `session` (its hash) is whose page asked. Raises RefusedError when the role or a scope does not exist.
        """
        if role not in ROLES:
            raise RefusedError("A role is one of {0}.", 400, ", ".join(ROLES))
        for scope in scopes:
            if not SCOPE.fullmatch(scope):
                raise RefusedError("A tag is a site, or site/zone.")
        if account is not None:
            check_name(account)
            if self.elsewhere(account):
                raise RefusedError("This account logs in by single sign-on; it has no password here.")
        token = secrets.token_urlsafe(32)
        with self._store.transaction() as db:
            if session is not None:
                hold_session(db, by, session)
            db.execute(
                sa.insert(links).values(
                    token_hash=hashed(token),
                    account=account,
                    role=role,
                    scopes=json.dumps(list(scopes)),
                    expires_ms=now_ms + LINK_LIFE_MS,
                )
            )
            journal.append(db, by, "invite", f"{role} {account or ''} {' '.join(scopes)}".strip(), now_ms)
        return token

    def invitation(self, token: str, now_ms: int) -> tuple[str, str | None]:
        """(role, account or None) of a link that can still be used. Raises RefusedError."""
        with self._store.reading() as db:
            row = _open_link(db, token, now_ms)
        return row.role, row.account

    def accept(self, token: str, name: str, password: str, now_ms: int) -> Login:
        """Use a link up; returns who may log in with it. Raises RefusedError.

        An account that exists gets the new password and role; its sessions and passkeys end.
        """
        check_name(name)
        _check_password(password, name)
        encoded = self._hasher.hash(password)
        with self._store.transaction() as db:
            row = _open_link(db, token, now_ms)
            if row.account is not None and row.account != name:
                raise RefusedError("This link is for another account.")
            here = sa.select(accounts.c.subject).where(accounts.c.name == name).with_for_update()
            known = db.execute(here).one_or_none()
            if row.account is None and known is not None:
                raise RefusedError("This name is taken; choose another.")
            if known is not None and known.subject is not None:  # since the link was made
                raise RefusedError("This account logs in by single sign-on; it has no password here.")
            used = sa.update(links).where(links.c.token_hash == hashed(token), links.c.used_ms.is_(None))
            if db.execute(used.values(used_ms=now_ms)).rowcount != 1:
                raise RefusedError("This link was used already.")
            values = {"role": row.role, "scopes": row.scopes, "password": encoded, "disabled_ms": None}
            if known is None:
                db.execute(sa.insert(accounts).values(name=name, created_ms=now_ms, **values))
            else:
                db.execute(sa.update(accounts).where(accounts.c.name == name).values(**values))
                db.execute(sa.delete(sessions).where(sessions.c.account == name))
                db.execute(sa.delete(passkeys).where(passkeys.c.account == name))
            journal.append(db, name, "account", f"{name} is {row.role}", now_ms)
        return Login(name, (accounts.c.password == encoded,))

    def enter(self, subject: str, name: str, role: str | None, scopes: Sequence[str], now_ms: int) -> Login:
        """The account of somebody whom the identity provider vouches for, made at the first login.

        `subject` is who it is there; role and scopes are those of today. Raises RefusedError for a role of
        None, for an account that was disabled here, and for a name that is somebody else's.
        """
        mine = sa.select(accounts.c.name).where(accounts.c.subject == subject)
        if role is None:
            with self._store.transaction() as db:
                db.execute(sa.delete(sessions).where(sessions.c.account.in_(mine)))
            raise RefusedError("You are in no group that may use this page. Ask an administrator.", 403)
        with self._store.transaction() as db:
            row = db.execute(sa.select(accounts).where(accounts.c.subject == subject)).one_or_none()
            values = {"role": role, "scopes": json.dumps(list(scopes))}
            still = (accounts.c.subject == subject, *(accounts.c[key] == now for key, now in values.items()))
            if row is None:
                check_name(name)
                if db.execute(sa.select(accounts.c.name).where(accounts.c.name == name)).first() is not None:
                    raise RefusedError("The account {0} is somebody else's. Ask an administrator.", 403, name)
                made = sa.insert(accounts).values(name=name, subject=subject, created_ms=now_ms, **values)
                db.execute(made)
                journal.append(db, name, "account", f"{name} is {role}, by single sign-on", now_ms)
                return Login(name, still)
            if row.disabled_ms is not None:
                raise RefusedError("This account is disabled. Ask an administrator.", 403)
            if (row.role, row.scopes) != (role, values["scopes"]):
                db.execute(sa.update(accounts).where(accounts.c.subject == subject).values(**values))
                journal.append(db, row.name, "account", f"{row.name} is {role}, by single sign-on", now_ms)
            return Login(str(row.name), still)

    def elsewhere(self, name: str) -> bool:
        """Whether this account logs in at the identity provider, and nowhere else."""
        with self._store.reading() as db:
            query = sa.select(accounts.c.subject).where(accounts.c.name == name)
            return db.execute(query).scalar() is not None

    def disable(self, name: str, by: str, now_ms: int) -> None:
        """End an account and its sessions. Raises RefusedError for the last administrator."""
        with self._store.transaction() as db:
            # Their rows are the lock: two who disable each other do not leave nobody.
            admins = db.execute(
                sa.select(accounts.c.name)
                .where(
                    accounts.c.role == "admin",
                    accounts.c.disabled_ms.is_(None),
                    accounts.c.password.is_not(None),
                )
                .order_by(accounts.c.name)
                .with_for_update()
            ).scalars()
            if list(admins) == [name]:
                raise RefusedError("This is the last administrator; make another one first.")
            change = sa.update(accounts).where(accounts.c.name == name, accounts.c.disabled_ms.is_(None))
            if db.execute(change.values(disabled_ms=now_ms)).rowcount != 1:
                raise RefusedError("There is no such account, or it is disabled already.")
            db.execute(sa.delete(sessions).where(sessions.c.account == name))
            journal.append(db, by, "disable", name, now_ms)

    def change_password(self, login: Login, password: str, session: str, now_ms: int) -> None:
        """A new password for who showed the old one; every session but `session` (its hash) ends.

        Raises RefusedError, also where the account or the session is not any more as it was.
        """
        name = login.account
        _check_password(password, name)
        encoded = self._hasher.hash(password)
        with self._store.transaction() as db:
            login.hold(db)
            hold_session(db, name, session)
            db.execute(sa.update(accounts).where(accounts.c.name == name).values(password=encoded))
            others = (sessions.c.account == name, sessions.c.id_hash != session)
            db.execute(sa.delete(sessions).where(*others))
            journal.append(db, name, "password", name, now_ms)

    def check(self, name: str, password: str, address: str, now_ms: int) -> Login | None:
        """Who may log in, or None; takes as long for a name that does not exist.

        Raises RefusedError while too many failures make everybody wait.
        """
        name = name.strip().lower()[:64]
        own = {f"{name}@{address}": FREE_FAILURES, name: FREE_FAILURES * 10}
        keys = own | {f"@{address}": FREE_FAILURES * 20}
        with self._store.reading() as db:
            wait_ms = max(_wait_ms(db, key, free, now_ms) for key, free in keys.items())
            row = db.execute(sa.select(accounts).where(accounts.c.name == name)).one_or_none()
        if wait_ms > 0:
            raise RefusedError("Too many failures. Try again in {0} seconds.", 429, -(-wait_ms // 1000))
        encoded = row.password if row is not None and row.password else self._nobody
        try:
            with self._hashing:
                self._hasher.verify(encoded, password[:MOST_PASSWORD])
            right = bool(row is not None and row.password and row.disabled_ms is None)
        except (VerificationError, InvalidHashError):
            right = False
        with self._store.transaction() as db:
            if right and row is not None:
                db.execute(sa.delete(failures).where(failures.c.who.in_(own)))
                return Login(row.name, (accounts.c.password == row.password,))
            for key in keys:
                self._failed(db, key, now_ms)
            journal.append(db, "nobody", "login refused", f"{name} from {address}", now_ms)
        return None

    def _failed(self, db: Connection, key: str, now_ms: int) -> None:
        db.execute(sa.delete(failures).where(failures.c.last_ms < now_ms - FAILURES_FORGOTTEN_MS))
        row = self._store.upsert(failures).values(who=key, times=1, last_ms=now_ms)
        again = {"times": failures.c.times + 1, "last_ms": now_ms}
        db.execute(row.on_conflict_do_update(index_elements=["who"], set_=again))


def check_name(name: str) -> None:
    """Raises RefusedError unless it can be an account's name."""
    if not NAME.fullmatch(name):
        raise RefusedError("An account's name has 1 to 32 lower-case letters, digits, dots and dashes.")


def _check_password(password: str, name: str) -> None:
    # NIST SP 800-63B 5.1.1.2: length, and no rules about which characters.
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise RefusedError(
            "A password has {0} to {1} characters; a sentence is good.", 400, LEAST_PASSWORD, MOST_PASSWORD
        )
    if name in password.lower() or len(set(password)) < 5:
        raise RefusedError("This password is too easy to guess; a sentence is good.")


def _open_link(db: Connection, token: str, now_ms: int) -> sa.Row[tuple[object, ...]]:
    row = db.execute(sa.select(links).where(links.c.token_hash == hashed(token))).one_or_none()
    if row is None or row.used_ms is not None or row.expires_ms <= now_ms:
        raise RefusedError("This link was used or has expired. Ask an administrator for a new one.")
    return row


def _wait_ms(db: Connection, key: str, free: int, now_ms: int) -> int:
    row = db.execute(sa.select(failures).where(failures.c.who == key)).one_or_none()
    if row is None or row.times < free:
        return 0
    wait_ms = min(FIRST_WAIT_MS * 2 ** min(row.times - free, 10), LONGEST_WAIT_MS)
    return int(row.last_ms + wait_ms - now_ms)


def _account(row: sa.Row[tuple[object, ...]]) -> Account:
    scopes = tuple(json.loads(row.scopes))
    return Account(
        row.name, row.role, scopes, row.created_ms, row.disabled_ms is not None, bool(row.password)
    )
