"""What `ostiary policy check` says of rules that are in order."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files

from device.access.rules import default_rules, parse_rules
from device.access.rules.summary import remarks, summary

EXAMPLE = parse_rules((files("device.access.rules") / "example.toml").read_text("utf-8"))
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_each_door_is_told_with_what_it_asks_and_who_may_pass_when() -> None:
    _, ward, pharmacy = summary(EXAMPLE)
    assert "ward-3: zone ward, risk standard: claim, phrase, voice, live; released by the fire input" in ward
    assert "nurse, physician" in ward
    assert "visitor (Mon Tue Wed Thu Fri 06:30-20:00, not on holidays)" in ward
    assert "two people within 30 s; not twice within 120 s" in pharmacy
    assert "physician (21:00-07:00)" in pharmacy


def test_what_may_not_be_meant_is_remarked_on() -> None:
    told = list(remarks(EXAMPLE, NOW))
    assert "nobody has the role physician" in told
    assert not any("recording" in remark for remark in told)
    late = list(remarks(EXAMPLE, datetime(2027, 1, 1, tzinfo=UTC)))
    assert any(remark.startswith("the access of 9b10 has ended") for remark in late)


def test_doors_without_live_or_claim_and_doors_for_nobody_are_remarked_on() -> None:
    rules = parse_rules("""
version = 1
[risks.r]
factors = ["phrase", "voice"]
[zones.z]
[doors.a]
zone = "z"
risk = "r"
[[allow]]
roles = ["nurse"]
[people.anna]
""")
    told = " | ".join(remarks(rules, NOW))
    for expected in ("nobody can pass a", "a recording of the right words", "without a claim"):
        assert expected in told


def test_the_default_rules_give_no_cause_for_remarks() -> None:
    assert list(remarks(default_rules("door-1"), NOW)) == []
