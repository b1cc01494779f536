"""What verification costs at ingest: the worker's own code beside an inserter that checks nothing.

`python -m bench.registry.ingest_ratio --events 20000` sends the same signed batches through both, into
databases of their own (`--database sqlite` or `postgresql`), in one process and in turns, and prints CPU
microseconds an event and their ratio for batches of 50 and of 1. The inserter decodes a batch and its events
with cbor2 and writes the same rows; it looks at no signature, no chain, no types and no order. Neither has a
broker, and of PostgreSQL only what this process spends is counted: the server's work is the same rows for
both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import cbor2
import sqlalchemy as sa

from bench.units.load import TENANT_KEY
from bench.units.memory_log import MemoryLog, simulated_event
from sync.events import UnitId, unit_id
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry.database.schema import heads
from sync.registry.database.store import EVENT_COLUMNS, Store, month_of
from sync.registry.ingest.ingest import Ingest
from sync.transport.messages import BatchMessage
from sync.transport.topics import EVENTS, topic
from tests.sync.services import postgres

UNITS = 20
ROUND_MESSAGES = 100


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def messages(batch: int, events: int, keys: dict[UnitId, FileSigner]) -> list[tuple[str, bytes]]:
    """Signed batches of `batch` events, in order, the units in turns."""
    dice, made = random.Random(1), []
    logs = {unit: MemoryLog(unit, time.monotonic, now_ms) for unit in keys}
    for _ in range(max(1, events // batch // len(logs))):
        for unit, log in logs.items():
            for _ in range(batch):
                log.append(simulated_event(dice, TENANT_KEY, now_ms(), 0))
            log.seal(keys[unit])
            one = log.batch_after(log.sequence - batch)
            if one is None:
                raise SystemExit("a sealed batch is missing")
            message = BatchMessage(unit, one.first, one.previous_chain, one.first, one.bodies, one.head)
            made.append((topic(unit, EVENTS), message.to_bytes()))
    return made


def insert_blindly(store: Store, round_: Sequence[tuple[str, bytes]]) -> None:
    """The same rows as ingest writes, from bytes that nobody looked at."""
    received_ms = now_ms()
    month = month_of(received_ms)
    rows: list[tuple[Any, ...]] = []
    signed = []
    for _, payload in round_:
        _, unit, first, _, _, bodies, head = cbor2.loads(payload)
        for body in bodies:
            e = cbor2.loads(body)
            ids = [str(e[key]) if key in e else None for key in (10, 11)]
            scores = [e.get(key) for key in (12, 13, 14)]
            row = (
                unit,
                e[2],
                month,
                received_ms,
                str(e[3]),
                e[4],
                e[7],
                e[8],
                e[9],
                *ids,
                *scores,
                e[18],
                body,
            )
            rows.append((*row, 1 if e.get(20) else None))
        signed.append(
            {"unit": unit, "size": first + len(bodies) - 1, "cose": head, "received_ms": received_ms}
        )
    with store.transaction() as db:
        if store.partitioned:
            cursor = db.connection.driver_connection.cursor()  # type: ignore[union-attr]
            with cursor.copy(f"COPY events ({', '.join(EVENT_COLUMNS)}) FROM STDIN") as copy:
                for written in rows:
                    copy.write_row(written)
        else:
            marks = ", ".join("?" * len(EVENT_COLUMNS))
            db.exec_driver_sql(f"INSERT INTO events VALUES ({marks})", rows)  # noqa: S608 - constant text
        db.execute(sa.insert(heads), signed)


@contextlib.contextmanager
def stores(database: str) -> Iterator[tuple[Store, Store]]:
    """One for each of the two, empty, and for PostgreSQL a partition for this month."""
    with contextlib.ExitStack() as stack:
        if database == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ostiary-ratio-"))
            urls = [f"sqlite:///{folder}/{name}.db" for name in ("ours", "blind")]
        else:
            urls = [stack.enter_context(postgres()).url for _ in range(2)]
        ours, blind = map(Store.open, urls)
        stack.callback(ours.close)
        stack.callback(blind.close)
        if database != "sqlite":
            with blind.transaction() as db:
                db.exec_driver_sql("CREATE TABLE events_now PARTITION OF events DEFAULT")
        yield ours, blind


def measure(batch: int, events: int, ours: Store, blind: Store) -> dict[str, float]:
    keys = {unit_id(f"site/unit-{number}"): FileSigner.generate() for number in range(UNITS)}
    sent = messages(batch, events, keys)
    for unit, signer in keys.items():
        ours.register(unit, key_to_der(signer.public_key()), now_ms())
    ingest = Ingest(ours, FileSigner.generate(), now_ms)
    costs: dict[str, list[float]] = {"ours": [], "blind": []}
    for at in range(0, len(sent), ROUND_MESSAGES):
        round_ = sent[at : at + ROUND_MESSAGES]
        for name, work in (
            ("ours", lambda r: ingest.process(r)),
            ("blind", lambda r: insert_blindly(blind, r)),
        ):
            begun = time.process_time()
            work(round_)
            costs[name].append((time.process_time() - begun) / len(round_) / batch * 1e6)
    if ingest.counts.stored_events != len(sent) * batch:
        raise SystemExit("ingest did not take everything")
    found = {f"{name}_cpu_us_per_event": round(statistics.median(cost), 1) for name, cost in costs.items()}
    ratio = statistics.median(a / b for a, b in zip(costs["ours"], costs["blind"], strict=True))
    return {"batch": batch, "rounds": len(costs["ours"]), **found, "ratio": round(ratio, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    for batch, events in ((50, options.events), (1, options.events // 10)):
        with stores(options.database) as (ours, blind):
            print(json.dumps({"database": options.database, **measure(batch, events, ours, blind)}))


if __name__ == "__main__":
    main()
