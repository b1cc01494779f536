"""Who looked at what: an append-only record in which every entry's hash covers all entries before it.

An entry is written in the same transaction as what it records, or before anything is shown. Anybody who keeps
a chain hash from an earlier day (print it, mail it) can tell later whether the record still begins with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import cbor2
import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.errors import DashboardError
from sync.dashboard.schema import journal
from sync.events import UnitId
from sync.proofs import chain
from sync.registry.database.schema import access
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn

GENESIS = chain.genesis(UnitId("dashboard/journal"))
MAX_SUBJECT = 400
COUNTED = frozenset({"read", "export"})
"""Actions that the registry's BULK_ACCESS rule counts, in its own table."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `action` is a word, `subject` says what it was about, `rows` how much of it."""

    number: int
    time_ms: int
    account: str
    action: str
    subject: str
    rows: int
    chain: bytes

    def body(self) -> bytes:
        values = (1, self.number, self.time_ms, self.account, self.action, self.subject, self.rows)
        return cbor2.dumps(values, canonical=True)


def record(store: Store, account: str, action: str, subject: str, now_ms: int, *, rows: int = 1) -> None:
    """Write an entry in a transaction of its own. Raises StoreError: then show nothing."""
    with store.transaction() as db:
        append(db, account, action, subject, now_ms, rows=rows)


def append(db: Connection, account: str, action: str, subject: str, now_ms: int, *, rows: int = 1) -> None:
    """Write an entry as a part of the caller's transaction."""
    take_turn(db, Turn.JOURNAL)  # two writers must not continue from one entry
    last = db.execute(
        sa.select(journal.c.number, journal.c.chain).order_by(journal.c.number.desc()).limit(1)
    ).one_or_none()
    number, link = (last.number + 1, bytes(last.chain)) if last else (1, GENESIS)
    entry = Entry(number, now_ms, account, action, subject[:MAX_SUBJECT], rows, b"")
    link = chain.link(link, chain.leaf_hash(entry.body()))
    row = {
        name: getattr(entry, name) for name in ("number", "time_ms", "account", "action", "subject", "rows")
    }
    db.execute(sa.insert(journal).values(**row, chain=link))
    if action in COUNTED:
        db.execute(sa.insert(access).values(account=account, action=action, rows=rows, time_ms=now_ms))


def entries(
    store: Store,
    before: int | None = None,
    limit: int = 100,
    account: str | None = None,
    among: Collection[str] | None = None,
) -> list[Entry]:
    """Newest first, older than number `before`; of one account, or of some."""
    query = sa.select(journal).order_by(journal.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(journal.c.number < before)
    if account:
        query = query.where(journal.c.account == account)
    if among is not None:
        query = query.where(journal.c.account.in_(among))
    with store.reading() as db:
        return [_entry(row) for row in db.execute(query)]


def check(store: Store) -> tuple[int, bytes]:
    """Walk the whole record: how many entries it has, and its last chain hash. Raises DashboardError."""
    link, number = GENESIS, 0
    for entry in _all(store):
        number += 1
        link = chain.link(link, chain.leaf_hash(entry.body()))
        if entry.number != number:
            raise DashboardError(f"the journal is not whole: entry {number} is missing")
        if entry.chain != link:
            raise DashboardError(f"the journal was edited at or before entry {number}")
    return number, link


def contains(store: Store, head: str) -> bool:
    """Whether the journal once ended with this chain hash (hex)."""
    try:
        wanted = bytes.fromhex(head)
    except ValueError as err:
        raise DashboardError("a chain hash is 64 hexadecimal digits") from err
    with store.reading() as db:
        return db.execute(sa.select(journal.c.number).where(journal.c.chain == wanted)).first() is not None


def _all(store: Store) -> Iterator[Entry]:
    after, page = 0, 5000
    while True:
        query = sa.select(journal).where(journal.c.number > after).order_by(journal.c.number).limit(page)
        with store.reading() as db:
            found = [_entry(row) for row in db.execute(query)]
        yield from found
        if len(found) < page:
            return
        after = found[-1].number


def _entry(row: Any) -> Entry:
    return Entry(row.number, row.time_ms, row.account, row.action, row.subject, row.rows, bytes(row.chain))
