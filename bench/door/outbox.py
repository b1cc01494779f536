"""How long an event takes to be on the disk: `Outbox.append`, alone and while the log is sealed and sent.

`python -m bench.door.outbox --events 2000` prints one JSON object per case. The disk is that of --folder; an
append is one WAL commit with `synchronous=FULL`, so this is what an fsync costs there, and our share of CPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.synchronize
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from bench.units.load import TENANT_KEY
from bench.units.memory_log import simulated_event
from sync.keys import FileSigner
from sync.outbox import Outbox
from sync.proofs import chain


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def measured(folder: Path, events: int, pause_s: float, sealing: bool) -> dict[str, object]:
    """Milliseconds per append; `pause_s` lets the door rest between attempts, as a door does."""
    path, dice = folder / "audit.db", random.Random(5)
    processes = multiprocessing.get_context("spawn")
    stop = processes.Event()
    with Outbox(path, unit="a/b", doors={"door-1"}, now_ms=now_ms) as log:
        log.next_boot()
        sender = processes.Process(target=send, args=(path, stop))
        if sealing:
            sender.start()
        took, cpu = [], time.thread_time()
        for number in range(events):
            event = simulated_event(dice, TENANT_KEY, now_ms(), number)
            started = time.perf_counter()
            log.append(event)
            took.append((time.perf_counter() - started) * 1e3)
            time.sleep(pause_s)
        cpu = time.thread_time() - cpu
        stop.set()
        if sealing:
            sender.join()
    cuts = statistics.quantiles(took, n=100)
    return {
        "events": events,
        "sealing_beside": sealing,
        "p50_ms": round(cuts[49], 3),
        "p95_ms": round(cuts[94], 3),
        "p99_ms": round(cuts[98], 3),
        "max_ms": round(max(took), 3),
        "cpu_ms": round(cpu / events * 1e3, 3),
        "load_average": os.getloadavg()[0],
    }


def send(path: Path, stop: multiprocessing.synchronize.Event) -> None:
    """What the sync process does with the same file: seal, read a batch, forget it."""
    signer = FileSigner.generate()
    with Outbox(path, unit="a/b", doors={"door-1"}, now_ms=now_ms) as log:
        while not stop.wait(0.02):
            log.seal(signer)
            done = log.status().acknowledged
            batch = log.batch_after(done)
            if batch is not None:
                log.acknowledge(batch.size, chain.extend(batch.previous_chain, batch.bodies))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--pause", type=float, default=0.002, help="Seconds between events.")
    parser.add_argument("--folder", type=Path, help="On the disk to be measured; else the temporary one.")
    options = parser.parse_args()
    for sealing in (False, True):
        with tempfile.TemporaryDirectory(prefix="ostiary-outbox-", dir=options.folder) as name:
            print(json.dumps(measured(Path(name), options.events, options.pause, sealing)), flush=True)


if __name__ == "__main__":
    main()
