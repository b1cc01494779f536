"""Who may pass where and when, once every factor has passed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from device.access.decision import Outcome, Reason
from device.access.rules import parse_rules
from device.access.rules.permissions import refusal

RULES = parse_rules("""
version = 1
[calendar]
time_zone = "Europe/Rome"
holidays = [2026-12-25]
[schedules.day]
days = ["mon", "tue", "wed", "thu", "fri"]
from = "07:00"
to = "19:00"
on_holidays = false
[schedules.night]
days = ["thu"]
from = "21:00"
to = "06:00"
on_holidays = false
[schedules.always]
[risks.standard]
[risks.drugs]
[zones.ward]
[zones.pharmacy]
tags = ["drugs"]
[doors.ward-3]
zone = "ward"
risk = "standard"
[doors.pharmacy]
zone = "pharmacy"
risk = "drugs"
tags = ["cold"]
[[allow]]
roles = ["nurse"]
zones = ["ward"]
schedule = "day"
[[allow]]
roles = ["nurse"]
zones = ["ward"]
schedule = "night"
[[allow]]
roles = ["pharmacist"]
tags = ["drugs", "cold"]
[[allow]]
roles = ["auditor"]
risks = ["drugs"]
schedule = "always"
[[allow]]
roles = ["visitor"]
doors = ["ward-3"]
[people.nurse]
roles = ["nurse"]
[people.pharmacist]
roles = ["pharmacist"]
[people.auditor]
roles = ["auditor"]
[people.gone]
roles = ["nurse"]
disabled = true
[people.visitor]
roles = ["visitor"]
valid_from = 2026-11-24T08:00:00+01:00
valid_until = 2026-11-24T18:00:00+01:00
""")
ROME = ZoneInfo("Europe/Rome")
TUESDAY_NOON = datetime(2026, 11, 24, 12, 0, tzinfo=ROME)


def code(door: str, uid: str, at: datetime = TUESDAY_NOON) -> Reason | None:
    refused = refusal(RULES, RULES.doors[door], uid, at.astimezone(UTC))
    assert refused is None or not refused.opens
    return None if refused is None else refused.code


def test_a_permission_for_a_zone_opens_its_doors_and_no_other():
    assert code("ward-3", "nurse") is None
    assert code("pharmacy", "nurse") is Reason.NOT_ALLOWED


def test_a_permission_by_tags_wants_all_of_them_on_the_door_or_its_zone():
    assert code("pharmacy", "pharmacist") is None
    assert code("ward-3", "pharmacist") is Reason.NOT_ALLOWED


def test_a_permission_by_risk_class_follows_the_class():
    assert code("pharmacy", "auditor") is None
    assert code("ward-3", "auditor") is Reason.NOT_ALLOWED


def test_a_stranger_to_the_rules_is_refused():
    assert code("ward-3", "nobody") is Reason.NO_SUCH_PERSON
    assert code("ward-3", "") is Reason.NO_SUCH_PERSON


def test_a_disabled_person_is_refused():
    assert code("ward-3", "gone") is Reason.PERSON_DISABLED


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 11, 24, 6, 59, tzinfo=ROME), Reason.OUTSIDE_SCHEDULE),
        (datetime(2026, 11, 24, 7, 0, tzinfo=ROME), None),
        (datetime(2026, 11, 24, 18, 59, tzinfo=ROME), None),
        (datetime(2026, 11, 24, 19, 0, tzinfo=ROME), Reason.OUTSIDE_SCHEDULE),
        (datetime(2026, 11, 28, 12, 0, tzinfo=ROME), Reason.OUTSIDE_SCHEDULE),
    ],
)
def test_a_schedule_opens_at_its_first_minute_and_closes_at_its_last(at, expected):
    assert code("ward-3", "nurse", at) is expected


def test_a_holiday_closes_a_schedule_that_does_not_run_on_holidays():
    assert code("ward-3", "nurse", datetime(2026, 12, 25, 12, 0, tzinfo=ROME)) is Reason.OUTSIDE_SCHEDULE


def test_a_night_shift_belongs_to_the_day_on_which_it_began():
    assert code("ward-3", "nurse", datetime(2026, 11, 26, 23, 0, tzinfo=ROME)) is None
    assert code("ward-3", "nurse", datetime(2026, 11, 27, 5, 0, tzinfo=ROME)) is None
    assert code("ward-3", "nurse", datetime(2026, 11, 26, 5, 0, tzinfo=ROME)) is Reason.OUTSIDE_SCHEDULE
    # Thursday 24 December into the holiday: the shift began before it.
    assert code("ward-3", "nurse", datetime(2026, 12, 25, 5, 0, tzinfo=ROME)) is None


def test_hours_follow_daylight_saving_time():
    winter = datetime(2026, 10, 23, 5, 30, tzinfo=UTC)  # 07:30 summer time in Rome
    assert code("ward-3", "nurse", winter) is None
    assert code("ward-3", "nurse", winter + timedelta(days=3)) is Reason.OUTSIDE_SCHEDULE  # 06:30 winter time


def test_a_visitor_is_let_in_only_during_the_visit():
    begins = datetime(2026, 11, 24, 8, 0, tzinfo=ROME)
    ends = datetime(2026, 11, 24, 18, 0, tzinfo=ROME)
    assert code("ward-3", "visitor", begins - timedelta(seconds=1)) is Reason.VISIT_NOT_BEGUN
    assert code("ward-3", "visitor", begins) is None
    assert code("ward-3", "visitor", ends) is Reason.VISIT_ENDED


def test_being_outside_the_hours_is_a_schedule_refusal_and_being_nowhere_allowed_a_rule_refusal():
    late = datetime(2026, 11, 24, 20, 0, tzinfo=ROME)
    assert refusal(RULES, RULES.doors["ward-3"], "nurse", late).outcome is Outcome.DENIED_SCHEDULE
    assert refusal(RULES, RULES.doors["pharmacy"], "nurse", late).outcome is Outcome.DENIED_RULE
