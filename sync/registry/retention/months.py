"""Forgetting whole months on record, and staying provable: what goes is summed up by the head that ends it.

Each unit is cut by itself: its part of the old months is held against its signed heads first, without a lock,
then the cut is noted and signed in one short transaction, then rows go in small batches. Ingest goes on all
the while; killed anywhere, the next call finishes. A unit whose log does not verify keeps everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.cose import peek1
from sync.errors import SyncError
from sync.events import Signer, UnitId
from sync.proofs import chain
from sync.proofs.heads import Head
from sync.proofs.merkle import Frontier
from sync.proofs.retention import RetentionRecord
from sync.registry.database.schema import events, gaps, heads, retained, retentions, units
from sync.registry.database.store import Store, month_of, name_of
from sync.registry.verification import Alarm

BATCH_ROWS = 2000
PAGE = 2000
LOCK_WITHIN_MS = 5000


@dataclass(frozen=True, slots=True)
class Cut:
    """Where one unit's log is cut: behind event `last`. `frontier` is empty behind a gap."""

    unit: UnitId
    first: int
    last: int
    chain: bytes
    frontier: bytes


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What retention did. `refused` are units that kept everything, and why."""

    events: int
    units: int
    refused: dict[UnitId, str]


def first_month_kept(now_ms: int, months: int) -> int:
    """The month (yyyymm) that lies `months` before the present one."""
    present = month_of(now_ms)
    count = present // 100 * 12 + present % 100 - 1 - months
    return count // 12 * 100 + count % 12 + 1


def due(store: Store, month: int) -> dict[UnitId, int]:
    """How many events of each unit were received before `month` (yyyymm)."""
    query = sa.select(events.c.unit, sa.func.count().label("events")).where(events.c.month < month)
    with store.reading() as db:
        return {UnitId(row.unit): row.events for row in db.execute(query.group_by(events.c.unit))}


def forget_before(
    store: Store,
    month: int,
    *,
    signer: Signer,
    account: str,
    now_ms: int,
    progress: Callable[[int], None] = lambda _: None,
    batch_rows: int = BATCH_ROWS,
) -> Forgotten:
    """Delete events received before `month` (yyyymm) and the heads over them, unit by unit, on record.

    A batch is stored in one transaction, in one month, so a month always ends at a signed head, and what is
    left still verifies from there. Rows go `batch_rows` a transaction: so long a writer waits. Raises
    SyncError for a month that has not come to its end before `month`.
    """
    if month > month_of(now_ms):
        raise SyncError("the present month cannot be deleted; name it, or an earlier one, as the first kept")
    refused: dict[UnitId, str] = {}
    cut_units, gone = 0, 0
    with store.reading() as db:
        names = [UnitId(name) for name in db.execute(sa.select(units.c.unit)).scalars()]
    for unit in names:
        try:
            cut = _checked_cut(store, unit, month)
        except SyncError as err:
            refused[unit] = str(err)
            continue
        if cut is not None:
            _note(store, cut, month, signer, account, now_ms)
            cut_units += 1
            gone += cut.last - cut.first + 1
        if cut is not None or not store.partitioned:
            _sweep(store, unit, rows=not store.partitioned, progress=progress, batch_rows=batch_rows)
    if store.partitioned:
        _drop_partitions(store, names, month, progress, batch_rows)
    _alarm(store, month, refused, now_ms)
    return Forgotten(gone, cut_units, refused)


def _checked_cut(store: Store, unit: UnitId, month: int) -> Cut | None:
    """The cut that `month` asks for, its events held against the signed heads; None when there is nothing."""
    with store.reading() as db:
        known = db.execute(sa.select(retained).where(retained.c.unit == unit)).one_or_none()
        done = known.size if known else 0
        mine = (events.c.unit == unit, events.c.sequence > done)
        last = db.execute(
            sa.select(sa.func.max(events.c.sequence)).where(*mine, events.c.month < month)
        ).scalar()
        if last is None:
            return None
        signed = {
            head.size: Head.from_bytes(peek1(bytes(head.cose)))
            for head in db.execute(
                sa.select(heads.c.size, heads.c.cose).where(heads.c.unit == unit, heads.c.size <= last)
            )
        }
        if last not in signed:
            raise SyncError(f"the month of {unit} does not end at a signed head; it keeps everything")
        holes = {
            gap.first: bytes(gap.chain) for gap in db.execute(sa.select(gaps).where(gaps.c.unit == unit))
        }
        tree: Frontier | None = Frontier()
        link = chain.genesis(name_of(unit))
        if known:
            link = bytes(known.chain)
            tree = Frontier.from_bytes(bytes(known.frontier)) if known.frontier else None
        expected = done + 1
        query = sa.select(events.c.sequence, events.c.body).where(*mine, events.c.sequence <= last)
        query = query.order_by(events.c.sequence)
        pending: list[bytes] = []
        for row in db.execute(query, execution_options={"yield_per": PAGE}):
            if row.sequence != expected:
                if row.sequence not in holes:
                    raise SyncError(
                        f"events of {unit} are missing before {row.sequence}; it keeps everything"
                    )
                link, tree, pending = holes[row.sequence], None, []
            leaf = chain.leaf_hash(bytes(row.body))
            link = chain.link(link, leaf)
            pending.append(leaf)
            expected = row.sequence + 1
            if (head := signed.get(row.sequence)) is not None:
                tree = tree.extended(pending) if tree else None
                pending = []
                if head.chain != link or (tree is not None and head.root != tree.root()):
                    raise SyncError(
                        f"the stored log of {unit} is not what it signed; export it, do not delete"
                    )
    return Cut(unit, done + 1, last, link, tree.to_bytes() if tree else b"")


def _note(store: Store, cut: Cut, month: int, signer: Signer, account: str, now_ms: int) -> None:
    """The cut and its signed record, in one transaction; from then on nobody reads what lies before."""
    record = RetentionRecord(name_of(cut.unit), cut.first, cut.last, cut.chain, account, now_ms)
    mine = (events.c.unit == cut.unit, events.c.sequence > cut.last, events.c.month < month)
    with store.transaction() as db:
        # The unit's row keeps ingest out: a batch of the old month could be on its way in.
        db.execute(sa.select(units.c.size).where(units.c.unit == cut.unit).with_for_update())
        if db.execute(sa.select(sa.func.count()).select_from(events).where(*mine)).scalar_one():
            raise SyncError(
                f"events of {cut.unit} still come in for the month that is to go; try again later"
            )
        db.execute(sa.delete(retained).where(retained.c.unit == cut.unit))
        state = {"unit": cut.unit, "size": cut.last, "chain": cut.chain, "frontier": cut.frontier}
        db.execute(sa.insert(retained).values(state))
        db.execute(
            sa.insert(retentions).values(
                unit=cut.unit,
                size=cut.last,
                first=cut.first,
                account=account,
                time_ms=now_ms,
                record=record.signed(signer),
            )
        )


def _sweep(
    store: Store, unit: UnitId, *, rows: bool, progress: Callable[[int], None], batch_rows: int
) -> None:
    """Delete what lies before the unit's cut, a few rows a transaction: a writer waits for one of them."""
    with store.reading() as db:
        size = db.execute(sa.select(retained.c.size).where(retained.c.unit == unit)).scalar()
    if size is None:
        return
    # The head at the cut sums up the others.
    tables = [(heads, heads.c.size, size - 1), *([(events, events.c.sequence, size)] if rows else [])]
    for table, column, last in tables:
        while True:
            with store.transaction() as db:
                doomed = (
                    sa.select(column)
                    .where(table.c.unit == unit, column <= last)
                    .order_by(column)
                    .limit(batch_rows)
                )
                numbers = db.execute(doomed).scalars().all()
                if not numbers:
                    break
                db.execute(sa.delete(table).where(table.c.unit == unit, column <= numbers[-1]))
            progress(len(numbers) if table is events else 0)


