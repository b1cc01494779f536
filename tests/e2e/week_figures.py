"""What a week left behind, as a table of figures and bounds, and as curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.e2e.week_door import Disk, Process

PARTS, T_95 = 10, 2.306
"""Neighbouring visits are not independent: a slope is that of the means of ten equal parts, and Student's t
has eight degrees of freedom."""
MB_PER_1000 = 2.0
"""2 kB kept by each visit: 210 MB in a year of 288 visits a day."""
RESIDENT_MB = 250.0
"""What a unit is promised to take. Not at most: a second hearing loads a model of 450 MB for some minutes."""
MORE = 2
"""Such as are there for a moment, as a look may find them; a leak is one at each visit or day."""
WRITTEN_KB = 150.0
"""288 visits a day write a card of 16 GB over once a year."""
FOLDER_KB, LOG_KB = 5.0, 2.0
"""Half a gigabyte a year; two fifths of it for the log, which keeps for a while what has a receipt."""
WAITING = 100
"""A third of a day's visits: an uplink that is up sends each within its five minutes."""
ALONE_LOG_KB = 4_000.0
"""Twice the 1,000 events, of up to 2 kB each, after which the log of a door on its own is moved to a file."""
FILES = 256
"""So many prints of attempts wait for the registry at most (`device/liveness/threats/print_box.py`)."""
BY_JUMPS = "FAULT tpm_fault"
"""A jump may come between the moment from which a TPM has half a minute to answer and the question itself:
counted, without a bound."""
FEW = 100
"""Visits of which a hundredth part is not one."""
WHOLE_WEEK, SETTLED = 7, 500
"""Days; and visits after which nothing may grow any more: caches are full by then."""


@dataclass
class Series:
    """What was looked at after each visit to the door with a fleet."""

    at_s: list[int] = field(default_factory=list)
    door: list[Process] = field(default_factory=list)
    uplink: list[Process] = field(default_factory=list)
    alone: list[Process] = field(default_factory=list)
    worker: list[Process] = field(default_factory=list)
    disk: list[Disk] = field(default_factory=list)
    disk_alone: list[Disk] = field(default_factory=list)
    registry_kb: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Daily:
    """What the days had to do, as its traces show it."""

    renewed: int
    """Certificates of the unit."""
    forgotten: int
    """Days on which somebody's consent ran out."""
    moved: int
    """Files that the log of the door on its own was moved to."""
    starts: int
    faults: Counter[str]
    events: int


@dataclass(frozen=True)
class Row:
    """`held` is None where there is no bound."""

    what: str
    measured: str
    bound: str = ""
    held: bool | None = None


