"""Every language says everything, and nothing in a file is silently ignored."""

from __future__ import annotations

from importlib.resources import files

import pytest

from device.feedback import LanguageError, language, languages
from device.feedback.messages import parse_language
from device.policy import Notice

ENGLISH = (files("device") / "feedback" / "languages" / "en.toml").read_text("utf-8")


def test_there_are_several_languages():
    assert {"de", "en", "fr", "it"} <= set(languages())


@pytest.mark.parametrize("code", languages())
def test_every_language_has_a_sentence_for_everything_a_door_can_tell(code):
    spoken = language(code)
    for notice in Notice:
        assert spoken.notice(notice, wait_s=30.0).strip()
    assert "acorn river" in spoken.prompt("acorn river")
    assert "30" in spoken.notice(Notice.WAIT, wait_s=30.0)
    assert set(spoken.advice) == set(language("en").advice)


def test_a_second_try_explains_what_to_do_and_the_first_is_brief():
    english = language("en")
    first, second = (english.notice(Notice.ALL_WORDS, tries=tries) for tries in (1, 2))
    assert second.startswith(first)
    assert "Wait for the tone" in second


def test_a_refusal_says_nothing_about_which_check_failed():
    for code in languages():
        text = language(code).notice(Notice.REFUSED, tries=3).casefold()
        for hint in (
            "voice did",
            "spoof",
            "record",
            "synthetic",
            "registrazione",
            "aufnahme",
            "enregistrement",
        ):
            assert hint not in text


def test_a_language_without_a_file_is_refused_with_what_there_is():
    with pytest.raises(LanguageError, match="en"):
        language("xx")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('welcome = "Welcome. The door is open."', ""), "notices.welcome is missing"),
        (("[notices]", "[notices]\nwelcom = 'x'"), "notices.welcom is no key here"),
        (("{seconds}", "{minutes}"), "notices.wait has the wrong places in braces: minutes, seconds"),
        (("{seconds}", "{seconds"), "notices.wait has the wrong places"),
        (('name = "English"', ""), "name is missing"),
        (('name = "English"', 'name = "English"\ncolour = 1'), "colour is no key here"),
        (("[prompts]", "[promts]"), "prompts is missing"),
        (('listening = "Listening…"', "listening = 7"), "prompts.listening must be a sentence"),
    ],
)
def test_a_gap_in_a_language_file_is_named(change, complaint):
    with pytest.raises(LanguageError) as error:
        parse_language("en", ENGLISH.replace(*change))
    assert complaint in str(error.value)


def test_a_language_file_that_is_not_toml_is_refused():
    with pytest.raises(LanguageError):
        parse_language("en", "[[[")
