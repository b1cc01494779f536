"""A door that decides as fast as it is told to, as its own process: `python -m tests.e2e.sync_unit`.

It appends events to an outbox and writes each number to a promise file once `append` has returned. Killed
and started again, it goes on where the outbox says.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from sync.outbox import Outbox, OutboxLimits
from tests.sync.parts import DOORS, event


def main(outbox: Path, unit: str, total: int, pause_s: float) -> None:
    limits = OutboxLimits(ballast_bytes=1 << 16)
    promises = os.open(outbox.with_suffix(".promised"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with Outbox(
        outbox, unit=unit, doors=DOORS, now_ms=lambda: time.time_ns() // 1_000_000, limits=limits
    ) as box:
        boot = box.next_boot()
        started = time.monotonic()
        while (number := box.status().sequence) < total:
            stored = box.append(
                event(
                    number,
                    boot=boot,
                    time_ms=now_ms(),
                    monotonic_ms=int((time.monotonic() - started) * 1000),
                )
            )
            if stored is not None:
                os.write(promises, f"{stored.sequence} {stored.chain.hex()}\n".encode())
            time.sleep(pause_s)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