def _drop_partitions(
    store: Store, names: list[UnitId], month: int, progress: Callable[[int], None], batch_rows: int
) -> None:
    """Old months go as a whole; where a unit keeps its rows, the others' go one by one."""
    with store.reading() as db:
        found = db.execute(
            sa.text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass")
        ).scalars()
        old = [name for name in found if int(name.rpartition("_")[2]) < month]
        whole = bool(old) and not _kept(db, month)
    if not old:
        return
    if whole:
        with store.transaction() as db:
            # Readers may hold a month for long; ingest must not queue behind us for them.
            db.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_WITHIN_MS}"))
            for name in old:
                db.execute(sa.text(f"LOCK TABLE {name}"))
            whole = not _kept(db, month)  # nothing came into it since the look
            for name in old if whole else ():
                db.execute(sa.text(f"DROP TABLE {name}"))
        store.forget_partitions()
    if not whole:
        for unit in names:
            _sweep(store, unit, rows=True, progress=progress, batch_rows=batch_rows)


def _kept(db: Connection, month: int) -> int:
    """How many events of before `month` no cut covers."""
    found = sa.select(sa.func.count()).select_from(
        sa.outerjoin(events, retained, events.c.unit == retained.c.unit)
    )
    after_cut = events.c.sequence > sa.func.coalesce(retained.c.size, 0)
    return int(db.execute(found.where(events.c.month < month, after_cut)).scalar_one())


def _alarm(store: Store, month: int, refused: dict[UnitId, str], now_ms: int) -> None:
    raised = [
        Alarm(
            "RETENTION_REFUSED",
            "critical",
            unit,
            f"RETENTION {unit} {month}",
            {"month": month, "why": why},
            lasting=True,
        )
        for unit, why in refused.items()
    ]
    if raised:
        with store.transaction() as db:
            store.raise_alarms(db, raised, now_ms)
