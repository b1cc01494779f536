"""Plays the scenarios, prints the table, and says by its exit code whether each ended as it must.

What takes many minutes mostly waits: it is played beside the rest, each with a sound server of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.bad_world import (
    clocks_and_disks,
    disks,
    long_ones,
    machine,
    networks,
    odd_clocks,
    sounds_and_badges,
)
from tests.bad_world.guide import PAGE, faults, played
from tests.bad_world.world import NotCheckedError, Scenario, World
from tests.e2e.sound_server import SoundServer, require_sound
from tests.speech import readings

SECONDS = (
    *clocks_and_disks.SCENARIOS,
    *odd_clocks.SCENARIOS,
    *disks.SCENARIOS,
    *sounds_and_badges.SCENARIOS,
    *machine.SCENARIOS,
    *networks.SCENARIOS,
)
REACHED, WRONG, NOT_CHECKED = "reached", "WRONG", "NOT CHECKED"
Row = tuple[str, str, str, str, str]


def rows_of(scenarios: tuple[Scenario, ...]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bad-world-") as folder:
        return rows_in(scenarios, Path(folder))


def rows_in(scenarios: tuple[Scenario, ...], folder: Path) -> list[Row]:
    """(what happened, what the person saw, what the log says, how it recovered, verdict) of each."""
    require_sound()
    reader = readings("librivox", "transcription")
    rows = []
    with SoundServer() as sound:
        world = World.made(folder, sound, reader)
        for scenario in scenarios:
            what = (scenario.__doc__ or "").strip()
            print(f"{datetime.now():%H:%M} {scenario.__name__}: {what}", file=sys.stderr, flush=True)
            try:
                rows.append((what, *scenario(world), REACHED))
            except (NotCheckedError, pytest.skip.Exception) as err:
                rows.append((what, str(err), "", "", NOT_CHECKED))
            except (AssertionError, OSError, subprocess.SubprocessError, LookupError, ValueError) as err:
                traceback.print_exc()
                rows.append((what, f"{type(err).__name__}: {str(err)[:200]}", "", "", WRONG))
    return rows


def rows_of_the_guide() -> list[Row]:
    """Of the faults that a test of the suite brings about."""
    wanted = [fault for fault in faults(PAGE.read_text("utf-8")) if not fault.scenario]
    ended = played(wanted)
    verdicts = {"passed": REACHED, "skipped": NOT_CHECKED}
    return [
        (one.what, one.state, one.event, one.remedy, verdicts.get(ended.get(one.test, "not run"), WRONG))
        for one in wanted
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bad-world", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the scenarios of seconds alone")
    parser.add_argument("--only", metavar="NAME", action="append", help="scenarios by name; again for more")
    chosen = parser.parse_args()
    every = (*SECONDS, *long_ones.SCENARIOS)
    if chosen.only:
        scenarios = tuple(one for one in every if one.__name__ in chosen.only)
        if not scenarios:
            parser.error(f"no such scenario; there are {', '.join(one.__name__ for one in every)}")
        rows = rows_of(scenarios)
    elif chosen.quick:
        rows = rows_of(SECONDS)
    else:
        with ThreadPoolExecutor() as pool:
            beside = [pool.submit(rows_of, (scenario,)) for scenario in long_ones.SCENARIOS]
            guide = pool.submit(rows_of_the_guide)
            rows = rows_of(SECONDS) + guide.result()
            rows += [row for one in beside for row in one.result()]
    table = Table("what happened", "what the person saw", "what the log says", "how it recovered", "")
    for row in rows:
        table.add_row(*row)
    Console(width=180).print(table)
    return 0 if all(row[-1] == REACHED for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
