"""German phrases: one spelling for all ways of writing, numbers, what may stand beside a phrase. Pure."""

from __future__ import annotations

import unicodedata

import pytest

from device.evidence.phrase import (
    MAX_PHRASE_WORDS,
    REDACTED,
    agreement,
    alternatives,
    forms,
    is_invented,
    normalise,
    redact,
    redact_claim,
    said_in_full,
    unsayable,
)
from device.evidence.vocabulary import Language
from device.evidence.wordlists import SELDOM_WORDS, challenge_words, duress_words, seldom_words
from device.evidence.words_around import words_around

DE = Language.GERMAN


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("Straße", "strasse"),
        ("fünf", "fuenf"),
        ("Möbel", unicodedata.normalize("NFD", "Möbel")),
        ("einundfünfzig", "5 1"),
        ("Einundfünfzig", "fünf, eins"),
        ("zwo", "zwei"),
        ("siebenhundertdreißig", "7 3 0"),
        ("viertausenddreihundertsechsundachtzig", "4386"),
        ("tausendeins", "1001"),
        ("hundertundeins", "101"),
        ("Ähm, null null sieben", "007"),
        ("ich ich habe", "ich habe"),
        ("Dr. Weiß", "Doktor Weiss"),
        ("WF7", "w f sieben"),
        ("alpha bravo drei", "AB3"),
    ],
)
def test_ways_of_writing_the_same_agree(one: str, other: str) -> None:
    assert normalise(one, DE) == normalise(other, DE)


@pytest.mark.parametrize(
    ("one", "other"), [("sieben", "siebzehn"), ("Mutter", "Mütter"), ("acht", "achtzig"), ("zwei", "drei")]
)
def test_what_differs_stays_different(one: str, other: str) -> None:
    assert normalise(one, DE) != normalise(other, DE)


def test_a_canonical_text_stays_as_it_is_also_when_it_was_redacted() -> None:
    for text in ("Ampel fünf Straße", "sieben drei null", "4386 A B"):
        once = " ".join(normalise(text, DE))
        assert " ".join(normalise(once, DE)) == once
    shown = redact("Ampel, Geheimnis, Koffer!", "Ampel Koffer", DE)
    assert shown == f"ampel {REDACTED} koffer"


def test_a_number_word_of_one_language_is_a_word_in_the_other() -> None:
    assert normalise("elf seven", DE) == ("1", "1", "seven")
    assert normalise("elf seven") == ("elf", "7")


@pytest.mark.parametrize("text", ["Ж", "π", "50 %", "Schmidt & Söhne", "5 €"])
def test_signs_that_people_read_in_their_own_words_cannot_be_asked_for(text: str) -> None:
    assert unsayable(text, DE)


def test_umlauts_can_be_asked_for_in_german() -> None:
    assert not unsayable("Fünf süße Möbel auf der Straße", DE)


def test_a_phrase_is_weighed_as_it_is_written_with_and_without_commas_and_digits_as_figures_too() -> None:
    assert forms("Ampel Koffer", DE) == ("Ampel Koffer.", "Ampel, Koffer.")
    assert forms("sieben fünf", DE) == ("Sieben fünf.", "7 5", "7, 5.")


def test_rivals_are_of_the_same_class() -> None:
    assert " Koffer" not in alternatives(" Koffer", DE)
    assert {one.strip() for one in alternatives(" Koffer", DE)} <= {*challenge_words(DE)}
    assert " 8" in alternatives(" 7", DE)
    assert {" acht", " zwo"} <= {*alternatives(" sieben", DE)}
    assert alternatives(".", DE) == ()


def test_agreement_and_completeness_go_by_the_canonical_spelling() -> None:
    assert agreement("7 3 0", "sieben drei null", DE) == 1.0
    assert said_in_full("7 3 0", "sieben drei null", DE)
    assert not said_in_full("7 3", "sieben drei null", DE)
    assert not said_in_full(f"7 3 0 {REDACTED}", "sieben drei null", DE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Vielen Dank.",
        "Untertitel im Auftrag des ZDF, 2021",
        "(Musik)",
        "Untertitelung des ZDF, 2020",
        "Tschüss!",
    ],
)
def test_what_whisper_makes_up_in_german_is_nothing(text: str) -> None:
    assert is_invented(text, DE)


def test_a_phrase_is_not_made_up() -> None:
    assert not is_invented("Ampel, Koffer, Garten.", DE)


PHRASE = " ".join(challenge_words(DE)[:5])


@pytest.mark.parametrize(
    "text", [f"Guten Morgen, {PHRASE}", f"{PHRASE}, danke schön", f"Ähm ja, {PHRASE} bitte"]
)
def test_a_greeting_may_stand_beside_a_phrase(text: str) -> None:
    assert words_around(text, PHRASE, DE) is not None or said_in_full(text, PHRASE, DE)


@pytest.mark.parametrize(
    "text",
    [
        f"{PHRASE}, nein",
        f"nicht {PHRASE}",
        f"{PHRASE}, Entschuldigung",
        f"{PHRASE} no",
        f"{PHRASE} stopp",
        f"{PHRASE} {challenge_words(DE)[9]}",
        f"sieben {PHRASE}",
    ],
)
def test_nothing_that_takes_a_phrase_back_or_is_of_one_may_stand_beside_it(text: str) -> None:
    assert words_around(text, PHRASE, DE) is None


def test_what_follows_a_phrase_may_be_a_duress_word_of_either_language() -> None:
    for word in (duress_words(DE)[0], duress_words()[0]):
        assert redact(f"{PHRASE} {word} Geheimnis", PHRASE, DE).split()[-2:] == [word.lower(), REDACTED]


def test_a_spoken_number_keeps_its_digits_and_of_the_words_those_of_the_rules() -> None:
    assert (
        redact_claim("Ich bin Müller, vier sieben eins eins", ["Müller"], DE) == f"{REDACTED} mueller 4 7 1 1"
    )


def test_the_lists_have_what_is_stated_and_no_word_twice_however_it_is_written() -> None:
    words, seldom, duress = challenge_words(DE), seldom_words(DE), duress_words(DE)
    assert (len(words), len(seldom), len(duress)) == (256, SELDOM_WORDS, 16)
    spelled = [normalise(word, DE) for word in (*words, *duress)]
    assert len({*spelled}) == len(spelled)
    assert all(len(one) == 1 and len(one[0]) > 1 for one in spelled)
    assert all(word.isascii() and word.istitle() for word in (*words, *duress))
    assert {*seldom} < {*words}


def test_a_very_long_text_is_told_in_time() -> None:
    long = "Fünfundzwanzigtausend " * (50 * MAX_PHRASE_WORDS)
    assert normalise(long, DE)[:5] == ("2", "5", "0", "0", "0")
