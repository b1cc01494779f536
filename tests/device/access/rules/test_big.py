"""Rules of a large hospital take as long as they have lines, not as people times doors."""

from __future__ import annotations

from device.access.rules import parse_rules
from device.access.rules.summary import remarks, summary
from tests.big_rules import big_rules
from tests.device.access.rules.test_summary import NOW
from tests.steps import steps


def check(text: str, doors: int) -> None:
    """What `ostiary policy check` does."""
    rules = parse_rules(text)
    told = [*summary(rules), *remarks(rules, NOW)]
    assert len(told) == doors + 1


def test_four_times_the_people_and_doors_are_about_four_times_the_work() -> None:
    few, many = big_rules(250, 25), big_rules(1_000, 100)
    assert steps(lambda: check(many, 100)) < 6 * steps(lambda: check(few, 25))
