"""A week at a busy door in minutes: does the unit grow, how much does it write, what does listening cost?

    .venv/bin/python bench/soak.py                   2,016 attempts, one in five minutes of the unit's clock
    .venv/bin/python bench/soak.py --attempts 60     the quick form
    .venv/bin/python bench/soak.py --minutes 30      as many as fit

The unit is whole: real models, a TPM in software, the vault, the audit log, the memory of utterances. Five
recordings of one reader are spoken in turn as fast as they can be judged; the reader is enrolled, the words
are never those asked for, and what the attempt limits count is pardoned after each. Only the clock is ours.
Memory is what stays resident; bytes written are what the kernel counts for this process. Slopes are those of
the second half, each with the interval that 95 % of such runs would have: of the means of ten equal parts,
because neighbouring attempts are not independent.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.access.challenge import Challenge
from device.access.claims import Claim, ClaimKind
from device.access.decision import Decision
from device.app import run
from device.audio import FileSource, Frame, listen
from device.audio.utterance import FRAME_SAMPLES
from device.clock import Now
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import Settings, models_dir
from device.unit.assembly import open_unit
from device.unit.enrolment import Tools, enrol, named

UID = "4711"
STEP_S = 300.0
SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")


@dataclass(slots=True)
class Week:
    """The unit's clock: real time within an attempt, five minutes more for each one that is over."""

    started_s: float = field(default_factory=time.monotonic)
    skipped_s: float = 0.0

    def __call__(self) -> Now:
        passed_s = time.monotonic() - self.started_s + self.skipped_s
        return Now(datetime(2026, 11, 2, 6, tzinfo=UTC) + timedelta(seconds=passed_s), passed_s)


class Nobody:
    """A display that nobody looks at and a door that never moves."""

    opened = 0

    def ask_name(self) -> None: ...

    def speaking(self) -> None: ...

    def judging(self) -> None: ...

    def tell(self, event: Challenge | Decision) -> None: ...

    def obey(self, decision: Decision) -> None:
        self.opened += decision.opens


class Quiet:
    """A quiet room at the speed of a microphone, for `seconds`."""

    def __init__(self, seconds: float) -> None:
        rng = np.random.default_rng(1)
        self._frames = [rng.normal(0, 30, FRAME_SAMPLES).astype(np.int16) for _ in range(int(seconds * 50))]

    def frames(self, stop: threading.Event):  # type: ignore[no-untyped-def]
        started_s = time.monotonic()
        for number, samples in enumerate(self._frames, start=1):
            stop.wait(max(0.0, started_s + number * 0.02 - time.monotonic()))
            yield Frame(samples)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def written_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_oublock * 512


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


PARTS = 10
T_95 = 2.306
"""Student's t for eight degrees of freedom, both sides."""


def slope(values: list[float]) -> tuple[float, float]:
    """Growth per 1,000 attempts, and half of its 95 % interval; of the means of ten equal parts."""
    size = len(values) // PARTS
    if size == 0:
        return 0.0, float("inf")
    means = np.array([np.mean(values[n * size : (n + 1) * size]) for n in range(PARTS)])
    at = (np.arange(PARTS) + 0.5) * size / 1000
    grade, base = np.polyfit(at, means, 1)
    left = means - grade * at - base
    spread = float(np.sqrt(np.sum(left**2) / (PARTS - 2) / np.sum((at - at.mean()) ** 2)))
    return float(grade), T_95 * spread


def soak(attempts: int, folder: Path, minutes: float) -> dict[str, float]:
    """Figures by name."""
    until_s = time.monotonic() + 60 * minutes
    recordings = sorted(SPEECH.glob("*.wav"))
    week, nobody, stop = Week(), Nobody(), threading.Event()
    outcomes: Counter[str] = Counter()
    memory_mb: list[float] = []
    folder_kb: list[float] = []
    with SwTpm(folder / "tpm") as tpm:
        settings = replace(Settings(), store=tpm.settings())
        state = folder / "state"
        with open_unit(settings, state, models_dir(), week) as unit:
            enrolment = named([recordings[n] for n in (0, 2, 3)])
            enrol(Tools(unit.judge, unit.store, settings, state), UID, enrolment, reason="operator")
            written, cpu_s, size = 0, 0.0, folder_bytes(state)
            for number in track(range(attempts), description="attempts", transient=True):
                before, before_s = written_bytes(), time.process_time()
                source = FileSource(recordings[number % len(recordings)])
                claim = Claim(ClaimKind.BADGE, UID)
                for decision in run(unit, [claim], source, settings.door.name, nobody, nobody, stop):  # type: ignore[arg-type]
                    outcomes[decision.outcome] += 1
                written += written_bytes() - before
                cpu_s += time.process_time() - before_s
                unit.controller.pardon(UID)
                week.skipped_s += STEP_S
                memory_mb.append(resident_mb())
                folder_kb.append(folder_bytes(state) / 1e3)
                if time.monotonic() > until_s:
                    break
            attempts = len(memory_mb)
            grown = folder_bytes(state) - size
    memory_grows, memory_within = slope(memory_mb[attempts // 2 :])
    folder_grows, folder_within = slope(folder_kb[attempts // 2 :])
    listening_s = 10.0
    before_s = time.process_time()
    for _ in listen(Quiet(listening_s), threading.Event()):
        pass
    found = {
        "attempts": attempts,
        "days of the unit's clock": attempts * STEP_S / 86_400,
        "doors opened (must be 0)": nobody.opened,
        "resident after a tenth, MB": memory_mb[len(memory_mb) // 10],
        "resident at the end, MB": memory_mb[-1],
        "resident's growth, MB per 1,000 attempts": memory_grows,
        "... +/-": memory_within,
        "written per attempt, kB": written / attempts / 1e3,
        "state folder's growth per attempt, kB": grown / attempts / 1e3,
        "state folder's growth in the second half, kB per attempt": folder_grows / 1000,
        "... +/- (kB)": folder_within / 1000,
        "processor time per attempt, s": cpu_s / attempts,
        "listening to a quiet room, % of a core": 100 * (time.process_time() - before_s) / listening_s,
    }
    return {**found, **{f"decisions: {name}": count for name, count in sorted(outcomes.items())}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attempts", type=int, default=2016)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop then, whatever is done")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        found = soak(options.attempts, Path(folder), options.minutes)
    if options.json:
        print(json.dumps(found))
        return
    table = Table("a simulated week", "")
    for name, value in found.items():
        table.add_row(name, f"{value:,.2f}".rstrip("0").rstrip("."))
    Console().print(table)


if __name__ == "__main__":
    main()
