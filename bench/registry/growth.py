"""What one event costs as the registry grows: verify, place, insert, commit, measured at powers of ten.

`python -m bench.registry.growth --rows 1000000 --out DIR` fills a registry with rows and, at each step, sends
the same number of signed batches through the ingest worker's own code. CPU seconds are this process's
(SQLite works inside it); wall seconds include the disk and whatever else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from bench.registry.ingest import database
from bench.units.load import TENANT_KEY
from bench.units.memory_log import MemoryLog, simulated_event
from sync.event_form import read_event
from sync.events import Record, UnitId, unit_id
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry.database.store import Store
from sync.registry.ingest.ingest import Ingest
from sync.transport.messages import BatchMessage
from sync.transport.topics import EVENTS, topic

UNITS = 50
BATCH = 50
ROUNDS, WARM_UP_ROUNDS = 8, 2
FILL = 5000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def measured(
    ingest: Ingest,
    logs: dict[UnitId, tuple[MemoryLog, FileSigner]],
    dice: random.Random,
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """CPU and wall microseconds per event: the median of `rounds` rounds of a batch per unit, and the least.

    On a machine that others use too the least is nearest to what the work itself costs.
    """
    cpu, wall = [], []
    for _ in range(rounds):
        messages = []
        for unit, (log, signer) in logs.items():
            for _ in range(BATCH):
                log.append(simulated_event(dice, TENANT_KEY, now_ms(), 0))
            log.seal(signer)
            batch = log.batch_after(log.acknowledged)
            if batch is None:
                raise RuntimeError("nothing was sealed")
            message = BatchMessage(
                unit, batch.first, batch.previous_chain, batch.first, batch.bodies, batch.head
            )
            messages.append((topic(unit, EVENTS), message.to_bytes()))
        started = time.process_time(), time.perf_counter()
        ingest.process(messages)
        cpu.append((time.process_time() - started[0]) / (UNITS * BATCH) * 1e6)
        wall.append((time.perf_counter() - started[1]) / (UNITS * BATCH) * 1e6)
        for log, _ in logs.values():
            log.acknowledge(log.sealed, log._chain)
    return {
        "cpu_us": round(statistics.median(cpu), 1),
        "wall_us": round(statistics.median(wall), 1),
        "least_cpu_us": round(min(cpu), 1),
        "least_wall_us": round(min(wall), 1),
    }


def fill(store: Store, dice: random.Random, start: int, count: int) -> None:
    """Rows of units that send nothing more: the ballast a registry collects over months.

    A few hundred events are used again and again under new numbers: only their size matters here.
    """
    made = [simulated_event(dice, TENANT_KEY, now_ms(), 0) for _ in range(300)]
    bodies = [Record(unit_id("old/unit"), 1_000_000, event).to_bytes() for event in made]
    read = [read_event(body) for body in bodies]
    names = [unit_id(f"old-{number}/unit-{number}") for number in range(700)]
    while count > 0:
        rows = []
        for _ in range(min(FILL, count)):
            place = start % 300
            record = read[place]._replace(unit=names[start % 700], sequence=start // 700 + 1)
            rows.append((record, bodies[place], now_ms()))
            start += 1
        with store.transaction() as db:
            store.add_events(db, rows)
        count -= len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--out", type=Path, help="Folder for growth.json and growth.png.")
    options = parser.parse_args()
    dice = random.Random(3)
    points = []
    with tempfile.TemporaryDirectory(prefix="ostiary-growth-") as name, contextlib.ExitStack() as stack:
        url = stack.enter_context(database(options.database, Path(name)))
        store = Store.open(url)
        logs = {}
        for number in range(UNITS):
            unit, signer = unit_id(f"new/unit-{number}"), FileSigner.generate()
            store.register(unit, key_to_der(signer.public_key()), now_ms())
            logs[unit] = (MemoryLog(unit, time.monotonic, now_ms), signer)
        ingest = Ingest(store, FileSigner.generate(), now_ms)
        measured(ingest, logs, dice, WARM_UP_ROUNDS)
        rows = filled = WARM_UP_ROUNDS * UNITS * BATCH
        step = 10_000
        while step <= options.rows:
            for target in (step, 3 * step):
                if rows < target <= options.rows:
                    fill(store, dice, filled, target - rows)
                    filled += target - rows
                    rows = target
                if target <= options.rows:
                    point = {"rows": rows, **measured(ingest, logs, dice)}
                    rows += ROUNDS * UNITS * BATCH
                    points.append(point)
                    print(json.dumps({"database": options.database, **point}), flush=True)
            step *= 10
        store.close()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"growth-{options.database}.json").write_text(json.dumps(points, indent=1))
        plot(points, options.out / f"growth-{options.database}.png", options.database)


def plot(points: list[dict[str, float]], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.8))
    curves = {
        "cpu_us": "CPU, median",
        "least_cpu_us": "CPU, least",
        "wall_us": "wall, median",
        "least_wall_us": "wall, least",
    }
    for name, label in curves.items():
        axes.plot([p["rows"] for p in points], [p[name] for p in points], marker="o", label=label)
    axes.set(xscale="log", xlabel=f"rows in the registry ({title})", ylabel="microseconds per event")
    axes.set_ylim(bottom=0)
    # Above the picture, where no curve is.
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
