"""Exports of a registry that is at work: one moment of it, from the signed bodies."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import random
import threading
from collections.abc import Iterator

import sqlalchemy as sa

from sync.cose import peek1
from sync.proofs import chain
from sync.proofs.bundle import LogBundle
from sync.proofs.heads import Head
from sync.proofs.merkle import Frontier
from sync.proofs.verify import verify
from sync.registry.database.schema import events
from sync.registry.reports import export
from tests.sync.registry.ingest.test_ingest import Registry, Unit, cluster, registry, some

__all__ = ["cluster", "registry"]
EXPORTS = int(os.environ.get("OSTIARY_EXPORTS", "25"))


def cuts(whole: LogBundle, dice: random.Random) -> Iterator[tuple[str, LogBundle]]:
    """What somebody might leave out without saying so: the beginning, a stretch, or the end."""
    heads = [Head.from_bytes(peek1(message)) for message in whole.heads]
    at = dice.randrange(len(heads) - 1)
    size, tree = heads[at].size, Frontier().extended(map(chain.leaf_hash, whole.events[: heads[at].size]))
    begun = dataclasses.replace(
        whole, first=size + 1, chain=heads[at].chain, frontier=tree.to_bytes(), events=whole.events[size:],
        heads=whole.heads[at:],
    )  # fmt: skip
    yield "the beginning, at a head", begun
    yield (
        "the end, at a head",
        dataclasses.replace(whole, events=whole.events[:size], heads=whole.heads[: at + 1]),
    )
    first = dice.randrange(len(whole.events))
    last = dice.randint(first + 1, len(whole.events))
    yield "a stretch", dataclasses.replace(whole, events=whole.events[:first] + whole.events[last:])
    before = heads[at - 1].size if at else 0
    without = dataclasses.replace(
        whole,
        events=whole.events[:before] + whole.events[size:],
        heads=whole.heads[:at] + whole.heads[at + 1 :],
    )
    yield "a batch with its head", without


def test_every_export_of_a_log_that_grows_meanwhile_is_sound_and_no_cut_of_it_is(registry: Registry) -> None:
    """An auditor has a checkpoint of the moment of the export: without one, an end is just an older day."""
    url = registry.store.engine.url.render_as_string(hide_password=False)
    unit, stop, more = registry.register(Unit()), threading.Event(), threading.Semaphore(0)
    registry.take(unit.batch(some(1, 3)))
    registry.take(unit.batch(some(4, 6)))
    key, dice, missed = unit.signer.public_key(), random.Random(3), []

    def grow() -> None:
        beside = Registry(url)
        while not stop.is_set():
            if not more.acquire(timeout=0.1):
                continue  # a batch while each export is made: the log stays of a size to be verified
            beside.take(unit.batch(some(len(unit.bodies) + 1, len(unit.bodies) + 3)))
        beside.store.close()

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        sizes, findings = [], []
        for number in range(EXPORTS):
            more.release()
            whole = export.bundle(registry.store, unit.unit)
            report = verify(whole.to_bytes(), key, unit=unit.unit)
            sizes.append(report.events)
            findings += report.findings
            what, cut = list(cuts(whole, dice))[number % 4]
            if not verify(cut.to_bytes(), key, unit=unit.unit, checkpoints=[whole.heads[-1]]).findings:
                missed.append((what, sizes[-1]))
    finally:
        stop.set()
        growing.join()
    assert (findings, missed) == ([], [])
    assert sizes[-1] > sizes[0], "it grew"


def test_an_edited_column_shows_in_no_export(registry: Registry) -> None:
    unit = registry.register(Unit())
    registry.take(unit.batch(some(1, 3, kind="DENIED_VOICE", reason="other_voice")))
    with registry.store.transaction() as db:
        db.execute(sa.update(events).where(events.c.sequence == 2).values(kind="GRANTED", door="elsewhere"))
    lines = [json.loads(line) for line in export.as_jsonl(export.rows(registry.store))]
    table = list(csv.DictReader(io.StringIO("".join(export.as_csv(export.rows(registry.store))))))
    for rows in (lines, table):
        assert {row["kind"] for row in rows} == {"DENIED_VOICE"}
        assert "elsewhere" not in {row["door"] for row in rows}
