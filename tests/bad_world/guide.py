"""The faults of the operator guide: each row of its table names the test or scenario that brings it about."""

from __future__ import annotations

import re
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
    """Runs the tests of these faults; how each ended, by its name."""
    outcomes = Outcomes()
    options = ("-q", "--no-header", "-p", "no:cacheprovider")
    pytest.main([*options, *(fault.test for fault in wanted)], plugins=[outcomes])
    return outcomes.ended
