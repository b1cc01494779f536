"""One normal form of ids, and of the texts that callers send."""

from __future__ import annotations

import unicodedata

import pytest

from sync.person_id import PersonIdError, person_id, plain_text


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("alice", "ALICE"),
        ("00-045", "00045"),
        ("12:3456", "123456"),
        (" 4711 ", "4711"),
        ("Müller", "MÜLLER"),
        (unicodedata.normalize("NFD", "Müller"), "MÜLLER"),
        ("dr.who_7", "DR.WHO_7"),
        ("Straße", "STRASSE"),
        ("Nguyễn", "NGUYỄN"),
    ],
)
def test_every_spelling_of_an_id_is_one_id(written: str, normal: str) -> None:
    assert person_id(written) == normal
    assert person_id(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        " - ",
        "аlice",
        "Αlice",
        "４７１１",
        "47\x0011",
        "47\n11",
        "a\u200bb",
        "a\u202eb",
        "x" * 65,
        "ŀ",
        "ſam",
        "٤٧١١",
    ],
)
def test_what_could_be_taken_for_another_id_is_none(text: str) -> None:
    with pytest.raises(PersonIdError, match=r"^it h[a-z]+ [^\n]+$"):
        person_id(text)


def test_a_text_is_compared_in_one_form() -> None:
    assert plain_text("10 µg") == plain_text("10\u00a0μg") == "10 \u00b5g"
    assert plain_text(unicodedata.normalize("NFD", "für Müller")) == "für Müller"
    assert plain_text("παρακεταμόλη 5 mg") == "παρακεταμόλη 5 mg"
    assert plain_text("") == ""


@pytest.mark.parametrize(
    "text", ["morрhine", "10\tmg", "10\x1bmg", "a\u202eb", "a\u2066b", "\ud800", "x" * 501]
)
def test_a_text_that_shows_as_another_one_is_refused(text: str) -> None:
    with pytest.raises(PersonIdError):
        plain_text(text)
