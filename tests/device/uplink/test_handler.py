"""A command to hold a door, or about a visit, becomes an order whose end cannot be left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device.access.memory import visits
from device.access.memory.holds import Hold, from_text
from device.uplink import orders
from device.uplink.handler import hold_subject, visit_subject
from sync.orders.command_handler import CommandFailedError

GOOD = {
    "door": "ward",
    "begins_ms": 1_800_000_000_000,
    "ends_ms": 1_800_003_600_500,
    "first_person": 1,
    "on_holidays": 0,
}


def test_what_the_desk_asked_is_what_the_door_reads(tmp_path: Path) -> None:
    path = orders.post(tmp_path, orders.Order(orders.Action.HOLD_OPEN, hold_subject(GOOD)))
    ((found, order),) = orders.waiting(tmp_path)
    assert found == path
    hold = Hold(1_800_000_000.0, 1_800_003_600.5, first_person=True, on_holidays=False)
    assert from_text(order.subject) == ("ward", hold)


@pytest.mark.parametrize(
    "change",
    [
        {"ends_ms": GOOD["begins_ms"]},
        {"ends_ms": 1_800_086_400_001},
        {"ends_ms": "later"},
        {"begins_ms": -1},
        {"first_person": 2},
        {"on_holidays": True},
        {"door": "*"},
        {"door": "ward 0 1"},
        {"door": 7},
        {"more": 1},
    ],
)
def test_a_hold_without_an_end_or_with_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CommandFailedError) as told:
        hold_subject({**GOOD, **change})
    assert told.value.why == "bad_arguments"
    for name in GOOD:
        with pytest.raises(CommandFailedError):
            hold_subject({key: value for key, value in GOOD.items() if key != name})


VISIT = {
    "person": "0bd58b5e-6d5c-8d6a-b2f0-5c2d4e3f1a0b",
    "begins_ms": 1_800_000_000_000,
    "ends_ms": 1_800_003_600_500,
}


def test_a_visit_is_a_pseudonym_and_two_moments_and_lifting_it_the_pseudonym_alone() -> None:
    expected = (VISIT["person"], visits.Visit(1_800_000_000.0, 1_800_003_600.5))
    assert visits.from_text(visit_subject(VISIT)) == expected
    assert visits.from_text(visit_subject({"person": VISIT["person"]})) == (VISIT["person"], None)


@pytest.mark.parametrize(
    "change",
    [
        {"ends_ms": VISIT["begins_ms"]},
        {"ends_ms": "never"},
        {"ends_ms": 2**53},
        {"begins_ms": -1},
        {"begins_ms": True},
        {"person": "4711"},
        {"person": 7},
        {"person": f"{VISIT['person']} 0 1"},
        {"more": 1},
    ],
)
def test_a_visit_of_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CommandFailedError) as told:
        visit_subject({**VISIT, **change})
    assert told.value.why == "bad_arguments"
    for name in VISIT:
        with pytest.raises(CommandFailedError):
            visit_subject({key: value for key, value in VISIT.items() if key != name})
