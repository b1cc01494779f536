"""Who somebody says they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.access.badges import BadgeDecoder
from device.access.claims import ClaimKind, Directory
from device.access.rules import default_rules, parse_rules
from device.access.voices import is_enrolled
from device.evidence.phrase import normalise
from device.secure_store import StoreSettings, open_store
from tests.device.secure_store.people import voiceprint

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
    assert DIRECTORY.badge("0004512345").uid == "4F2A"
    assert DIRECTORY.badge("04A1B2").uid == "77C1"


def test_a_uid_is_claimed_however_a_reader_writes_its_letters():
    assert DIRECTORY.badge("4F2A").uid == "4F2A"


def test_a_badge_that_the_rules_do_not_name_claims_the_uid_of_its_number():
    assert DIRECTORY.badge("9999").uid == "9999"


@pytest.mark.parametrize(
    ("said", "uid"),
    [
        ("my number is 4 5 1 2", "4F2A"),
        ("forty-five twelve", "4F2A"),
        ("four five", "77C1"),
        ("This is Rossi.", "9B10"),
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


def test_who_enrolled_as_alice_and_types_alice_is_claimed_and_known(tmp_path: Path) -> None:
    with open_store(tmp_path, StoreSettings(profile="laptop", keystore="software")) as store:
        store.vault.enrol("alice", voiceprint(1))
        (swipe,) = BadgeDecoder().feed(b"alice\r", 0.0)
        claim = Directory.of(default_rules("door"), normalise).swipe(swipe)
        assert is_enrolled(store.vault, claim.uid)
