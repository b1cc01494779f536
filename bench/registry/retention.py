"""What forgetting a month costs, and whether ingest goes on meanwhile.

`python -m bench.registry.retention --events 100000 --database postgresql` takes signed batches into last
month through the worker's own code, then deletes that month on record while batches of the present month come
in from a thread. Prints JSON: seconds and microseconds an event of the deletion, the longest that one round
of ingest took before and during it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import tempfile
import threading
import time
from pathlib import Path

from bench.registry.ingest import database
from bench.units.load import TENANT_KEY
from bench.units.memory_log import MemoryLog, simulated_event
from sync.events import UnitId, unit_id
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.proofs.verify import verify
from sync.registry.database.store import Store, month_of
from sync.registry.ingest.ingest import Ingest
from sync.registry.reports import export
from sync.registry.retention.months import forget_before
from sync.transport.messages import BatchMessage
from sync.transport.topics import EVENTS, topic

UNITS, BATCH = 20, 50
MONTH_MS = 32 * 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Writers:
    """Twenty units; `round` is one batch of each, as the workers would get them."""

    def __init__(self, store: Store) -> None:
        self.clock_ms, self._dice = 0, random.Random(1)
        self.keys = {unit_id(f"site/unit-{number}"): FileSigner.generate() for number in range(UNITS)}
        self._logs = {unit: MemoryLog(unit, time.monotonic, self.now) for unit in self.keys}
        for unit, signer in self.keys.items():
            store.register(unit, key_to_der(signer.public_key()), now_ms())
        self._ingest = Ingest(store, FileSigner.generate(), self.now)

    def now(self) -> int:
        return now_ms() + self.clock_ms

    def round(self) -> float:
        """Seconds that ingest took for it."""
        messages: list[tuple[str, bytes]] = []
        for unit, log in self._logs.items():
            for _ in range(BATCH):
                log.append(simulated_event(self._dice, TENANT_KEY, self.now(), 0))
            log.seal(self.keys[unit])
            batch = log.batch_after(log.acknowledged)
            if batch is None:
                raise SystemExit("nothing was sealed")
            message = BatchMessage(
                unit, batch.first, batch.previous_chain, batch.first, batch.bodies, batch.head
            )
            messages.append((topic(unit, EVENTS), message.to_bytes()))
            log.acknowledge(batch.size, log._chain)
        began = time.perf_counter()
        self._ingest.process(messages)
        return time.perf_counter() - began

    def unsound(self, store: Store, records_key: FileSigner) -> list[UnitId]:
        return [
            unit
            for unit, signer in self.keys.items()
            if verify(
                export.bundle(store, unit).to_bytes(),
                signer.public_key(),
                registry_key=records_key.public_key(),
            ).findings
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ostiary-retention-") as name, contextlib.ExitStack() as stack:
        url = stack.enter_context(database(options.database, Path(name)))
        store, beside, signer = Store.open(url), Store.open(url), FileSigner.generate()
        writers = Writers(beside)
        writers.clock_ms = -MONTH_MS
        for _ in range(max(1, options.events // UNITS // BATCH)):
            writers.round()
        writers.clock_ms = 0
        before = max(writers.round() for _ in range(10))
        during: list[float] = []
        stop = threading.Event()

        def go_on() -> None:
            while not stop.is_set():
                during.append(writers.round())

        going = threading.Thread(target=go_on)
        going.start()
        began = time.perf_counter()
        done = forget_before(store, month_of(now_ms()), signer=signer, account="bench", now_ms=now_ms())
        took = time.perf_counter() - began
        stop.set()
        going.join()
        told = {
            "database": options.database,
            "events": done.events,
            "seconds": round(took, 2),
            "us_per_event": round(took / max(1, done.events) * 1e6, 1),
            "longest_round_before_s": round(before, 3),
            "longest_round_during_s": round(max(during), 3),
            "rounds_during": len(during),
            "units_whose_rest_is_not_sound": len(writers.unsound(store, signer)),
        }
        print(json.dumps(told))
        store.close()
        beside.close()


if __name__ == "__main__":
    main()
