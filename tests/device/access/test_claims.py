"""Who somebody says they are."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.access.claims import BadgeDecoder, ClaimError, ClaimKind, Directory, badges
from device.access.rules import parse_rules
from device.evidence.phrase import normalise


def decode(*bursts: tuple[bytes, float]) -> list[str]:
    decoder = BadgeDecoder()
    return [badge for data, at_s in bursts for badge in decoder.feed(data, at_s)]


@pytest.mark.parametrize(
    ("sent", "badge"),
    [
        (b"0004512345\r", "0004512345"),
        (b"0004512345\r\n", "0004512345"),
        (b"\x020004512345\r\n\x03", "0004512345"),
        (b"12:34567\n", "1234567"),
        (b"012-34567\r", "01234567"),
        (b"04a1b2c3d4\r", "04A1B2C3D4"),
    ],
)
def test_readers_of_several_makes_are_understood(sent, badge):
    assert decode((sent, 0.0)) == [badge]


def test_a_badge_that_comes_byte_by_byte_is_one_badge():
    assert decode(*((bytes([byte]), 0.01 * at) for at, byte in enumerate(b"0004512345\r"))) == ["0004512345"]


def test_two_badges_in_one_burst_are_two_claims():
    assert decode((b"111\r222\r", 0.0)) == ["111", "222"]


def test_half_a_badge_is_forgotten_when_the_rest_does_not_follow_at_once():
    assert decode((b"00045", 0.0), (b"12345\r", 2.0)) == ["12345"]


@pytest.mark.parametrize(
    "noise", [b"\r\r\n", b"\x1b[A\r", b"\xff\xfe12\r", b"9" * 200 + b"\r", b"drop;table\r", b""]
)
def test_noise_on_the_line_is_no_badge(noise):
    assert decode((noise, 0.0)) == []


def test_after_noise_the_next_badge_is_read():
    assert decode((b"\xff\xff\x00\r0007\r", 0.0)) == ["0007"]


@given(st.lists(st.tuples(st.binary(max_size=80), st.floats(0, 10)), max_size=8))
def test_no_bytes_at_all_make_anything_but_short_plain_badge_numbers(bursts):
    for badge in decode(*bursts):
        assert 1 <= len(badge) <= 32
        assert badge.isascii()
        assert badge.isalnum()


def test_a_stream_of_badges_ends_when_the_reader_is_closed():
    assert list(badges(io.BytesIO(b"111\r222\r"), itertools.count(0.0, 0.01))) == ["111", "222"]


def test_a_reader_that_is_pulled_off_is_an_error_that_says_what_to_do():
    class Pulled(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(ClaimError, match="cable"):
        list(badges(Pulled(), itertools.count()))


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
