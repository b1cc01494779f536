"""Names behind pseudonyms, under AES-256-GCM; opened one at a time and on record.

The events carry pseudonyms only. A site that wants names on the page brings them (CSV: person, name), with
a key that lies in a file beside the service and not in the database. A name is kept with the day from which
it holds, so an old event is shown with the name of its time.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import uuid
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sync.dashboard.errors import DashboardError, RefusedError
from sync.dashboard.schema import people
from sync.plain_file import plain_bytes, plain_text
from sync.plain_words import what_and_why
from sync.registry.database.store import Store

MAX_CSV_BYTES = 1 << 24
KEY_BYTES = 32
MAX_NAME = 120


class NameBook:
    """Opens and keeps names. `key` is 32 bytes."""

    def __init__(self, store: Store, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise DashboardError(f"a names key has {KEY_BYTES} bytes")
        self._store = store
        self._box = AESGCM(key)

    @classmethod
    def open(cls, store: Store, path: Path) -> NameBook:
        """Open with the key in a file, which is made on first use."""
        try:
            try:
                # O_EXCL: two that start at once must not make two keys.
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                return cls(store, plain_bytes(path))
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            return cls(store, plain_bytes(path))
        except OSError as err:
            raise DashboardError(f"the names key cannot be used: {what_and_why(err)}") from err

    def keep(self, found: Iterable[tuple[str, str]], since_ms: int) -> int:
        """Keep the names of these pseudonyms from `since_ms` on; returns how many changed."""
        with self._store.transaction() as db:
            return self.keep_in(db, found, since_ms)

    def keep_in(self, db: sa.Connection, found: Iterable[tuple[str, str]], since_ms: int) -> int:
        """As `keep`, as a part of the caller's transaction."""
        changed = 0
        for person, name in found:
            if self._name(db, person, None) == name:
                continue
            nonce = secrets.token_bytes(12)
            sealed = nonce + self._box.encrypt(nonce, name.encode(), person.encode())
            row = self._store.upsert(people).values(person=person, since_ms=since_ms, sealed=sealed)
            db.execute(
                row.on_conflict_do_update(index_elements=["person", "since_ms"], set_={"sealed": sealed})
            )
            changed += 1
        return changed

    def name(self, person: str, at_ms: int | None = None) -> str | None:
        """The name now, or at a time; None where nobody brought one. Put it on record first."""
        with self._store.reading() as db:
            return self._name(db, person, at_ms)

    def forget_in(self, db: sa.Connection, person: str) -> bool:
        """Delete every name that this pseudonym ever had; whether there was one."""
        return bool(db.execute(sa.delete(people).where(people.c.person == person)).rowcount)

    def _name(self, db: sa.Connection, person: str, at_ms: int | None) -> str | None:
        query = sa.select(people.c.since_ms, people.c.sealed).where(people.c.person == person)
        rows = db.execute(query.order_by(people.c.since_ms.desc())).all()
        if not rows:
            return None
        then = [row for row in rows if at_ms is None or row.since_ms <= at_ms]
        # Somebody who passed before the first name was brought is still that person.
        sealed = bytes((then or rows[-1:])[0].sealed)
        try:
            return self._box.decrypt(sealed[:12], sealed[12:], person.encode()).decode()
        except InvalidTag as err:
            raise RefusedError(
                "The names were kept under another key; start the page with the right key file.", 409
            ) from err


def read_csv(path: Path) -> list[tuple[str, str]]:
    """(pseudonym, name) pairs of a CSV file with the columns `person` and `name`. Raises DashboardError."""
    try:
        rows = list(csv.DictReader(io.StringIO(plain_text(path, MAX_CSV_BYTES), newline="")))
    except (OSError, ValueError, csv.Error) as err:
        raise DashboardError(f"the names cannot be read: {what_and_why(err)}") from err
    found = []
    for number, row in enumerate(rows, start=2):
        name = (row.get("name") or "").strip()
        try:
            person = str(uuid.UUID(row.get("person") or ""))
        except ValueError as err:
            raise DashboardError(f"line {number}: person is a pseudonym as events carry it") from err
        if not 1 <= len(name) <= MAX_NAME:
            raise DashboardError(f"line {number}: a name has 1 to {MAX_NAME} characters")
        found.append((person, name))
    return found