def slope(values: Sequence[float]) -> tuple[float, float]:
    """Growth per 1,000 visits in the second half, and half of its 95 % interval."""
    half = np.asarray(values[len(values) // 2 :], float)
    size = len(half) // PARTS
    if size == 0:
        return 0.0, float("inf")
    means = half[: PARTS * size].reshape(PARTS, size).mean(axis=1)
    at = (np.arange(PARTS) + 0.5) * size / 1000
    grade, base = np.polyfit(at, means, 1)
    left = means - grade * at - base
    spread = np.sqrt(np.sum(left**2) / (PARTS - 2) / np.sum((at - at.mean()) ** 2))
    return float(grade), T_95 * float(spread)


def rows(series: Series, daily: Daily, outcomes: Counter[str], wrong: Sequence[str]) -> list[Row]:
    """Every figure with its bound."""
    count = len(series.at_s)
    days = series.at_s[-1] / 86_400
    whole = days > WHOLE_WEEK - 0.2
    found = [Row("visits to the door with a fleet; days", f"{count:,}; {days:.1f}")]
    found += [Row(f"outcome: {name}", f"{n:,}") for name, n in sorted(outcomes.items())]
    found.append(_at_most("opened for somebody who was not to pass", len(wrong), 0))
    for name, of in (("door", series.door), ("uplink", series.uplink), ("door on its own", series.alone)):
        found += _process(name, of)
    written = (series.door[-1].written_kb + series.uplink[-1].written_kb) - (
        series.door[0].written_kb + series.uplink[0].written_kb
    )
    found.append(_at_most("written by door and uplink, kB a visit", written / max(1, count - 1), WRITTEN_KB))
    disk, alone = series.disk, series.disk_alone
    found += [
        _grows("state folder, kB a visit", [one.all_kb for one in disk], FOLDER_KB, per=1000),
        _grows("log with a registry, kB a visit", [one.log_kb for one in disk], LOG_KB, per=1000),
        Row("state folder at the end, MB; files", f"{disk[-1].all_kb / 1000:.1f}; {disk[-1].files}"),
        _at_most("files in the state folder, more than after a tenth", _more([d.files for d in disk]), FILES),
        _at_most("events that waited for the registry, at most", max(one.pending for one in disk), WAITING),
        _at_most("log on its own at most, kB", max(one.log_kb for one in alone), ALONE_LOG_KB),
        Row("its files at the end, kB", f"{alone[-1].archive_kb:.0f}"),
        Row("the registry's database at the end, kB", f"{series.registry_kb[-1]:,.0f}"),
        Row("events at the registry", f"{daily.events:,}"),
        _at_most("starts of the door after the first", daily.starts - 1, 0),
        _at_most("faults in the log", sum(n for kind, n in daily.faults.items() if kind != BY_JUMPS), 0),
        Row("faults that the jumps bring about", f"{daily.faults[BY_JUMPS]}"),
        _at_least("certificates renewed", daily.renewed, 1, whole),
        _at_least("days on which a consent ran out", daily.forgotten, 1, whole),
        _at_least("times that the log on its own was moved", daily.moved, 1, whole),
    ]
    return found


def _resident(name: str, mb: Sequence[float]) -> Row:
    """A second hearing holds some 450 MB for a minute of the real time: of a few visits, in nearly all."""
    if len(mb) < FEW:
        return _at_most(f"{name}: resident, least of fewer than {FEW} visits, MB", min(mb), RESIDENT_MB)
    return _at_most(f"{name}: resident, 99 of 100 visits, MB", float(np.percentile(mb, 99)), RESIDENT_MB)


def _process(name: str, of: Sequence[Process]) -> list[Row]:
    private, resident = [one.private_mb for one in of], [one.resident_mb for one in of]
    early = private[len(private) // 10]
    used = (of[-1].processor_s - of[0].processor_s) / max(1, len(of) - 1)
    return [
        Row(f"{name}: own memory after a tenth, at the end, MB", f"{early:.1f}, {private[-1]:.1f}"),
        _grows(f"{name}: own memory, MB per 1,000 visits", private, MB_PER_1000),
        _resident(name, resident),
        Row(f"{name}: resident at most, MB", f"{max(resident):.1f}"),
        _at_most(f"{name}: open files, more than after a tenth", _more([one.files for one in of]), MORE),
        _at_most(f"{name}: threads, more than after a tenth", _more([one.threads for one in of]), MORE),
        Row(f"{name}: processor time, s a visit", f"{used:.2f}"),
    ]


def _more(counts: Sequence[int]) -> int:
    """The most of the last tenth over the most of the first: what comes and goes is in both."""
    tenth = max(1, len(counts) // 10)
    return max(counts[-tenth:]) - max(counts[:tenth])


def _grows(what: str, values: Sequence[float], bound: float, per: float = 1.0) -> Row:
    grade, within = (part / per for part in slope(values))
    held = grade + within <= bound if len(values) >= SETTLED else None
    return Row(what, f"{grade:+.2f} +/- {within:.2f}", f"upper end <= {bound:g}", held)


def _at_most(what: str, value: float, bound: float) -> Row:
    return Row(what, f"{value:,.1f}".removesuffix(".0"), f"<= {bound:g}", value <= bound)


def _at_least(what: str, value: int, bound: int, applies: bool) -> Row:
    return Row(what, str(value), f">= {bound} in a whole week", value >= bound if applies else None)


def plot(series: Series, path: Path) -> None:
    """The curves over the days; every legend stands above its picture, where no curve is."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    door, uplink, alone = series.door, series.uplink, series.alone
    folder, own = series.disk, series.disk_alone
    shown: tuple[tuple[str, dict[str, Sequence[float]]], ...] = (
        ("own memory, MB", {
            "door": [one.private_mb for one in door], "door on its own": [one.private_mb for one in alone],
            "uplink": [one.private_mb for one in uplink],
        }),
        ("open files and threads", {
            "door's files": [one.files for one in door], "threads": [one.threads for one in door],
            "uplink's files": [one.files for one in uplink], "threads ": [one.threads for one in uplink],
        }),
        ("disk, kB", {
            "state folder": [one.all_kb for one in folder], "its log": [one.log_kb for one in folder],
            "log on its own": [one.log_kb for one in own], "its files": [one.archive_kb for one in own],
        }),
        ("written since the start, MB", {
            "door": [(one.written_kb - door[0].written_kb) / 1000 for one in door],
            "uplink": [(one.written_kb - uplink[0].written_kb) / 1000 for one in uplink],
        }),
    )  # fmt: skip
    days = [at_s / 86_400 for at_s in series.at_s]
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), sharex=True)
    for place, (name, curves) in zip(axes.flat, shown, strict=True):
        for label, values in curves.items():
            place.plot(days, values, linewidth=0.8, label=label)
        place.set(ylabel=name, ylim=(0, None))
        for midnight in range(1, int(days[-1]) + 1):
            place.axvline(midnight, color="0.85", linewidth=0.6, zorder=0)
        place.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, fontsize=8)
    for place in axes[1]:
        place.set_xlabel("days")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
