"""Ingest, end to end and side by side: simulated units, mosquitto, TLS, verification, commit, receipt.

`python -m bench.registry.ingest --database sqlite --rate 5000 --seconds 10` prints one JSON object. It starts
its own broker and database.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.units.load import Simulation, SimulationSettings
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.registry.database.store import Store
from sync.registry.reports import export
from tests.sync.services import NOW, Mosquitto, postgres


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder}/registry.db"
        return
    with postgres() as cluster:
        yield cluster.url


def cpu_s(pids: list[int]) -> float:
    """User and system seconds of processes that still run."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(options: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="ostiary-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(database(options.database, folder))
        authority = Authority.open(folder / "pki", NOW)
        broker = Mosquitto(folder, authority, default=False)
        stack.callback(broker.remove)
        broker.start()
        receipts = FileSigner.load_or_create(folder / "receipts.key")
        settings = SimulationSettings(
            "127.0.0.1",
            broker.port,
            options.units,
            options.rate,
            options.seconds,
            options.seal_every,
        )
        simulation = Simulation(settings, authority, receipts.public_key())
        store = Store.open(url)
        stack.callback(store.close)
        for unit, key in simulation.keys.items():
            store.register(unit, key, time.time_ns() // 1_000_000)
        workers = []
        for number in range(options.workers):
            files = authority.issue(f"worker-{number + 1}", NOW)
            command = [sys.executable, "-c", "from device.cli import main; main()", "registry", "worker"]
            command += ["--database", url, "--broker", f"127.0.0.1:{broker.port}", "--ca", str(files.ca)]
            command += ["--cert", str(files.certificate), "--key", str(files.key)]
            command += ["--signing-key", str(folder / "receipts.key")]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            workers.append(process)
            stack.callback(process.wait)
            stack.callback(process.kill)
        time.sleep(2.0)
        before = cpu_s([process.pid for process in workers]), time.process_time()
        report = simulation.run()
        after = cpu_s([process.pid for process in workers]), time.process_time()
        rows = export.count(store)
        return {
            "database": options.database,
            "workers": options.workers,
            "load_average": os.getloadavg()[0],
            "rows": rows,
            "worker_cpu_us_per_event": round((after[0] - before[0]) / max(1, rows) * 1e6, 1),
            "simulator_cpu_us_per_event": round((after[1] - before[1]) / max(1, rows) * 1e6, 1),
            **dataclasses.asdict(report),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--rate", type=float, default=5000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seal-every", type=float, default=0.5)
    parser.add_argument("--workers", type=int, default=1)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
