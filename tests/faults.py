"""Runs the tests that the operator guide names for its faults, and prints its table with what came out."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operator" / "faults.md"
SLOW = ("test_power_cuts.py",)


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the guide."""

    what: str
    state: str
    event: str
    remedy: str
    test: str


def faults(page: str) -> list[Fault]:
    """The rows of the guide's table, in order."""
    rows = [
        line.strip("|").split("|") for line in page.splitlines() if re.search(r"`tests/\S+::\S+` \|$", line)
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


def main(arguments: list[str]) -> int:
    wanted = [
        fault
        for fault in faults(PAGE.read_text("utf-8"))
        if "--quick" not in arguments or not any(name in fault.test for name in SLOW)
    ]
    outcomes = Outcomes()
    pytest.main(
        ["-q", "--no-header", "-p", "no:cacheprovider", *(fault.test for fault in wanted)], plugins=[outcomes]
    )
    table = Table("fault", "state that must be reached", "event", "reached")
    for fault in wanted:
        table.add_row(fault.what, fault.state, fault.event, outcomes.ended.get(fault.test, "not run"))
    Console(width=150).print(table)
    return 0 if all(outcomes.ended.get(fault.test) == "passed" for fault in wanted) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
