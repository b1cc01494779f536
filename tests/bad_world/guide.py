"""The faults of the operator guide: each row of its table names the test or scenario that brings it about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAYED = "scripts/bad-world --only "
PAGE = ROOT / "docs" / "operator" / "faults.md"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the guide."""

    what: str
    state: str
    event: str
    remedy: str
    test: str

    @property
    def scenario(self) -> str:
        """Which scenario brings it about; empty where a test does."""
        return self.test.removeprefix(PLAYED) if self.test.startswith(PLAYED) else ""


def faults(page: str) -> list[Fault]:
    """The rows of the guide's table, in order."""
    rows = [
        line.strip("|").split("|")
        for line in page.splitlines()
        if re.search(r"`(tests/\S+::\S+|{PLAYED}\S+)` \|$".replace("{PLAYED}", PLAYED), line)
    ]
    return [Fault(*(cell.strip() for cell in cells[:4]), cells[4].strip(" `")) for cells in rows]


class Outcomes:
    """A pytest plugin that remembers how each test ended."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The worst of a test's cases counts for all of them."""
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("[")[0]
            if self.ended.get(name, "passed") == "passed":
                self.ended[name] = report.outcome


def played(wanted: list[Fault]) -> dict[str, str]:
    """Runs the tests of these faults in a process of their own, since tests change the environment of theirs;
    how each ended, by its name."""
    command = [sys.executable, "-m", "tests.bad_world.guide", *(fault.test for fault in wanted)]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    told = ran.stdout.splitlines()
    print(*told[:-1], sep="\n", file=sys.stderr, flush=True)
    ended: dict[str, str] = json.loads(told[-1])
    return ended


def main(tests: list[str]) -> None:
    """Run these, and print as JSON how each ended."""
    outcomes = Outcomes()
    options = ("-q", "--no-header", "-p", "no:cacheprovider")
    pytest.main([*options, *tests], plugins=[outcomes])
    print(f"\n{json.dumps(outcomes.ended)}")


if __name__ == "__main__":
    main(sys.argv[1:])
