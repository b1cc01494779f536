"""Exports: CSV and JSON Lines for people and programs, log bundles for auditors."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from sync.errors import SyncError
from sync.events import Record, UnitId
from sync.proofs import chain
from sync.proofs.bundle import Gap, LogBundle
from sync.proofs.merkle import Frontier
from sync.registry.database.schema import events, gaps, heads, retained, retentions, units
from sync.registry.database.store import Store, name_of

COLUMNS = (
    "unit", "sequence", "received_ms", "event_id", "time_ms", "door", "kind", "reason", "attempt", "person",
    "phrase_llr", "speaker_llr", "spoof_llr", "keystore", "silent_alarm", "boot", "monotonic_ms", "policy",
    "models", "timings", "count", "more_scores",
)  # fmt: skip
"""The columns of a CSV file. Models are separated by blanks; timings and scores are JSON."""
PAGE = 5000


def rows(store: Store, unit: UnitId | None = None, person: str | None = None) -> Iterator[dict[str, Any]]:
    """Events in order of arrival at the registry (all units), or in sequence (one unit): every field.

    `person` is a pseudonym: only what is about that person.
    """
    query = sa.select(events.c.received_ms, events.c.body)
    if person is not None:
        query = query.where(events.c.person == person)
    if unit is not None:
        query = query.where(events.c.unit == unit).order_by(events.c.sequence)
    else:
        query = query.order_by(events.c.received_ms, events.c.unit, events.c.sequence)
    with store.reading() as db:
        for row in db.execute(query, execution_options={"yield_per": PAGE}):
            yield _whole(row.received_ms, bytes(row.body))


def _whole(received_ms: int, body: bytes) -> dict[str, Any]:
    """An event's fields from its signed body: the table's other columns are unsigned, for searching."""
    record = Record.from_bytes(body)
    event = record.event
    timings = dataclasses.asdict(event.timings) if event.timings else None
    ids = {name: getattr(event, name) for name in ("event_id", "attempt", "person")}
    plain = ("time_ms", "door", "kind", "reason", "keystore", "boot", "monotonic_ms", "policy", "count")
    return {
        "unit": record.unit,
        "sequence": record.sequence,
        "received_ms": received_ms,
        **{name: str(value) if value else None for name, value in ids.items()},
        **{name: getattr(event, name) for name in plain},
        **event.scores(),
        "silent_alarm": event.silent_alarm,
        "models": list(event.models),
        "timings": timings,
        "more_scores": dict(event.more_scores),
    }


def count(store: Store, unit: UnitId | None = None, person: str | None = None) -> int:
    query = sa.select(sa.func.count()).select_from(events)
    if person is not None:
        query = query.where(events.c.person == person)
    if unit is not None:
        query = query.where(events.c.unit == unit)
    with store.reading() as db:
        return int(db.execute(query).scalar_one())


def as_jsonl(page: Iterator[dict[str, Any]]) -> Iterator[str]:
    for row in page:
        yield json.dumps(row, sort_keys=True) + "\n"


def as_csv(page: Iterator[dict[str, Any]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
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
        start = db.execute(sa.select(retained).where(retained.c.unit == unit)).one_or_none()
        cut = start.size if start else 0
        bodies = db.execute(
            sa.select(events.c.sequence, events.c.body)
            .where(events.c.unit == unit, events.c.sequence <= row.size, events.c.sequence > cut)
            .order_by(events.c.sequence)
        ).all()
        signed = sa.select(heads.c.cose).where(heads.c.unit == unit, heads.c.size >= cut)
        cover = db.execute(signed.order_by(heads.c.size)).scalars().all()
        told = {gap.first: bytes(gap.chain) for gap in db.execute(sa.select(gaps).where(gaps.c.unit == unit))}
        noted = sa.select(retentions.c.record).where(retentions.c.unit == unit).order_by(retentions.c.size)
        records = db.execute(noted).scalars().all()
    link, frontier = chain.genesis(name_of(unit)), Frontier().to_bytes()
    if start is not None:
        link, frontier = bytes(start.chain), bytes(start.frontier)
    return LogBundle(
        name_of(unit),
        bytes(row.public_key),
        cut + 1,
        link,
        frontier,
        tuple(bytes(body.body) for body in bodies),
        tuple(map(bytes, cover)),
        tuple(_holes([body.sequence for body in bodies], cut, told)),
        tuple(map(bytes, records)),
    )


def _holes(sequences: list[int], cut: int, told: dict[int, bytes]) -> Iterator[Gap]:
    """Where numbers are left out, whether or not anybody noticed when it happened."""
    for before, after in itertools.pairwise([cut, *sequences]):
        if after != before + 1:
            yield Gap(before + 1, after, told.get(after, b""))
