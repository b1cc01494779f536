"""A day of the week, short: who may pass is let in and nobody else, and each figure has its bound."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.e2e.week_door import Disk, Process
from tests.e2e.week_figures import Daily, Series, rows, slope
from tests.speech import require_tools

ROOT = Path(__file__).resolve().parents[2]
WELL = Daily(renewed=1, forgotten=2, moved=1, starts=1, faults=Counter(), events=3000)


def made(private_mb: Callable[[int], float], visits: int = 2000) -> Series:
    """A week in which the door's own memory is as told, and all else stands still."""
    still = [Process(30.0, 40.0, 70.0, 12, 4, 4.0 * n, 0.1 * n) for n in range(visits)]
    door = [Process(mb := private_mb(n), 40.0, mb + 40.0, 14, 7, 60.0 * n, 0.4 * n) for n in range(visits)]
    disk = [Disk(12_000.0, 900.0, 0.0, 30, 0)] * visits
    at_s = [int((n + 1) / visits * 7 * 86_400) for n in range(visits)]
    return Series(at_s, door, still, still, still, disk, disk, [500.0] * visits)


def broken(series: Series, daily: Daily = WELL, wrong: Sequence[str] = ()) -> list[str]:
    return [row.what for row in rows(series, daily, Counter(), wrong) if row.held is False]


def test_a_week_in_which_nothing_grows_breaks_no_bound() -> None:
    assert broken(made(lambda n: 170.0 + n % 7)) == []


@pytest.mark.parametrize("leak_kb", [2.5, 20.0])
def test_a_leak_of_a_few_kilobytes_a_visit_breaks_one(leak_kb: float) -> None:
    assert broken(made(lambda n: 170.0 + leak_kb * n / 1000 + n % 7))[0] == (
        "door: own memory, MB per 1,000 visits"
    )


def test_what_a_day_did_not_do_or_did_wrongly_breaks_one() -> None:
    still = made(lambda n: 170.0)
    assert broken(still, wrong=["4711"]) == ["opened for somebody who was not to pass"]
    idle = Daily(
        renewed=0, forgotten=0, moved=0, starts=2, faults=Counter({"FAULT store_fault": 1}), events=1
    )
    assert broken(still, idle) == [
        "starts of the door after the first",
        "faults in the log",
        "certificates renewed",
        "days on which a consent ran out",
        "times that the log on its own was moved",
    ]


def test_a_slope_is_of_the_second_half_and_has_an_interval() -> None:
    grade, within = slope([*range(1000), *(1000 + n / 2 + (n % 2) for n in range(1000))])
    assert grade == pytest.approx(500.0, abs=1.0)
    assert within < 5.0
    assert slope([1.0] * 4) == (0.0, float("inf"))


@pytest.mark.slow
@pytest.mark.e2e
def test_a_day_of_ten_visits_at_real_processes(tmp_path: Path) -> None:
    require_tools(["flite", "swtpm", "mosquitto", "cc"], "flite swtpm mosquitto gcc")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.e2e.week", "--days", "1", "--visits", "10", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert "door GRANTED" in ran.stdout, ran.stdout + ran.stderr[-2000:]
    assert ran.returncode == 0, ran.stdout
    assert (tmp_path / "week.png").exists()
