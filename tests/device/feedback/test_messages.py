"""Every language says everything, and nothing in a file is silently ignored."""

from __future__ import annotations

from importlib.resources import files

import pytest

from device.access.decision import Notice
from device.feedback import LanguageError, language, languages
from device.feedback.messages import parse_language

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


@pytest.mark.parametrize("code", languages())
@pytest.mark.parametrize(
    "notice",
    [Notice.ALL_WORDS, Notice.COME_CLOSER, Notice.STEP_BACK, Notice.TOO_NOISY, Notice.TOO_LATE,
     Notice.REFUSED, Notice.SAY_NUMBER, Notice.NOISE_OVER_WORDS, Notice.SPEAK_ALOUD, Notice.AFTER_TONE,
     Notice.PART_LOST],
)  # fmt: skip
def test_in_every_language_whatever_can_be_done_better_is_explained_on_the_second_try(code, notice):
    spoken = language(code)
    first, second = (spoken.notice(notice, tries=tries) for tries in (1, 2))
    assert second == f"{first} {spoken.advice[notice]}"
    if code != "en":
        assert spoken.advice[notice] != language("en").advice[notice]


@pytest.mark.parametrize("code", languages())
def test_in_every_language_the_hints_say_closer_all_the_words_and_wait_for_the_tone(code):
    closer, every, tone = {
        "en": ("closer", "all the words", "wait for the tone"),
        "de": ("näher", "alle wörter", "warten sie auf den ton"),
        "fr": ("approchez", "tous les mots", "attendez le signal"),
        "it": ("avvicini", "tutte le parole", "attenda il segnale"),
    }[code]
    spoken = language(code)
    assert closer in spoken.notice(Notice.COME_CLOSER).casefold()
    assert every in spoken.notice(Notice.ALL_WORDS).casefold()
    assert tone in spoken.notice(Notice.ALL_WORDS, tries=2).casefold()


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
