"""A rules file is taken whole or not at all, and every mistake in it is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.access.challenge import Style
from device.access.decision import Factor, Outcome
from device.access.memory.remembered import AttemptLimits
from device.access.policy import decide
from device.access.rules import RiskClass, RulesError, default_rules, load_rules, parse_rules
from device.access.rules.levels import LEVELS, told
from device.access.rules.load import MAX_RULES_BYTES
from device.access.rules.summary import remarks
from device.evidence.vocabulary import Language
from tests.device.door_world import evidence

EXAMPLE = (files("device.access.rules") / "example.toml").read_text("utf-8")

TEN_MISTAKES = """
version = "seven"
colour = "red"

[calendar]
time_zone = "Europe/Atlantis"

[schedules.day]
days = ["mon", "tues"]
from = "half past six"

[risks.standard]
factors = ["claim"]
thresholds = { voice_lr = 3.0 }

[zones.ward]

[doors.ward-3]
zone = "wart"
risk = "standard"
anti_passback_s = -5

[[allow]]
roles = ["nurse"]
doors = ["ward-4"]
"""

MINIMAL = """
version = 1
[risks.standard]
[zones.ward]
[doors.door-1]
zone = "ward"
risk = "standard"
[[allow]]
roles = ["nurse"]
"""


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(RulesError) as error:
        parse_rules(text)
    return error.value.mistakes


def test_the_example_is_right_and_means_what_it_says():
    rules = parse_rules(EXAMPLE)
    pharmacy = rules.doors["pharmacy"]
    assert pharmacy.tags == {"drugs", "high-value"}
    assert (pharmacy.two_persons_within_s, pharmacy.anti_passback_s, pharmacy.fire_release) == (
        30.0,
        120.0,
        False,
    )
    assert rules.risks["drugs"].thresholds.voice_llr == 4.6
    assert rules.risks["drugs"].challenge.style is Style.WORDS
    assert rules.schedules["day"].begins == time(6, 30)
    assert date(2026, 12, 25) in rules.holidays
    assert rules.people["77C1"].duress == (bytes.fromhex("00112233445566778899aabbccddeeff"),)
    assert rules.lock_down_roles == {"security"}


def test_a_file_with_ten_mistakes_reports_ten_mistakes():
    found = mistakes(TEN_MISTAKES)
    assert len(found) == 10, "\n".join(found)
    for place in [
        "version must be a whole number",
        "colour is no key here",
        "calendar.time_zone names `Europe/Atlantis`",
        "schedules.day.days names `tues`, which is not there; did you mean `tue`?",
        "schedules.day.from must be a time",
        "risks.standard.factors must name at least one of",
        "risks.standard.thresholds.voice_lr is no key here; did you mean `voice_llr`?",
        "doors.ward-3.zone names `wart`, which is not there; did you mean `ward`?",
        "doors.ward-3.anti_passback_s must be from 1 to 86400, not -5",
        "allow[1].doors names `ward-4`, which is not there; did you mean `ward-3`?",
    ]:
        assert any(mistake.startswith(place) for mistake in found), place


def test_a_misspelt_role_is_found_with_the_nearest_one():
    (found,) = mistakes(MINIMAL + '[people.a]\nroles = ["nruse"]\n')
    assert found == "people.a.roles names `nruse`, which is not there; did you mean `nurse`?"


def test_the_smallest_file_asks_for_every_factor():
    rules = parse_rules(MINIMAL)
    assert rules.risks["standard"].factors == frozenset(Factor)
    assert rules.risks["standard"].attempts.free_failures == 10
    assert not rules.admit_unlisted


def test_without_liveness_fewer_failures_are_allowed():
    rules = parse_rules(
        MINIMAL.replace("[risks.standard]", '[risks.standard]\nfactors = ["claim", "phrase", "voice"]')
    )
    assert (
        rules.risks["standard"].attempts.free_failures,
        rules.risks["standard"].attempts.disable_after,
    ) == (5, 50)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("version = 1", ""), "version is missing"),
        (('zone = "ward"', ""), "doors.door-1.zone is missing"),
        (('risk = "standard"', ""), "doors.door-1.risk is missing"),
        (("[[allow]]", "[[alow]]"), "alow is no key here; did you mean `allow`?"),
        (
            ("[risks.standard]", '[risks.standard]\nfactors = ["voice"]'),
            "risks.standard.factors makes the voice",
        ),
        (("[risks.standard]", '[risks.standard]\nfactors = ["phrase"]'), "risks.standard.factors leaves out"),
        (
            ("[risks.standard]", "[risks.standard]\nattempts = { free_failures = 11 }"),
            "risks.standard.attempts.free",
        ),
        (
            ("[risks.standard]", "[risks.standard]\nattempts = { free_failures = 9, disable_after = 9 }"),
            "risks.standard.attempts.free_failures and the others",
        ),
        (
            ("[risks.standard]", "[risks.standard]\nattempts = { first_wait_s = 1 }"),
            "risks.standard.attempts.first",
        ),
        (
            ("[risks.standard]", "[risks.standard]\nthresholds = { live_llr = nan }"),
            "risks.standard.thresholds.live",
        ),
        (
            ("[risks.standard]", "[risks.standard]\nthresholds = { live_llr = -inf }"),
            "risks.standard.thresholds.live",
        ),
        (
            ("[risks.standard]", '[risks.standard]\nchallenge = { style = "song" }'),
            "risks.standard.challenge.style",
        ),
        (('roles = ["nurse"]', "roles = []"), "allow[1].roles must name at least one role"),
        (('roles = ["nurse"]', 'roles = ["nurse"]\nschedule = "day"'), "allow[1].schedule names `day`"),
        (('roles = ["nurse"]', 'roles = "nurse"'), "allow[1].roles must be a list of texts"),
        (('roles = ["nurse"]', "roles = [7]"), "allow[1].roles must hold texts only"),
        (("[zones.ward]", "[zones]\nward = 5"), "zones must hold tables"),
        (
            ('risk = "standard"', 'risk = "standard"\nfire_release = 1'),
            "doors.door-1.fire_release must be true",
        ),
        (
            ('risk = "standard"', 'risk = "standard"\ntwo_persons_within_s = true'),
            "doors.door-1.two_persons_within_s",
        ),
    ],
)
def test_each_kind_of_mistake_is_named_at_its_place(change, complaint):
    found = mistakes(MINIMAL.replace(*change))
    assert any(m.startswith(complaint) for m in found), found


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ('duress = "please"', "people.b.duress must be what `ostiary policy duress` printed"),
        ("valid_until = 2026-12-01T18:00:00", "people.b.valid_until needs an offset"),
        (
            "valid_from = 2026-12-02T00:00:00Z\nvalid_until = 2026-12-01T00:00:00Z",
            "people.b.valid_until is not after valid_from",
        ),
        ('badges = ["17"]', "people.b has the badge `17` of `a`"),
        ('spoken = "one  Seven"', "people.b has the spoken `one  Seven` of `a`"),
        ("disabled = 1", "people.b.disabled must be true or false"),
    ],
)
def test_each_mistake_about_a_person_is_named(entry, complaint):
    text = MINIMAL + f'[people.a]\nbadges = ["17"]\nspoken = "one seven"\n[people.b]\n{entry}\n'
    assert any(m.startswith(complaint) for m in mistakes(text))


@pytest.mark.parametrize("text", ["", "version = 1", "[[[", "\0", "a" * 100, "[doors]\n[doors]\n"])
def test_a_file_that_holds_no_rules_is_refused(text):
    assert mistakes(text)


def test_a_file_that_is_missing_huge_or_binary_is_refused_with_one_line(tmp_path: Path):
    huge, binary = tmp_path / "huge.toml", tmp_path / "binary.toml"
    huge.write_bytes(b"#" * (5 * 1024 * 1024))
    binary.write_bytes(b"\xff\xfe\x00version")
    for path in (tmp_path / "none.toml", huge, binary, tmp_path):
        with pytest.raises(RulesError) as error:
            load_rules(path)
        assert "\n" not in str(error.value)


def test_without_a_rules_file_everybody_enrolled_may_pass_one_door_with_every_factor():
    rules = default_rules("door-1")
    assert rules.risks[rules.doors["door-1"].risk].factors == frozenset(Factor)
    assert rules.person("anyone") is not None
    assert rules.person("") is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.data())
def test_no_value_at_any_place_of_the_example_makes_the_reader_stumble(data):
    import tomllib

    from device.access.rules.load import read_rules
    from device.access.rules.reader import Reader

    table = tomllib.loads(EXAMPLE)
    at = table
    while True:
        key = data.draw(st.sampled_from(sorted(at)))
        if isinstance(at[key], dict) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data.draw(values)
        break
    found: list[str] = []
    read_rules(Reader(table, "", found))
    assert all(isinstance(mistake, str) and mistake for mistake in found)


def test_a_person_may_have_a_strike_time_of_their_own_within_limits():
    person = "[people.a]\nunlock_s = "
    assert parse_rules(MINIMAL + person + "20\n").people["A"].unlock_s == 20.0
    assert mistakes(MINIMAL + person + "3600\n") == ("people.a.unlock_s must be from 0.5 to 60, not 3600",)


def test_a_person_says_words_or_digits_and_nothing_else():
    person = "[people.a]\nsays = "
    assert parse_rules(MINIMAL + person + '"digits"\n').people["A"].says is Style.DIGITS
    for wrong in ('"code"', '""', "7"):
        assert mistakes(MINIMAL + person + wrong + "\n")[0].startswith("people.a.says ")


def test_who_says_digits_where_words_are_shown_is_remarked_on():
    rules = parse_rules(MINIMAL + '[people.a]\nsays = "digits"\n')
    assert any(
        line.startswith("a says digits: 9 recorded pieces") for line in remarks(rules, datetime.now(UTC))
    )
    rules = parse_rules(MINIMAL + '[people.a]\nsays = "words"\n')
    assert not any("says" in line for line in remarks(rules, datetime.now(UTC)))


def test_an_empty_text_is_no_choice_among_names():
    found = mistakes(MINIMAL.replace("[risks.standard]", '[risks.standard]\nfactors = [""]'))
    assert found[0].startswith("risks.standard.factors names ``, which is not there")


def test_ids_that_are_one_id_are_one_mistake_with_both_spellings():
    found = mistakes(MINIMAL + '[people."00-045"]\n[people."00045"]\n')
    assert found == ("people.00045 is the same id as `00-045`; keep one",)
    assert list(parse_rules(MINIMAL + "[people.alice]\n").people) == ["ALICE"]
    assert parse_rules(MINIMAL + "[people.alice]\n").people["ALICE"].written == "alice"


def test_an_id_of_look_alike_letters_is_a_mistake():
    (found,) = mistakes(MINIMAL + '[people."\u0430lice"]\n')
    assert found.startswith("people.\u0430lice is no person's id: it holds '\\u0430'")


def test_a_spoken_number_that_is_somebody_elses_id_is_a_mistake():
    people = '[people.a]\nspoken = "four five one two"\n[people."45-12"]\n'
    assert mistakes(MINIMAL + people) == ("people.a says `four five one two`, which is the uid of `45-12`",)
    assert parse_rules(MINIMAL + '[people."4512"]\nspoken = "four five one two"\n').people


def test_a_duress_word_may_have_a_digest_for_each_unit():
    one, two = "00" * 16, "11" * 16
    assert parse_rules(MINIMAL + f'[people.a]\nduress = "{one}"\n').people["A"].duress == (bytes(16),)
    both = parse_rules(MINIMAL + f'[people.a]\nduress = ["{two}", "{one}"]\n').people["A"].duress
    assert both == (bytes(16), b"\x11" * 16)
    assert mistakes(MINIMAL + '[people.a]\nduress = ["candle"]\n')[0].startswith("people.a.duress must be")


def risk_of(text: str) -> RiskClass:
    rules = parse_rules(EXAMPLE.replace('[risks.drugs]\nlevel = "drugs"', f"[risks.drugs]\n{text}"))
    return rules.risks["drugs"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_told_in_a_sentence_with_its_own_numbers(level: str) -> None:
    risk = LEVELS[level]
    assert told(risk).startswith(
        f"{risk.challenge.words} fresh words within {risk.challenge.lifetime_s:g} s;"
    )
    assert f"LLR of at least {risk.thresholds.phrase_llr:g} for the words" in told(risk)


@pytest.mark.parametrize("level", LEVELS)
def test_a_risk_class_that_names_a_level_asks_for_what_the_level_asks(level: str) -> None:
    found = risk_of(f'level = "{level}"')
    assert (found.level, found.name) == (level, "drugs")
    assert (found.thresholds, found.challenge, found.factors) == (
        LEVELS[level].thresholds,
        LEVELS[level].challenge,
        LEVELS[level].factors,
    )


def test_what_stands_beside_a_level_wins_over_it() -> None:
    found = risk_of('level = "max"\nthresholds = { voice_llr = 3.5 }\nchallenge = { words = 5 }')
    assert found.thresholds == replace(LEVELS["max"].thresholds, voice_llr=3.5)
    assert found.challenge.words == 5
    assert found.challenge.lifetime_s == LEVELS["max"].challenge.lifetime_s


def test_levels_grow_stricter_in_everything() -> None:
    order = [LEVELS[name] for name in ("standard", "drugs", "max")]
    for milder, stricter in pairwise(order):
        for name in ("phrase_llr", "voice_llr", "live_llr"):
            assert getattr(milder.thresholds, name) < getattr(stricter.thresholds, name)
        assert milder.attempts.free_failures > stricter.attempts.free_failures
        assert milder.challenge.words < stricter.challenge.words


@pytest.mark.parametrize(("level", "live_llr"), [("standard", 0.8), ("drugs", 1.2), ("max", 2.3)])
def test_the_bar_of_the_live_check_holds_for_both_phrases_of_a_level(level: str, live_llr: float) -> None:
    limits = LEVELS[level].thresholds
    for short_llr in (limits.live_llr - 0.01, limits.live_llr - 1.99):
        assert decide(evidence(live=short_llr), limits).outcome is Outcome.STEP_UP
        assert decide(evidence(live=short_llr), limits, before_llr=0.0).outcome is Outcome.DENIED_SPOOF
    assert limits.live_llr == live_llr
    assert decide(evidence(live=live_llr), limits).opens


def test_a_level_without_the_live_check_is_no_more_patient_than_a_door_without_it() -> None:
    bare = parse_rules(
        EXAMPLE.replace('level = "standard"', 'level = "standard"\nfactors = ["claim", "phrase", "voice"]')
    )
    assert bare.risks["standard"].attempts == AttemptLimits()


def test_an_unknown_level_is_named_with_the_nearest_one() -> None:
    with pytest.raises(RulesError, match="names `drug`, which is not there; did you mean `drugs`"):
        risk_of('level = "drug"')


BOUNDS = {
    "thresholds.phrase_llr": (-12.0, 12.0),
    "thresholds.voice_llr": (-12.0, 12.0),
    "thresholds.live_llr": (-12.0, 12.0),
    "thresholds.reuse_llr": (-12.0, 12.0),
    "thresholds.consistency_llr": (-12.0, 12.0),
    "thresholds.step_up_margin_llr": (0.0, 6.0),
    "quality.min_speech_s": (0.0, 10.0),
    "quality.min_snr_db": (-10.0, 60.0),
    "quality.max_clipped_fraction": (0.0, 1.0),
    "quality.min_bandwidth_hz": (0.0, 8_000.0),
    "challenge.words": (3, 10),
    "challenge.digits": (4, 12),
    "challenge.lifetime_s": (2.0, 120.0),
    "attempts.free_failures": (1, 10),
    "identify_margin_llr": (0.0, 12.0),
}


@pytest.mark.parametrize(("place", "low", "high"), [(place, *ends) for place, ends in BOUNDS.items()])
def test_each_number_of_a_risk_class_is_read_up_to_its_bounds_and_refused_beyond(
    place: str, low: float, high: float
) -> None:
    *table, key = place.split(".")
    step = 1 if isinstance(low, int) else 0.001

    def written(value: float) -> str:
        line = f"{table[0]} = {{ {key} = {value} }}" if table else f"{key} = {value}"
        return MINIMAL.replace("[risks.standard]", f"[risks.standard]\n{line}")

    for value in (low, high):
        risk = parse_rules(written(value)).risks["standard"]
        assert getattr(getattr(risk, table[0]) if table else risk, key) == value
    for value in (low - step, high + step):
        assert any(f"risks.standard.{place} must be from" in line for line in mistakes(written(value))), value


@pytest.mark.parametrize(
    ("place", "low", "high"),
    [("two_persons_within_s", 5.0, 300.0), ("anti_passback_s", 1.0, 86_400.0)],
)
def test_each_number_of_a_door_is_read_up_to_its_bounds_and_refused_beyond(place, low, high):
    def written(value: float) -> str:
        return MINIMAL.replace('risk = "standard"', f'risk = "standard"\n{place} = {value}')

    for value in (low, high):
        assert getattr(parse_rules(written(value)).doors["door-1"], place) == value
    assert getattr(parse_rules(MINIMAL).doors["door-1"], place) is None
    for value in (low - 0.1, high + 0.1):
        assert any(f"doors.door-1.{place} must be from" in line for line in mistakes(written(value)))


@pytest.mark.parametrize("kind", ["zones", "doors", "tags", "risks"])
def test_a_permission_that_names_what_is_not_there_is_a_mistake(kind: str) -> None:
    found = mistakes(MINIMAL.replace("[[allow]]", f'[[allow]]\n{kind} = ["nowhere"]'))
    assert any(f"allow[1].{kind} names `nowhere`, which is not there" in line for line in found)


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    with path.open("wb") as file:
        file.truncate(MAX_RULES_BYTES + 1)
    with pytest.raises(RulesError, match=r"1 mistake in the rules: .* is larger than 4096 KiB"):
        load_rules(path)
    with path.open("wb") as file:
        file.write(MINIMAL.encode())
        file.write(b"#" * (MAX_RULES_BYTES - len(MINIMAL.encode())))
    assert load_rules(path).version == 1


@pytest.mark.parametrize("written", ["07.30", "19.00", "07,30", "07:30.5", "07:30:00,5"])
def test_half_past_seven_with_a_dot_is_no_time_instead_of_seven_and_a_fraction(written):
    """Python reads "07.30" as 0.3 s after seven; half of Europe writes half past seven so."""
    hours = f'[schedules.s]\nfrom = "{written}"\nto = "20:00"\n'
    (mistake,) = mistakes(MINIMAL + hours)
    assert 'schedules.s.from must be a time such as "07:30"' in mistake


@pytest.mark.parametrize("name", ["Factory", "localtime", "posixrules", "right/UTC", "posix/Europe/Rome"])
def test_a_zone_that_is_another_time_on_another_machine_is_a_mistake(name: str) -> None:
    assert "calendar.time_zone names" in mistakes(f'{MINIMAL}[calendar]\ntime_zone = "{name}"\n')[0]


@pytest.mark.parametrize(
    "entry",
    [
        r'badges = ["12\n34"]',
        r'badges = ["\u202e4321"]',
        r'badges = ["' + "9" * 100_000 + '"]',
        r'spoken = "\u0000"',
        r'"\u001b[31mred" = 1',
        r'roles = ["enrolled\u200b"]',
        r'says = "words\r"',
        "unlock_s = 0x" + "F" * 5_000,
        "spoken = " + "9" * 5_000,
    ],
)
def test_whatever_a_mistake_quotes_it_is_one_short_line_that_commands_no_terminal(entry: str) -> None:
    for mistake in mistakes(f"{MINIMAL}[people.a]\n{entry}\n"):
        assert mistake.isprintable()
        assert len(mistake) < 700


def test_a_card_in_digits_of_another_script_is_a_mistake():
    assert "cannot be a card" in mistakes(MINIMAL + '[people.a]\ncard = "٢٦:2AB3C440"\n')[0]


def test_a_person_may_be_asked_in_german_and_nobody_is_unless_the_rules_or_the_door_say_so() -> None:
    rules = parse_rules(EXAMPLE.replace('says = "digits"', 'phrases = "de"'))
    chosen = [uid for uid, person in rules.people.items() if person.phrases is Language.GERMAN]
    assert len(chosen) == 1
    assert rules.phrases(chosen[0], Language.ENGLISH) is Language.GERMAN
    assert rules.phrases("nobody", Language.GERMAN) is Language.GERMAN
    assert rules.phrases("nobody", Language.ENGLISH) is Language.ENGLISH


@pytest.mark.parametrize("value", ['"fr"', '"German"', "5", '""'])
def test_an_unknown_language_of_phrases_is_a_mistake(value: str) -> None:
    with pytest.raises(RulesError, match="phrases"):
        parse_rules(EXAMPLE.replace('says = "digits"', f"phrases = {value}"))


@pytest.mark.parametrize("style", ["sentence", "code"])
def test_nobody_is_asked_in_german_where_a_class_shows_what_german_lacks(style: str) -> None:
    text = (
        EXAMPLE.replace('says = "digits"', 'phrases = "de"')
        + f"""
[risks.odd.challenge]
style = "{style}"
"""
    )
    with pytest.raises(RulesError, match=r"the class odd cannot ask so: .* English only"):
        parse_rules(text)
