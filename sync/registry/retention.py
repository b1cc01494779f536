"""Forgetting whole months, and staying provable: what is deleted is summed up by the head that ends it."""

from __future__ import annotations

import sqlalchemy as sa

from sync import chain
from sync.cose import peek1
from sync.errors import SyncError
from sync.events import UnitId
from sync.heads import Head
from sync.merkle import Frontier
from sync.registry.schema import events, heads, retained
from sync.registry.store import Store, month_of


def first_month_kept(now_ms: int, months: int) -> int:
    """The month (yyyymm) that lies `months` before the present one."""
    present = month_of(now_ms)
    count = present // 100 * 12 + present % 100 - 1 - months
    return count // 12 * 100 + count % 12 + 1


def forget_before(store: Store, month: int) -> int:
    """Delete events received before `month` (yyyymm) and the heads over them; returns how many events went.

    A batch is stored in one transaction, in one month, so a month always ends at a signed head, and what is
    left still verifies from there.
    """
    with store.transaction() as db:
        # Ingest keeps out: otherwise a batch could land in a month while it goes.
        if db.dialect.name == "postgresql":
            db.execute(sa.text("LOCK TABLE units IN EXCLUSIVE MODE"))
        ends = db.execute(
            sa.select(events.c.unit, sa.func.max(events.c.sequence).label("size"))
            .where(events.c.month < month)
            .group_by(events.c.unit)
        ).all()
        for row in ends:
            _sum_up(db, UnitId(row.unit), row.size)
        if db.dialect.name != "postgresql":
            return int(db.execute(sa.delete(events).where(events.c.month < month)).rowcount)
        gone = 0
        names = db.execute(
            sa.text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass")
        ).scalars()
        for name in names.all():
            if int(name.rpartition("_")[2]) < month:
                counted = sa.select(sa.func.count()).select_from(sa.table(name))
                gone += db.execute(counted).scalar_one()
                db.execute(sa.text(f"DROP TABLE {name}"))
        store.forget_partitions()
        return gone


def _sum_up(db: sa.Connection, unit: UnitId, size: int) -> None:
    head = db.execute(sa.select(heads.c.cose).where(heads.c.unit == unit, heads.c.size == size)).scalar()
    if head is None:
        raise SyncError(f"the month of {unit} does not end at a signed head; nothing was deleted")
    known = db.execute(sa.select(retained).where(retained.c.unit == unit)).one_or_none()
    tree = Frontier.from_bytes(bytes(known.frontier)) if known else Frontier()
    bodies = db.execute(
        sa.select(events.c.body)
        .where(events.c.unit == unit, events.c.sequence <= size)
        .order_by(events.c.sequence)
    )
    tree = tree.extended(chain.leaf_hash(bytes(body)) for (body,) in bodies)
    signed = Head.from_bytes(peek1(bytes(head)))
    if (tree.size, tree.root()) != (signed.size, signed.root):
        raise SyncError(f"the stored log of {unit} does not match its signed head; export it, do not delete")
    db.execute(sa.delete(retained).where(retained.c.unit == unit))
    db.execute(sa.insert(retained).values(unit=unit, size=size, chain=signed.chain, frontier=tree.to_bytes()))
    # The head at the cut sums up the others.
    db.execute(sa.delete(heads).where(heads.c.unit == unit, heads.c.size < size))
