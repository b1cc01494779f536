"""Attacks of three attempts at each door, through the registry's own code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quantize.evaluate.campaigns.runs import Seen, run_of
from sync.registry.campaigns.grouping import Limits
from sync.threats.prints import VALUES, as_values

ATTACKS, BOUTS, EACH = 3, 6, 3


def attempts() -> list[Seen]:
    """Attempts that are as alike to their tool as prints of good synthesis are, and not to each other."""
    dice = np.random.default_rng(4)
    found = []
    for attack in range(ATTACKS):
        tool = dice.standard_normal(VALUES)
        tool /= np.linalg.norm(tool)
        for bout in range(BOUTS):
            for _ in range(EACH):
                own = dice.standard_normal(VALUES)
                own -= (own @ tool) * tool
                own /= np.linalg.norm(own)
                values = as_values((0.6 * tool + 0.8 * own).tolist())
                found.append(Seen(f"a{attack}", True, values, 100 * attack + bout, bout=f"{attack}/{bout}"))
    return found


def people() -> list[Seen]:
    dice = np.random.default_rng(5)
    prints = [as_values(dice.standard_normal(VALUES).tolist()) for _ in range(20)]
    return [Seen(f"p{n}", False, values, n) for n, values in enumerate(prints)]


def test_attempts_in_one_bout_are_recognised_more_often_than_each_by_itself() -> None:
    bouts = attempts()
    orders = [bouts, bouts[::-1]]
    together, _, _ = run_of(orders, people(), people(), Limits(), 20)
    apart, by_attack, _ = run_of(
        [[replace(one, bout="") for one in order] for order in orders], people(), people(), Limits(), 20
    )
    assert together.recognised.value > 0.9
    assert apart.recognised.value < together.recognised.value - 0.3
    assert together.matched.value > apart.matched.value
    assert together.recognised.of == ATTACKS * (BOUTS * EACH - 3), "two orders are of the same attempts"
    assert together.recognised_bouts.of == ATTACKS * (BOUTS - 3) * EACH
    assert sum(count for _, _, count in by_attack.values()) == together.recognised.of
    assert together.flagged.value == 0.0


def test_a_bout_alone_is_no_attack_that_was_recognised() -> None:
    far_apart = [replace(one, who=one.bout) for one in attempts() if one.bout.endswith(("/0", "/1"))]
    run, _, _ = run_of([far_apart], people(), people(), Limits(), 20)
    assert run.recognised.of == 0
    assert run.campaigns == 0
