"""What questions cost in a large registry, with its indexes and, for comparison, without.

`python -m bench.registry.lookups --rows 1000000 --database postgresql` fills a registry with events of 50
doors and 2,000 people over a year and times: a person's denials in a month, a door's latest events by time,
the newest arrivals, a unit's log from one event on. Each is asked twenty times, of others each time; then
indexes are dropped and it is asked three times more. Prints JSON: median and worst milliseconds, whether the
rows were the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.registry.ingest import database
from bench.units.load import TENANT_KEY
from bench.units.memory_log import simulated_event
from sync.event_form import read_event
from sync.events import Record, UnitId, pseudonym, unit_id
from sync.registry.database.schema import events
from sync.registry.database.store import Store

DAY_MS = 86_400_000
UNITS, PEOPLE, CHUNK = 50, 2000, 20_000
DENIALS = ("DENIED_VOICE", "DENIED_PHRASE", "DENIED_SPOOF")
INDEXES = ("events_received", "events_door", "events_person")
Ask = Callable[[random.Random], sa.Select[Any]]


def fill(store: Store, rows: int, now_ms: int) -> None:
    """Rows as ingest would write them; only their bodies are a few hundred, used again and again."""
    dice = random.Random(4)
    made = [simulated_event(dice, TENANT_KEY, now_ms, 0) for _ in range(300)]
    read = [read_event(Record(unit_id("old/unit"), 1, event).to_bytes()) for event in made]
    bodies = [Record(unit_id("old/unit"), 1, event).to_bytes() for event in made]
    people = [pseudonym(TENANT_KEY, str(number)).bytes for number in range(PEOPLE)]
    for start in range(0, rows, CHUNK):
        chunk = []
        for number in range(start, min(rows, start + CHUNK)):
            at_ms = now_ms - 365 * DAY_MS + number * 365 * DAY_MS // rows
            fields = read[number % 300]._replace(
                unit=UnitId(f"site-{number % UNITS % 5}/unit-{number % UNITS}"), sequence=number // UNITS + 1,
                time_ms=at_ms, person=dice.choice(people), door=f"door-{number % UNITS % 3}",
            )  # fmt: skip
            chunk.append((fields, bodies[number % 300], at_ms))
        with store.transaction() as db:
            store.add_events(db, chunk)


def questions(now_ms: int) -> dict[str, Ask]:
    def denials(dice: random.Random) -> sa.Select[Any]:
        person = str(pseudonym(TENANT_KEY, str(dice.randrange(PEOPLE))))
        since = now_ms - dice.randrange(1, 11) * 30 * DAY_MS
        month = events.c.time_ms.between(since - 30 * DAY_MS, since)
        return sa.select(events.c.body).where(events.c.person == person, month, events.c.kind.in_(DENIALS))

    def latest(dice: random.Random) -> sa.Select[Any]:
        number = dice.randrange(UNITS)
        unit = f"site-{number % 5}/unit-{number}"
        door = (events.c.unit == unit, events.c.door == f"door-{number % 3}")
        return sa.select(events.c.body).where(*door).order_by(events.c.time_ms.desc()).limit(50)

    def arrived(dice: random.Random) -> sa.Select[Any]:
        since = now_ms - dice.randrange(60_000, 3_600_000)
        return sa.select(events.c.body).where(events.c.received_ms > since).order_by(events.c.received_ms)

    def log(dice: random.Random) -> sa.Select[Any]:
        number = dice.randrange(UNITS)
        mine = (events.c.unit == f"site-{number % 5}/unit-{number}", events.c.sequence > dice.randrange(100))
        return sa.select(events.c.body).where(*mine).order_by(events.c.sequence).limit(500)

    return {
        "a person's denials in a month": denials,
        "a door's latest 50 by time": latest,
        "what arrived lately": arrived,
        "500 events of one log": log,
    }


def timed(store: Store, ask: Ask, times: int) -> tuple[list[float], list[int]]:
    """Milliseconds of each, and how many rows came back."""
    dice, took, found = random.Random(9), [], []
    for _ in range(times):
        began = time.perf_counter()
        with store.reading() as db:
            found.append(len(db.execute(ask(dice)).all()))
        took.append((time.perf_counter() - began) * 1000)
    return took, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    now_ms = time.time_ns() // 1_000_000
    with tempfile.TemporaryDirectory(prefix="ostiary-lookups-") as name, contextlib.ExitStack() as stack:
        store = Store.open(stack.enter_context(database(options.database, Path(name))))
        fill(store, options.rows, now_ms)
        with store.transaction() as db:
            db.execute(sa.text("ANALYZE"))
        asked = questions(now_ms)
        with_indexes = {what: timed(store, ask, 20) for what, ask in asked.items()}
        with store.transaction() as db:
            for index in INDEXES:
                db.execute(sa.text(f"DROP INDEX {index}"))
        for what, ask in asked.items():
            took, found = with_indexes[what]
            without, again = timed(store, ask, 3)
            told = {"median_ms": round(statistics.median(took), 2), "worst_ms": round(max(took), 2)}
            told["without_indexes_ms"] = round(statistics.median(without), 2)
            same = found[:3] == again
            line = {"database": options.database, "rows": options.rows, "question": what, **told}
            print(json.dumps({**line, "rows_found": statistics.median(found), "same": same}), flush=True)
        store.close()


if __name__ == "__main__":
    main()
