"""Who somebody says they are."""

from __future__ import annotations

import pytest

from device.access.claims import ClaimKind, Directory
from device.access.rules import parse_rules
from device.evidence.phrase import normalise

RULES = parse_rules("""
version = 1
[risks.standard]
[zones.ward]
[doors.ward]
zone = "ward"
risk = "standard"
[[allow]]
roles = ["nurse"]
[people.4f2a]
roles = ["nurse"]
badges = ["0004512345"]
spoken = "four five one two"
[people.77c1]
badges = ["04-a1-b2"]
spoken = "4 5"
[people.9b10]
spoken = "Rossi"
""")
DIRECTORY = Directory.of(RULES, normalise)


def test_a_badge_claims_its_owner_however_the_reader_writes_it():
    assert DIRECTORY.badge("0004512345").uid == "4f2a"
    assert DIRECTORY.badge("04A1B2").uid == "77c1"


def test_a_uid_is_claimed_however_a_reader_writes_its_letters():
    assert DIRECTORY.badge("4F2A").uid == "4f2a"


def test_a_badge_that_the_rules_do_not_name_claims_the_uid_of_its_number():
    assert DIRECTORY.badge("9999").uid == "9999"


@pytest.mark.parametrize(
    ("said", "uid"),
    [
        ("my number is 4 5 1 2", "4f2a"),
        ("forty-five twelve", "4f2a"),
        ("four five", "77c1"),
        ("This is Rossi.", "9b10"),
        ("Rossi four five", ""),
        ("nine eight seven", "987"),
        ("Nine, eight.", ""),
        ("hello", ""),
        ("", ""),
    ],
)
def test_a_spoken_name_or_number_claims_exactly_one_person_or_nobody(said, uid):
    claim = DIRECTORY.spoken(normalise(said))
    assert (claim.kind, claim.uid) == (ClaimKind.SPOKEN, uid)
