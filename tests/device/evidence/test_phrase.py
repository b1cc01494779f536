"""Phrases: one canonical spelling, rivals, loops, redaction."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.evidence.phrase import (
    REDACTED,
    agreement,
    before_loop,
    competitors,
    forms,
    is_invented,
    normalise,
    plain,
    redact,
    redact_claim,
    unsayable,
)
from device.evidence.wordlists import duress_words
from tests.steps import steps


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("51 56", "fifty one fifty six"),
        ("268-441-8.", "two six eight four four one eight"),
        ("4386", "four thousand three hundred and eighty six"),
        ("1D3A", "one D three A"),
        ("1D3A", "one delta three alpha"),
        ("M-O-R-E", "M O R E"),
        ("WFSOL 844.", "W F S O L eight four four"),
        ("A.B.C.", "alpha bravo Charlie"),
        ("1504", "one five oh four"),
        ("1225", "one double two five"),
        ("007", "double oh seven"),
        ("B A A A 3", "B triple A three"),
        ("W 4", "double u four"),
        ("1 5 O 4", "one five zero four"),
        ("September 15, 1965", "september fifteen nineteen sixty five"),
        ("Twenty, twenty-one", "2021"),
        ("July 12th, 1969", "july twelfth nineteen sixty nine"),
        ("Mr. Jones", "mister jones"),
        ("I'm sure, um, that's it", "im sure thats it"),
        ("make make sure", "make sure"),
        ("1200", "twelve hundred"),
        ("1250", "twelve hundred and fifty"),
        ("101", "a hundred and one"),
        ("072", "nought seven two"),
        ("0", "naught"),
        ("4555", "four treble five"),
        ("4444", "quadruple four"),
        ("007", "OO7"),
        ("007", "o o seven"),
        ("7000", "7 o o o"),
        ("ten thousand", "10,000"),
    ],
)
def test_ways_of_saying_the_same_phrase_agree(written: str, spoken: str) -> None:
    assert normalise(written) == normalise(spoken)


@pytest.mark.parametrize(
    ("one", "other"), [("44", "4"), ("A A", "A"), ("five one", "one five"), ("B", "D"), ("nine", "five")]
)
def test_phrases_that_differ_stay_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@given(st.text(max_size=300))
def test_any_text_at_all_normalises_and_is_stable(text: str) -> None:
    tokens = normalise(text)
    assert normalise(" ".join(tokens)) == tokens or any(token.isdigit() for token in tokens)
    assert 0.0 <= agreement(text, "two six eight") <= 1.0


def test_rivals_follow_from_the_phrase_alone() -> None:
    assert competitors("two six eight", 6) == competitors("TWO SIX EIGHT", 6)
    assert competitors("two six eight", 6) != competitors("two six nine", 6)


def test_rivals_are_of_the_same_shape_and_never_the_phrase_itself() -> None:
    phrase = "erase C K nine amber lantern"
    for rival in competitors(phrase, 6):
        assert len(rival.split()) == len(phrase.split())
        assert normalise(rival) != normalise(phrase)


def test_every_other_rival_is_one_word_away() -> None:
    phrase = "four two one six two eight three"
    near = competitors(phrase, 6)[::2]
    assert all(
        sum(one != other for one, other in zip(rival.split(), phrase.split(), strict=True)) == 1
        for rival in near
    )


def test_a_letter_is_rivalled_by_letters_and_a_digit_by_digits() -> None:
    for rival in competitors("A one A one", 6):
        assert [len(word) == 1 for word in rival.split()] == [True, False, True, False]
        assert {"one", "oh", "niner"} | {
            "zero",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
        } >= set(rival.split()[1::2])


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["one", "B", "kilo", "lantern", "twelve", "42"]), min_size=1, max_size=12))
def test_rivals_never_sound_like_the_phrase(words: list[str]) -> None:
    rivals = competitors(" ".join(words), 4)
    assert normalise(" ".join(words)) not in {normalise(rival) for rival in rivals}
    assert len({normalise(rival) for rival in rivals}) == len(rivals)


def test_an_empty_phrase_has_no_rivals() -> None:
    assert competitors("", 3) == ()


def test_forms_include_figures_and_a_written_sentence() -> None:
    assert forms("ENTER FIVE ZERO") == ("enter five zero", "Enter five zero.", "enter 5 0")
    assert forms("M O R E") == ("M O R E", "M O R E.", "M-O-R-E")


@pytest.mark.parametrize(
    "text",
    ["", "  ", "...", "Thank you.", "you", "(soft music)", "[BLANK_AUDIO]", "♪♪", "Thanks for watching!"],
)
def test_what_whisper_makes_up_counts_as_nothing(text: str) -> None:
    assert is_invented(text)


def test_real_words_are_not_invented() -> None:
    assert not is_invented("thank you two six eight")


def test_a_loop_is_cut_to_its_first_round() -> None:
    assert before_loop([9, 1, 2, 3, 1, 2, 3, 1, 2, 3]) == 4
    assert before_loop([7] * 6) == 1


def test_repeated_digits_are_no_loop() -> None:
    assert before_loop([4, 4, 4]) is None
    assert before_loop([1, 2, 1, 2]) is None
    assert before_loop([]) is None


def test_words_outside_the_challenge_never_leave() -> None:
    shown = redact("Doctor Miller said two six eight, please", "two six eight")
    assert shown == f"{REDACTED} 2 6 8 {REDACTED}"


@pytest.mark.parametrize("said", ["6 8 3 6 0 2 7", "k a u f m a n", "K-A-U-F-M-A-N", "six eight three six"])
def test_numbers_and_spelled_names_outside_the_phrase_never_leave(said: str) -> None:
    assert redact(f"{said} open now", "open now") == f"{REDACTED} open now"


def test_digits_of_another_number_do_not_stay_for_being_in_the_phrase_too() -> None:
    assert redact("two six eight eight six two", "two six eight") == f"2 6 8 {REDACTED}"


def test_a_duress_word_after_a_number_stays() -> None:
    word = duress_words()[0]
    assert redact(f"six eight {word} open now", "open now") == f"{REDACTED} {word} open now"


def test_what_a_person_says_of_who_they_are_keeps_its_digits() -> None:
    assert redact_claim("Miller four five one two", ["nurse"]) == f"{REDACTED} 4 5 1 2"


@pytest.mark.parametrize("between", ["\u00a0", "\t", "\n", "\u2003", " \r\n "])
def test_any_white_space_parts_the_words_of_a_phrase(between: str) -> None:
    assert plain(f"ten{between}of{between}clubs") == "ten of clubs"


@pytest.mark.parametrize(
    "pasted",
    [
        "ten of c\u00adlubs",  # a soft hyphen of a word processor
        "ten\u200bof\u200bclubs",
        "\ufefften of clubs",
        "\u202aten of clubs\u202c",
        "ten of clu\u2060bs",
        "ten of cl\u00fabs",
        "ten of clu\u0301bs",
        "ｔｅｎ ｏｆ ｃｌｕｂｓ",
    ],
)
def test_what_nobody_sees_in_a_pasted_phrase_and_accents_change_no_word(pasted: str) -> None:
    assert normalise(pasted) == normalise("ten of clubs")
    assert unsayable(pasted) == ""


@pytest.mark.parametrize("typed", "'‘’ʼ‛′´`＇")
def test_whatever_is_typed_for_an_apostrophe_is_one(typed: str) -> None:
    assert normalise(f"I{typed}m here, don{typed}t go") == ("im", "here", "dont", "go")
    assert plain(f"I{typed}m here") == "I'm here"
    assert unsayable(f"I{typed}m here") == ""
    assert normalise(f"{typed}ten{typed} of clubs") == normalise("ten of clubs")


@pytest.mark.parametrize(
    "phrase",
    ["ten & clubs", "50% off", "£5 note", "5 °C today", "ten 😀 clubs", "half ½ cup", "a@b here", "№ #5"],
)
def test_a_sign_that_each_reads_in_their_own_words_is_told(phrase: str) -> None:
    assert unsayable(phrase)


@pytest.mark.parametrize(
    "pasted",
    [
        "ten\u2028of\u2029clubs",
        "𝐭𝐞𝐧 ⓞⓕ clubs",
        "ten—of—clubs",
        "ten\u2010of\u2011clubs",
        "“ten” of clubs…",
        "t\u0336en of clubs",
        "ten\u061c of clubs",
        "ten\ufe0f of\x0b clubs",
        "ten\U000e0061 of clubs",
    ],
)
def test_what_else_a_word_processor_leaves_in_a_phrase_changes_no_word(pasted: str) -> None:
    assert normalise(pasted) == normalise("ten of clubs")
    assert unsayable(pasted) == ""


def test_the_end_of_an_ordinal_may_be_in_capitals() -> None:
    assert normalise("3RD Street") == normalise("third street")


def test_digits_of_any_script_are_digits() -> None:
    assert normalise("code ٤٧ ４७") == ("code", "4", "7", "4", "7")


@pytest.mark.parametrize("phrase", ["ten \u043ef clubs", "zehn von fuß", "δέκα of clubs"])
def test_a_letter_of_another_alphabet_is_told_however_much_it_looks_like_ours(phrase: str) -> None:
    assert unsayable(phrase) in phrase
    assert unsayable(phrase)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "Z"]), max_size=200))
def test_redaction_shows_challenge_words_only(text: str) -> None:
    allowed = {"open", "now"}
    for word in redact(text, "open now").split():
        assert word in allowed or word == REDACTED


def test_twice_as_long_a_transcript_is_no_more_than_about_twice_the_work() -> None:
    def work(times: int) -> int:
        return steps(lambda: agreement("one two three " * times, "one two three"))

    assert work(400) < 3 * work(200)
