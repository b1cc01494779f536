"""Attempt after attempt in one process: does it grow, how much does it write, what does listening cost?

    python -m bench.door.soak                   2,016 attempts, one in five minutes of the unit's clock
    python -m bench.door.soak --attempts 60     the quick form
    python -m bench.door.soak --minutes 30      as many as fit
    python -m bench.door.soak --out DIR         every attempt's figures and a plot, too

The unit is whole: real models, a TPM in software, the vault, the audit log, the memory of utterances, and
what a running unit does for itself every five minutes. Five recordings of one reader are spoken in turn as
fast as they can be judged; the reader is enrolled, the words are never those asked for, and what the attempt
limits count is pardoned after each. Only the clock is ours, and the judge's limit, which is a minute: so that
a machine with other work to do is slow here, and does not refuse people as a door must. Bytes written are
what the kernel counts for this process. Memory is what the process has after an attempt, while nobody is at
the door: what it listens with (RSS), the same with what is shared counted by its share (PSS), and what the C
library's allocator has given out and not got back: that grows where something leaks. Slopes are
those of the second half, each with the interval that 95 % of such runs would have: of the means of ten equal
parts, because neighbouring attempts are not independent.
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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.door.allocated import allocated_bytes
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
from device.unit.upkeep import Upkeep

UID = "4711"
STEP_S = 300.0
JUDGE_LIMIT_S = 60.0
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


def proportional_mb() -> float:
    """PSS: what is shared with other processes counts by its share."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.split("\nPss:")[1].split()[0]) * 1.024e-3


def written_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_oublock * 512


def folder_size(folder: Path) -> tuple[int, int]:
    """Bytes and files."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


@dataclass(slots=True)
class Series:
    """What is looked at after each attempt."""

    memory_mb: list[float] = field(default_factory=list)
    proportional_mb: list[float] = field(default_factory=list)
    allocated_kb: list[float] = field(default_factory=list)
    folder_kb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    written_kb: list[float] = field(default_factory=list)

    def look(self, folder: Path, written: float) -> None:
        size, files = folder_size(folder)
        self.memory_mb.append(round(resident_mb(), 3))
        self.proportional_mb.append(round(proportional_mb(), 3))
        self.allocated_kb.append(allocated_bytes() / 1e3)
        self.folder_kb.append(size / 1e3)
        self.files.append(files)
        self.descriptors.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        self.threads.append(sum(1 for _ in Path("/proc/self/task").iterdir()))
        self.written_kb.append(written / 1e3)


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


def soak(attempts: int, folder: Path, minutes: float) -> tuple[dict[str, float], Series]:
    """Figures by name, and what each attempt left."""
    until_s = time.monotonic() + 60 * minutes
    recordings = sorted(SPEECH.glob("*.wav"))
    week, nobody, stop = Week(), Nobody(), threading.Event()
    outcomes: Counter[str] = Counter()
    series, cpu_s = Series(), 0.0
    with SwTpm(folder / "tpm") as tpm:
        made = Settings()
        judge = replace(made.judge, timeout_s=JUDGE_LIMIT_S)
        settings = replace(made, store=tpm.settings(), judge=judge)
        state = folder / "state"
        with open_unit(settings, state, models_dir(), week) as unit:
            enrolment = named([recordings[n] for n in (0, 2, 3)])
            enrol(Tools(unit.judge, unit.store, settings, state), UID, enrolment, reason="operator")
            upkeep = Upkeep(unit, settings.door.name)
            size, _ = folder_size(state)
            for number in track(range(attempts), description="attempts", transient=True):
                before, before_s = written_bytes(), time.process_time()
                source = FileSource(recordings[number % len(recordings)])
                claim = Claim(ClaimKind.BADGE, UID)
                for decision in run(unit, [claim], source, settings.door.name, nobody, nobody, stop):  # type: ignore[arg-type]
                    outcomes[decision.outcome] += 1
                cpu_s += time.process_time() - before_s
                unit.controller.pardon(UID)
                week.skipped_s += STEP_S
                upkeep.look()
                series.look(state, written_bytes() - before)
                if time.monotonic() > until_s:
                    break
            attempts = len(series.memory_mb)
            grown = folder_size(state)[0] - size
    half = attempts // 2
    memory_grows, memory_within = slope(series.memory_mb[half:])
    folder_grows, folder_within = slope(series.folder_kb[half:])
    allocated_grows, allocated_within = slope(series.allocated_kb[half:])
    listening_s = 10.0
    before_s = time.process_time()
    for _ in listen(Quiet(listening_s), threading.Event()):
        pass
    early = attempts // 10
    found = {
        "attempts": attempts,
        "days of the unit's clock": attempts * STEP_S / 86_400,
        "doors opened (must be 0)": nobody.opened,
        "resident after a tenth, MB": series.memory_mb[early],
        "resident at the end, MB": series.memory_mb[-1],
        "proportional (PSS) after a tenth, MB": series.proportional_mb[early],
        "proportional (PSS) at the end, MB": series.proportional_mb[-1],
        "resident at most, MB": float(max(series.memory_mb)),
        "resident's growth, MB per 1,000 attempts": memory_grows,
        "... +/-": memory_within,
        "allocated at the end, MB": series.allocated_kb[-1] / 1e3,
        "allocated memory's growth, kB per attempt": allocated_grows / 1000,
        "... +/- (kB an attempt)": allocated_within / 1000,
        "open files after a tenth": series.descriptors[early],
        "open files at the end": series.descriptors[-1],
        "threads after a tenth": series.threads[early],
        "threads at the end": series.threads[-1],
        "files in the state folder after a tenth": series.files[early],
        "files in the state folder at the end": series.files[-1],
        "written per attempt, kB": float(np.mean(series.written_kb)),
        "written by one attempt at most, kB": float(max(series.written_kb)),
        "state folder's growth per attempt, kB": grown / attempts / 1e3,
        "state folder's growth in the second half, kB per attempt": folder_grows / 1000,
        "... +/- (kB)": folder_within / 1000,
        "processor time per attempt, s": cpu_s / attempts,
        "listening to a quiet room, % of a core": 100 * (time.process_time() - before_s) / listening_s,
    }
    return {**found, **{f"decisions: {name}": count for name, count in sorted(outcomes.items())}}, series


def plot(series: Series, path: Path) -> None:
    """Memory, state folder, open files and bytes written over the attempts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown: tuple[tuple[str, Sequence[float]], ...] = (
        ("resident, MB", series.memory_mb),
        ("state folder, kB", series.folder_kb),
        ("open files", series.descriptors),
        ("written by an attempt, kB", series.written_kb),
    )
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 5), sharex=True)
    for place, (name, values) in zip(axes.flat, shown, strict=True):
        place.plot(values, linewidth=0.7)
        place.set(title=name, ylim=(0, 1.15 * max(values)))
    for place in axes[1]:
        place.set_xlabel("attempts")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attempts", type=int, default=2016)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop then, whatever is done")
    parser.add_argument("--out", type=Path, help="folder for soak.json and soak.png")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        found, series = soak(options.attempts, Path(folder), options.minutes)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "soak.json").write_text(json.dumps({"found": found, "series": asdict(series)}))
        plot(series, options.out / "soak.png")
    if options.json:
        print(json.dumps(found))
        return
    table = Table("a simulated week", "")
    for name, value in found.items():
        table.add_row(name, f"{value:,.2f}".rstrip("0").rstrip("."))
    Console().print(table)


if __name__ == "__main__":
    main()
