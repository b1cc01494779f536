"""Exports of a registry that is at work: one moment of it, from the signed bodies."""

from __future__ import annotations

import csv
import io
import json
import os
import threading

import sqlalchemy as sa

from sync.registry import export
from sync.registry.schema import events
from sync.verify import verify
from tests.sync.registry.test_ingest import Registry, Unit, cluster, registry, some

__all__ = ["cluster", "registry"]
EXPORTS = int(os.environ.get("OSTIARY_EXPORTS", "25"))


def test_every_export_of_a_log_that_grows_meanwhile_is_sound(registry: Registry) -> None:
    url = registry.store._engine.url.render_as_string(hide_password=False)
    unit, stop = registry.register(Unit()), threading.Event()
    registry.take(unit.batch(some(1, 3)))

    def grow() -> None:
        beside = Registry(url)
        while not stop.is_set():
            beside.take(unit.batch(some(len(unit.bodies) + 1, len(unit.bodies) + 3)))
        beside.store.close()

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        sizes, findings = [], []
        for _ in range(EXPORTS):
            data = export.bundle(registry.store, unit.unit).to_bytes()
            report = verify(data, unit.signer.public_key(), unit=unit.unit)
            sizes.append(report.events)
            findings += report.findings
    finally:
        stop.set()
        growing.join()
    assert findings == []
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
