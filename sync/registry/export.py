"""Getting facts out: CSV and JSON Lines for people and programs, proof bundles for auditors."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from sync import chain
from sync.bundle import LogBundle
from sync.cose import peek1
from sync.errors import SyncError
from sync.events import Record, UnitId
from sync.heads import Head
from sync.merkle import Frontier
from sync.registry.schema import events, heads, retained, units
from sync.registry.store import Store

COLUMNS = [column for column in events.columns if column.name not in ("body", "month")]
MORE = ("boot", "monotonic_ms", "policy", "models", "timings", "count", "more_scores")
"""What only the body of an event holds. In a table cell, models are separated by blanks, timings and scores
are JSON."""
PAGE = 5000


def rows(store: Store, unit: UnitId | None = None, since_ms: int = 0) -> Iterator[dict[str, Any]]:
    """Events in order of arrival at the registry (all units), or in sequence (one unit): every field."""
    after: tuple[Any, ...] = (since_ms, "", 0)
    key = (events.c.received_ms, events.c.unit, events.c.sequence)
    while True:
        query = sa.select(*COLUMNS, events.c.body).order_by(*key).limit(PAGE)
        query = query.where(sa.tuple_(*key) > sa.tuple_(*map(sa.literal, after)))
        if unit is not None:
            query = query.where(events.c.unit == unit)
        with store.reading() as db:
            page = [_whole(dict(row._mapping)) for row in db.execute(query)]
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1]
        after = (last["received_ms"], last["unit"], last["sequence"])


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what its body holds besides, in place of the body."""
    event = Record.from_bytes(bytes(row.pop("body"))).event
    timings = dataclasses.asdict(event.timings) if event.timings else None
    nested = {"models": list(event.models), "timings": timings, "more_scores": dict(event.more_scores)}
    plain = {"boot": event.boot, "monotonic_ms": event.monotonic_ms, "policy": event.policy}
    return {**row, **plain, **nested, "count": event.count, "silent_alarm": event.silent_alarm}


def count(store: Store, unit: UnitId | None = None) -> int:
    query = sa.select(sa.func.count()).select_from(events)
    if unit is not None:
        query = query.where(events.c.unit == unit)
    with store.reading() as db:
        return int(db.execute(query).scalar_one())


def as_jsonl(page: Iterator[dict[str, Any]]) -> Iterator[str]:
    for row in page:
        yield json.dumps(row, sort_keys=True) + "\n"


def as_csv(page: Iterator[dict[str, Any]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*(column.name for column in COLUMNS), *MORE])
    writer.writeheader()
    for row in page:
        nested = {name: json.dumps(row[name]) if row[name] else None for name in ("timings", "more_scores")}
        writer.writerow({**row, "models": " ".join(row["models"]), **nested})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def bundle(store: Store, unit: UnitId) -> LogBundle:
    """Everything we hold of a unit's log up to its last head, for `ostiary audit verify`."""
    with store.reading() as db:
        row = db.execute(
            sa.select(units.c.public_key, units.c.size).where(units.c.unit == unit)
        ).one_or_none()
        if row is None:
            raise SyncError(f"{unit} is not registered")
        bodies = db.execute(
            sa.select(events.c.sequence, events.c.body)
            .where(events.c.unit == unit, events.c.sequence <= row.size)
            .order_by(events.c.sequence)
        ).all()
        signed = [
            bytes(head.cose)
            for head in db.execute(sa.select(heads.c.cose).where(heads.c.unit == unit).order_by(heads.c.size))
        ]
        start = db.execute(
            sa.select(retained.c.size, retained.c.chain, retained.c.frontier).where(retained.c.unit == unit)
        ).one_or_none()
    first = bodies[0].sequence if bodies else row.size + 1
    if start is None:
        link, frontier = chain.genesis(unit), Frontier().to_bytes()
    else:
        link, frontier = bytes(start.chain), bytes(start.frontier)
        signed = [head for head in signed if Head.from_bytes(peek1(head)).size >= start.size]
    return LogBundle(
        unit,
        bytes(row.public_key),
        first,
        link,
        frontier,
        tuple(bytes(body.body) for body in bodies),
        tuple(signed),
    )
