"""Every key of a rules file ends where it belongs; the last good value is taken, the next refused."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from device.access.challenge import ChallengeSettings, Style
from device.access.decision import Factor
from device.access.memory.remembered import LIMITS_WITH_LIVENESS, AttemptLimits
from device.access.policy import QualityLimits, Thresholds
from device.access.rules import RulesError, parse_rules
from device.access.rules.load import read_rules
from device.access.rules.model import Door, Permission, Person, RiskClass, Rules, Schedule
from device.access.rules.reader import Reader

EVERYTHING = """
version = 7
admit_unlisted = true
[calendar]
time_zone = "Europe/Rome"
holidays = [2026-12-25]
[schedules.night]
days = ["mon", "sun"]
from = "22:00"
to = "06:30"
on_holidays = false
[risks.own]
factors = ["voice", "live"]
voice_alone = true
opens_with_full_log = true
identify_margin_llr = 4.5
[risks.own.thresholds]
phrase_llr = 1.5
voice_llr = 2.5
live_llr = 0.5
step_up_margin_llr = 0.75
reuse_llr = -1.5
consistency_llr = -2.5
joins_llr = -3.5
joins_doubt_llr = 1.25
[risks.own.quality]
min_speech_s = 0.9
min_snr_db = 8.0
max_clipped_fraction = 0.02
min_bandwidth_hz = 3500.0
[risks.own.attempts]
free_failures = 2
first_wait_s = 45.0
longest_wait_s = 600.0
disable_after = 9
[risks.own.challenge]
style = "digits"
words = 6
digits = 8
lifetime_s = 30.0
[risks.plain]
thresholds = { live = "bpcer_5" }
[zones.ward]
tags = ["inside"]
[doors.ward-3]
zone = "ward"
risk = "own"
tags = ["north"]
two_persons_within_s = 20.0
anti_passback_s = 90.0
fire_release = true
may_be_held = true
[[allow]]
roles = ["nurse", "guard"]
zones = ["ward"]
doors = ["ward-3"]
tags = ["inside"]
risks = ["own"]
schedule = "night"
[lock_down]
roles = ["guard"]
[people.4711]
roles = ["nurse", "guard"]
badges = ["0042"]
spoken = "four seven one one"
valid_from = 2026-01-01T00:00:00Z
valid_until = 2026-12-31T00:00:00Z
disabled = true
card = "26:2AB3C440"
unlock_s = 12.0
says = "words"
begin_within_s = 45.0
"""

SMALL = """
version = 1
{top}
[risks.standard]
{risk}
[zones.ward]
[doors.door-1]
zone = "ward"
risk = "standard"
{door}
[[allow]]
roles = ["nurse"]
{people}
"""


def parsed(top: str = "", risk: str = "", door: str = "", people: str = "") -> Rules:
    return parse_rules(SMALL.format(top=top, risk=risk, door=door, people=people))


def mistakes(**parts: str) -> str:
    with pytest.raises(RulesError) as caught:
        parsed(**parts)
    return " ".join(caught.value.mistakes)


def test_a_file_with_every_key_means_all_of_them() -> None:
    rules = parse_rules(EVERYTHING)
    own = RiskClass(
        name="own",
        factors=frozenset({Factor.VOICE, Factor.LIVE}),
        thresholds=Thresholds(1.5, 2.5, 0.5, 0.75, "", -1.5, -2.5, -3.5, 1.25),
        quality=QualityLimits(0.9, 8.0, 0.02, 3500.0),
        attempts=AttemptLimits(2, 45.0, 600.0, 9),
        challenge=ChallengeSettings(Style.DIGITS, 6, 8, 30.0),
        identify_margin_llr=4.5,
        opens_with_full_log=True,
    )
    assert rules == Rules(
        version=7,
        doors={
            "ward-3": Door(
                "ward-3",
                "ward",
                "own",
                frozenset({"inside", "north"}),
                20.0,
                90.0,
                fire_release=True,
                may_be_held=True,
            )
        },
        risks={"own": own, "plain": RiskClass("plain", thresholds=Thresholds(live_point="bpcer_5"))},
        permissions=(
            Permission(
                frozenset({"nurse", "guard"}),
                *(frozenset({name}) for name in ("ward", "ward-3", "inside", "own")),
                schedule="night",
            ),
        ),
        people={
            "4711": Person(
                "4711",
                frozenset({"nurse", "guard"}),
                frozenset({"0042"}),
                "four seven one one",
                datetime(2026, 1, 1, tzinfo=UTC),
                datetime(2026, 12, 31, tzinfo=UTC),
                disabled=True,
                card="26:2AB3C440",
                unlock_s=12.0,
                says=Style.WORDS,
                begin_within_s=45.0,
                written="4711",
            )
        },
        schedules={"night": Schedule("night", frozenset({0, 6}), time(22), time(6, 30), on_holidays=False)},
        holidays=frozenset({date(2026, 12, 25)}),
        time_zone=ZoneInfo("Europe/Rome"),
        admit_unlisted=True,
        lock_down_roles=frozenset({"guard"}),
    )


def test_a_file_that_says_nothing_more_means_the_defaults() -> None:
    rules = parsed(risk="quality = {}\nattempts = {}\nchallenge = {}\nthresholds = {}")
    assert rules.risks == {"standard": RiskClass("standard")}
    assert rules.doors == {"door-1": Door("door-1", "ward", "standard")}
    assert (rules.admit_unlisted, rules.lock_down_roles, rules.people) == (False, frozenset(), {})
    rules = parsed(people="schedule = 'always'\n[schedules.always]\n[people.4711]")
    assert rules.people == {"4711": Person("4711", written="4711")}
    assert rules.schedules == {"always": Schedule("always")}
    assert rules.permissions == (Permission(frozenset({"nurse"}), schedule="always"),)
    assert (rules.version, rules.holidays, rules.time_zone) == (1, frozenset(), UTC)
    assert rules.doors["door-1"] == Door("door-1", "ward", "standard")


@pytest.mark.parametrize("name", ["phrase_llr", "voice_llr", "live_llr"])
def test_a_threshold_for_every_class_stands_before_that_of_a_class(name: str) -> None:
    found = parsed(top=f"thresholds = {{ {name} = 6.5 }}", risk=f"thresholds = {{ {name} = 1.0 }}")
    assert found.risks["standard"].thresholds == replace(Thresholds(), **{name: 6.5})


def test_a_live_threshold_for_every_class_stands_before_an_operating_point_and_the_others_leave_it() -> None:
    point = 'thresholds = { live = "bpcer_5" }'
    assert (
        parsed(top="thresholds = { live_llr = 1.0 }", risk=point).risks["standard"].thresholds.live_point
        == ""
    )
    others = parsed(top="thresholds = { voice_llr = 1.0 }", risk=point)
    assert others.risks["standard"].thresholds.live_point == "bpcer_5"


MOST = LIMITS_WITH_LIVENESS.disable_after
BOUNDS = [
    ("risk", "thresholds = {{ phrase_llr = {} }}", "-12.0", "-12.1"),
    ("risk", "thresholds = {{ phrase_llr = {} }}", "12.0", "12.1"),
    ("risk", "thresholds = {{ voice_llr = {} }}", "12.0", "12.1"),
    ("risk", "thresholds = {{ live_llr = {} }}", "-12.0", "-12.1"),
    ("risk", "thresholds = {{ joins_llr = {} }}", "12.0", "12.1"),
    ("risk", "thresholds = {{ joins_doubt_llr = {} }}", "6.0", "6.1"),
    ("risk", "thresholds = {{ joins_doubt_llr = {} }}", "0.0", "-0.1"),
    ("risk", "thresholds = {{ voice_llr = {} }}", "-12.0", "-12.1"),
    ("risk", "thresholds = {{ live_llr = {} }}", "12.0", "12.1"),
    ("risk", "thresholds = {{ joins_llr = {} }}", "-12.0", "-12.1"),
    ("risk", "quality = {{ min_speech_s = {} }}", "0.0", "-0.1"),
    ("risk", "quality = {{ max_clipped_fraction = {} }}", "0.0", "-0.1"),
    ("risk", "quality = {{ min_bandwidth_hz = {} }}", "0.0", "-0.1"),
    ("risk", "attempts = {{ first_wait_s = {}, longest_wait_s = 86400.0 }}", "86400.0", "86400.5"),
    ("risk", "attempts = {{ first_wait_s = 30.0, longest_wait_s = {} }}", "30.0", "29.9"),
    ("risk", "attempts = {{ free_failures = 1, disable_after = {} }}", "2", "1"),
    ("risk", "attempts = {{ disable_after = {} }}", str(MOST), str(MOST + 1)),
    ("top", "thresholds = {{ phrase_llr = {} }}", "12.0", "12.1"),
    ("top", "thresholds = {{ live_llr = {} }}", "-12.0", "-12.1"),
    ("risk", "thresholds = {{ step_up_margin_llr = {} }}", "6.0", "6.1"),
    ("risk", "thresholds = {{ step_up_margin_llr = {} }}", "0.0", "-0.1"),
    ("risk", "identify_margin_llr = {}", "12.0", "12.1"),
    ("risk", "identify_margin_llr = {}", "0.0", "-0.1"),
    ("risk", "quality = {{ min_speech_s = {} }}", "10.0", "10.1"),
    ("risk", "quality = {{ min_snr_db = {} }}", "60.0", "60.1"),
    ("risk", "quality = {{ min_snr_db = {} }}", "-10.0", "-10.1"),
    ("risk", "quality = {{ max_clipped_fraction = {} }}", "1.0", "1.1"),
    ("risk", "quality = {{ min_bandwidth_hz = {} }}", "8000.0", "8000.1"),
    ("risk", "attempts = {{ free_failures = {} }}", "1", "0"),
    ("risk", "attempts = {{ free_failures = {} }}", str(LIMITS_WITH_LIVENESS.free_failures), "11"),
    ("risk", "attempts = {{ first_wait_s = {} }}", "30.0", "29.9"),
    ("risk", "attempts = {{ longest_wait_s = {} }}", "86400.0", "86400.5"),
    ("risk", "challenge = {{ words = {} }}", "3", "2"),
    ("risk", "challenge = {{ words = {} }}", "10", "11"),
    ("risk", "challenge = {{ digits = {} }}", "4", "3"),
    ("risk", "challenge = {{ digits = {} }}", "12", "13"),
    ("risk", "challenge = {{ lifetime_s = {} }}", "2.0", "1.9"),
    ("risk", "challenge = {{ lifetime_s = {} }}", "120.0", "120.1"),
    ("top", "thresholds = {{ voice_llr = {} }}", "12.0", "12.1"),
    ("top", "thresholds = {{ voice_llr = {} }}", "-12.0", "-12.1"),
    ("door", "two_persons_within_s = {}", "5.0", "4.9"),
    ("door", "two_persons_within_s = {}", "300.0", "300.1"),
    ("door", "anti_passback_s = {}", "1.0", "0.9"),
    ("door", "anti_passback_s = {}", "86400.0", "86400.1"),
    ("people", '[people.4711]\nroles = ["nurse"]\nunlock_s = {}', "0.5", "0.4"),
    ("people", '[people.4711]\nroles = ["nurse"]\nunlock_s = {}', "60.0", "60.1"),
    ("people", '[people.4711]\nroles = ["nurse"]\nbegin_within_s = {}', "2.0", "1.9"),
    ("people", '[people.4711]\nroles = ["nurse"]\nbegin_within_s = {}', "120.0", "120.1"),
]


@pytest.mark.parametrize(("part", "line", "last_good", "first_bad"), BOUNDS)
def test_the_last_good_value_is_taken_and_the_first_bad_one_is_refused(
    part: str, line: str, last_good: str, first_bad: str
) -> None:
    parsed(**{part: line.format(last_good)})
    assert mistakes(**{part: line.format(first_bad)})


@pytest.mark.parametrize(("until", "good"), [("2026-01-01T00:00:01Z", True), ("2026-01-01T00:00:00Z", False)])
def test_a_validity_ends_after_it_begins(until: str, good: bool) -> None:
    person = f'[people.4711]\nroles = ["nurse"]\nvalid_from = 2026-01-01T00:00:00Z\nvalid_until = {until}'
    if good:
        assert parsed(people=person).people["4711"].valid_until is not None
    else:
        assert "valid_until is not after valid_from" in mistakes(people=person)


def test_who_may_pass_in_a_lock_down_has_a_role_of_these_rules() -> None:
    assert "lock_down.roles names `guard`" in mistakes(people='[lock_down]\nroles = ["guard"]')


def test_a_door_has_a_class_and_a_zone_of_these_rules_and_a_version_is_a_number_that_programs_hold() -> None:
    door = '[doors.door-2]\nzone = "{}"\nrisk = "{}"'
    assert "doors.door-2.risk names `drugs`" in mistakes(people=door.format("ward", "drugs"))
    assert "doors.door-2.zone names `cellar`" in mistakes(people=door.format("cellar", "standard"))
    assert parse_rules(EVERYTHING.replace("version = 7", f"version = {2**53}")).version == 2**53
    with pytest.raises(RulesError, match="version"):
        parse_rules(EVERYTHING.replace("version = 7", f"version = {2**53 + 1}"))


def test_the_voice_alone_is_refused_unless_the_file_says_that_it_is_meant() -> None:
    assert "voice_alone = true" in mistakes(risk='factors = ["voice", "live"]')


def leaves(table: dict[str, Any], path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every value of a file, arrays of tables included."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from leaves(value[0], (*path, key, 0))
        else:
            yield (*path, key)


PLACES = list(leaves(tomllib.loads(EVERYTHING)))
KINDS = {
    bool: "must be true or false",
    int: "must be a",
    float: "must be a number",
    str: "must be a",
    list: "must be a list of",
    datetime: "must be a date with time and offset",
}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_value_of_another_kind_is_named_at_its_place(
    place: tuple[Any, ...],
) -> None:
    whole = tomllib.loads(EVERYTHING)
    table = whole
    for step in place[:-1]:
        table = table[step]
    kind = type(table[place[-1]])
    table[place[-1]] = {}
    found: list[str] = []
    read_rules(Reader(whole, "", found))
    path = ".".join(str(step) for step in place).replace(".0.", "[1].")
    first = f"{path} {KINDS[kind]}"
    assert [mistake for mistake in found if mistake.startswith(first)] == found[:1], found
    # What falls back to a default leaves others without a name that they use, and nothing worse.
    may_follow = (path, "risks.own.factors makes the voice")
    assert all(mistake.startswith(may_follow) or " names `" in mistake for mistake in found), found


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"risk": 'thresholds = { live = "bpcer_6" }'}, "risks.standard.thresholds.live names `bpcer_6`"),
        ({"risk": 'thresholds = { live = "bpcer_5", live_llr = 1.0 }'}, "risks.standard.thresholds.live and"),
        ({"people": '[people.4711]\nsays = "code"'}, "people.4711.says names `code`"),
        ({"people": "[[lock]]"}, "lock is no key here"),
        ({"people": "[people.4711]\nbadge = 5"}, "people.4711.badge is no key here"),
        ({"people": "[zones.icu]\ntag = []"}, "zones.icu.tag is no key here"),
        ({"people": "[schedules.day]\nfro = []"}, "schedules.day.fro is no key here"),
        ({"people": "[lock_down]\nrole = []"}, "lock_down.role is no key here"),
        ({"people": "[calendar]\nholiday = []"}, "calendar.holiday is no key here"),
        ({"risk": "quality = { min_snr = 5 }"}, "risks.standard.quality.min_snr is no key here"),
        ({"risk": "attempts = { free = 5 }"}, "risks.standard.attempts.free is no key here"),
        ({"risk": "challenge = { word = 5 }"}, "risks.standard.challenge.word is no key here"),
        ({"top": "thresholds = { voice = 5 }"}, "thresholds.voice is no key here"),
        ({"door": "tag = []"}, "doors.door-1.tag is no key here"),
        ({"people": "allow = 5"}, "allow[1].allow is no key here"),
        ({"top": "people = 5"}, "people must be a table of tables"),
        ({"top": "calendar = 5"}, "calendar must be a table"),
        ({"people": '[people.4711]\nbadges = ["4712"]\n[people.4712]'}, "people.4711 has the badge `4712`"),
        ({"people": '[people.4711]\nbadges = ["\u0430"]'}, "people.4711.badges has"),
        ({"people": '[people.4711]\nspoken = "..."'}, "people.4711.spoken is `...`, which holds no words"),
    ],
)
def test_each_mistake_is_the_only_one_and_named_at_its_place(parts: dict[str, str], complaint: str) -> None:
    with pytest.raises(RulesError) as caught:
        parsed(**parts)
    assert [mistake[: len(complaint)] for mistake in caught.value.mistakes] == [complaint]


def test_every_id_that_is_none_is_named_and_the_good_ones_beside_them_are_read() -> None:
    people = '[people."\u0430a"]\n[people.4711]\nbadges = ["12"]\n[people."\u0430b"]\n'
    people += '[people.4712]\nbadges = ["12"]'
    with pytest.raises(RulesError) as caught:
        parsed(people=people)
    first, second, third = caught.value.mistakes
    assert "is no person's id" in first
    assert "is no person's id" in second
    assert third == "people.4712 has the badge `12` of `4711`"


def test_a_badge_that_two_people_write_otherwise_is_told_in_both_ways() -> None:
    people = '[people.4711]\nbadges = ["12-34"]\n[people.4712]\nbadges = ["1234"]'
    with pytest.raises(RulesError) as caught:
        parsed(people=people)
    assert caught.value.mistakes == (
        "people.4712 has the badge `1234` of `4711` (`12-34`, which is the same)",
    )


def test_a_door_without_a_risk_class_a_door_or_a_permission_is_told_what_is_missing() -> None:
    with pytest.raises(RulesError) as caught:
        parse_rules("version = 1")
    assert [mistake.split(" is empty")[0] for mistake in caught.value.mistakes] == ["risks", "doors", "allow"]
    with pytest.raises(RulesError) as caught:
        parse_rules("version = 1\nallow = 5")
    assert "allow must be an array of tables, not 5" in caught.value.mistakes


def test_the_time_zone_that_cannot_be_read_and_the_one_that_is_none_are_told_apart() -> None:
    assert "calendar.time_zone names `Mars/Base`, which is no IANA" in mistakes(
        people='[calendar]\ntime_zone = "Mars/Base"'
    )
    assert "calendar.time_zone cannot be read for `../etc`" in mistakes(
        people='[calendar]\ntime_zone = "../etc"'
    )


def test_a_duress_word_in_hexadecimal_of_another_length_is_refused_and_one_text_is_a_list_of_one() -> None:
    for wrong in ("00", "00" * 15, "00" * 17, "zz" * 16):
        assert "people.4711.duress must be what" in mistakes(people=f'[people.4711]\nduress = "{wrong}"')
    both = parsed(people=f'[people.4711]\nduress = ["{"11" * 16}", "{"00" * 16}"]')
    assert both.people["4711"].duress == (bytes(16), b"\x11" * 16)
    assert parsed(people=f'[people.4711]\nduress = "{"11" * 16}"').people["4711"].duress == (b"\x11" * 16,)
