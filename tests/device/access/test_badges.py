"""What readers send, and the one form a badge number has."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.access.badges import MAX_BADGE_CHARACTERS, BadgeDecoder, BadgeError, Swipe, badge_number
from device.access.rules import RulesError, parse_rules
from device.access.rules.summary import remarks


def decode(*bursts: tuple[bytes, float]) -> list[Swipe]:
    decoder = BadgeDecoder()
    return [swipe for data, at_s in bursts for swipe in decoder.feed(data, at_s)]


@pytest.mark.parametrize(
    ("sent", "badge"),
    [
        (b"0004512345\r", "0004512345"),
        (b"0004512345\r\n", "0004512345"),
        (b"\x020004512345\r\n\x03", "0004512345"),
        (b"12:34567\n", "1234567"),
        (b"012-34567\r", "01234567"),
        (b"04a1b2c3d4\r", "04A1B2C3D4"),
        (b"4712\t", "4712"),
        (b"4712\t\r\n", "4712"),
        (b" 4712 \n", "4712"),
        (b"\xef\xbb\xbf4712\n", "4712"),
        (b"4712\x00\r\x00", "4712"),  # as a program in C ends a text, and a line that fills up
        (b"\x114712\r\n\x00\x00\x7f", "4712"),
        (b"\x00\x00\xef\xbb\xbf4712\n", "4712"),
    ],
)
def test_readers_of_several_makes_are_understood(sent: bytes, badge: str) -> None:
    assert [swipe.number for swipe in decode((sent, 0.0))] == [badge]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"9" * 40 + b"\r", "40 characters"),
        (b";0001234567?\r", "';'"),
        (b"*4712#\r", "'\\*'"),
        ("\u0430\u0412\u04214712\r".encode(), "no ASCII"),
        (b"\xff\xfe12\r", "no ASCII"),
        (b"\x1b[A\r", "Num Lock is off"),
        (b"\x1bOw\x1bOq\r", "Num Lock is off"),
        ("&\u00e9\"'\r".encode(), "layout"),  # 1234 on a French keyboard
        (b"47\x0012\r", "x00"),  # a break in the line: what stood there is not known
        (b"]C14712\r", "'\\]'"),  # a barcode reader that names the kind of code
        (b"---\r", "no letter or digit"),
        (b"drop;table\r", "';'"),
        (b"9" * 4000 + b"\r", "longer than 256"),
    ],
)
def test_what_cannot_be_read_is_said_and_why(sent: bytes, why: str) -> None:
    (swipe,) = decode((sent, 0.0))
    assert swipe.number == ""
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(swipe.trouble)


def test_what_fills_a_line_up_between_badges_is_no_badge_and_spoils_none() -> None:
    swipes = decode((b"4712\r\x00", 0.0), (b"\x00\x00", 5.0), (b"\x134713\r", 9.0), (b"\x11", 9.1))
    assert [(swipe.number, swipe.trouble) for swipe in swipes] == [("4712", ""), ("4713", "")]


def test_a_badge_that_comes_byte_by_byte_is_one_badge() -> None:
    bursts = ((bytes([byte]), 0.01 * at) for at, byte in enumerate(b"0004512345\r\n"))
    assert [swipe.number for swipe in decode(*bursts)] == ["0004512345"]


def test_two_badges_in_one_burst_are_two_claims() -> None:
    assert [swipe.number for swipe in decode((b"111\r222\r", 0.0))] == ["111", "222"]


def test_half_a_badge_is_not_joined_to_what_follows_later() -> None:
    cut, whole = decode((b"00045", 0.0), (b"12345\r", 2.0))
    assert cut.trouble == "it was cut short"
    assert whole.number == "12345"


def test_the_second_line_end_of_a_badge_is_no_button_even_when_it_is_late() -> None:
    assert [swipe.is_button for swipe in decode((b"4712\r", 0.0), (b"\n", 0.2))] == [False]


def test_a_line_end_alone_is_a_button() -> None:
    assert [swipe.is_button for swipe in decode((b"\n", 0.0), (b"4712\r\n", 5.0), (b"\r\n", 9.0))] == [
        True,
        False,
        True,
    ]


def test_after_noise_the_next_badge_is_read() -> None:
    assert [swipe.number for swipe in decode((b"\xff\xff\x00\r0007\r", 0.0))] == ["", "0007"]


def test_a_badge_without_a_line_end_counts_when_the_reader_is_closed() -> None:
    decoder = BadgeDecoder()
    assert list(decoder.feed(b"111", 0.0)) == []
    assert [swipe.number for swipe in decoder.finish()] == ["111"]


@given(st.lists(st.tuples(st.binary(max_size=80), st.floats(0, 10)), max_size=8))
def test_no_bytes_at_all_make_anything_but_short_plain_badge_numbers(bursts) -> None:
    for swipe in decode(*bursts):
        assert len(swipe.number) <= MAX_BADGE_CHARACTERS
        assert not swipe.number or badge_number(swipe.number) == swipe.number
        assert not (swipe.number and swipe.trouble)


@given(st.text(max_size=40))
def test_the_canonical_form_is_its_own_canonical_form(text: str) -> None:
    try:
        number = badge_number(text)
    except BadgeError:
        return
    assert badge_number(number) == number


def test_facility_code_and_leading_zeros_stay() -> None:
    assert badge_number("012:00345") == "01200345"


RULES = """
version = 1
[risks.standard]
[zones.ward]
[doors.door-1]
zone = "ward"
risk = "standard"
[[allow]]
roles = ["enrolled"]
"""


def mistakes(people: str) -> tuple[str, ...]:
    with pytest.raises(RulesError) as caught:
        parse_rules(RULES + people)
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ('badges = ["12-3456"]', 'badges = ["123-456"]', "badge `123-456` of `alice` (`12-3456`"),
        ('badges = ["00ab12"]', 'badges = ["00AB12"]', "badge `00AB12` of `alice` (`00ab12`"),
        ('badges = ["4712"]', 'badges = ["47 12"]', "badge `47 12` of `alice`"),
        ('spoken = "forty five twelve"', 'spoken = "4 5 1 2"', "spoken `4 5 1 2` of `alice`"),
        ('spoken = "Rossi"', 'spoken = "rossi."', "spoken `rossi.` of `alice`"),
        ('spoken = "1200"', 'spoken = "twelve hundred"', "spoken `twelve hundred` of `alice`"),
        ('spoken = "101"', 'spoken = "a hundred and one"', "spoken `a hundred and one` of `alice`"),
        ('spoken = "072"', 'spoken = "nought seven two"', "spoken `nought seven two` of `alice`"),
        ('spoken = "555"', 'spoken = "treble five"', "spoken `treble five` of `alice`"),
        ('spoken = "007"', 'spoken = "OO7"', "spoken `OO7` of `alice`"),
        ('spoken = "4512"', 'spoken = "٤٥１２"', "spoken `٤٥１２` of `alice`"),
        ('spoken = "44"', 'spoken = "dou\u200dble\u00a0four"', "of `alice`"),
    ],
)
def test_two_people_with_one_badge_or_number_are_both_named(first: str, second: str, said: str) -> None:
    (found,) = mistakes(f"[people.alice]\n{first}\n[people.bob]\n{second}\n")
    assert found.startswith("people.bob has the ")
    assert said in found


def test_one_person_may_have_a_badge_in_two_spellings() -> None:
    parse_rules(RULES + '[people.alice]\nbadges = ["12-3456", "123456"]\n')


def test_a_badge_that_is_another_persons_uid_is_refused_with_both_names() -> None:
    (found,) = mistakes('[people.alice]\nbadges = ["47-11"]\n[people.4711]\n')
    assert "people.alice has the badge `47-11`, which is the uid of `4711`" in found


@pytest.mark.parametrize("badge", ["---", "９９９", "9" * 40, ";4712=0000?", "", "*4712#", "4712 п"])
def test_a_badge_that_no_reader_can_send_is_refused(badge: str) -> None:
    (found,) = mistakes(f'[people.erin]\nbadges = ["{badge}"]\n')
    assert "no reader can send" in found


@pytest.mark.parametrize("spoken", ["R\u043essi", "Росси 5", "Łukasz", "ⅻ Ω", "Strauß", "R&D", "Dr 😀"])
def test_a_spoken_name_with_a_letter_that_is_not_listened_for_is_refused(spoken: str) -> None:
    (found,) = mistakes(f'[people.erin]\nspoken = "{spoken}"\n')
    assert "a letter or sign that is not listened for" in found
    assert found.isprintable()


def remarked(people: str) -> str:
    return "\n".join(remarks(parse_rules(RULES + people), datetime.now(UTC)))


@pytest.mark.parametrize("uid", ["anna.rossi", "jürgen", "9" * 40, "a/b", "#7"])
def test_an_id_that_no_reader_can_send_is_remarked_on_where_nothing_else_claims_it(uid: str) -> None:
    assert f"no reader can send the id of {uid}" in remarked(f'[people."{uid}"]\n')
    for claimed in ('badges = ["1234"]', 'spoken = "Rossi"'):
        assert "no reader can send" not in remarked(f'[people."{uid}"]\n{claimed}\n')
    assert "no reader can send" not in remarked("[people.47-11]\n")


@pytest.mark.parametrize(
    "badge",
    [
        r"12_34",
        "12/34",
        "12.34",
        r"12\u200d34",
        r"12\u00ad34",
        r"\u200f1234",
        r"1234\u0301",
        r"12\u00a034",
        "12–34",
    ],
)
def test_what_only_looks_like_a_badge_number_is_refused(badge: str) -> None:
    (found,) = mistakes(f'[people.erin]\nbadges = ["{badge}"]\n')
    assert "no reader can send" in found


def test_a_spoken_name_without_words_is_refused() -> None:
    (found,) = mistakes('[people.erin]\nspoken = "..."\n')
    assert "holds no words" in found


def test_a_button_pressed_again_at_once_is_pressed_again_and_a_bouncing_one_is_not() -> None:
    assert [swipe.is_button for swipe in decode((b"\n", 0.0), (b"\n", 0.3))] == [True, True]
    assert [swipe.is_button for swipe in decode((b"\r\n", 0.0), (b"\r\n", 0.05))] == [True]
