"""Rules of a large hospital take as long as they have lines, not as people times doors."""

from __future__ import annotations

import time

from device.access.rules import parse_rules
from device.access.rules.summary import remarks, summary
from tests.big_rules import big_rules
from tests.device.access.rules.test_summary import NOW


def work_s(people: int, doors: int) -> float:
    """CPU seconds for what `ostiary policy check` does."""
    began_s = time.process_time()
    rules = parse_rules(big_rules(people, doors))
    told = [*summary(rules), *remarks(rules, NOW)]
    assert len(told) == doors + 1
    return time.process_time() - began_s


def test_four_times_the_people_and_doors_are_about_four_times_the_work() -> None:
    small = min(work_s(500, 50) for _ in range(3))
    assert work_s(2_000, 200) < 9 * small
