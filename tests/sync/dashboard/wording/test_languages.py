"""The page in four languages: nothing is forgotten, nothing is lost on the way."""

from __future__ import annotations

import ast
import datetime as dt
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.dashboard import web
from sync.dashboard.accounts.rights import ROLE_NAMES, Right
from sync.dashboard.doors import doors, doors_page, holds
from sync.dashboard.events import why
from sync.dashboard.insight import look
from sync.dashboard.people import visits
from sync.dashboard.records import emergency
from sync.dashboard.site import places
from sync.dashboard.web import NAV
from sync.dashboard.wording import languages, words
from sync.dashboard.wording.languages import LANGUAGES, catalogue, every_message, messages
from tests.sync.dashboard.conftest import Hospital, token_of

OTHERS = [language for language in LANGUAGES if language != "en"]
UNIT_STATES = ("new", "online", "silent", "offline", "revoked")
STEPS = ("acknowledged", "took over", "wrote", "resolved", "opened again")


def wanted() -> set[str]:
    """Every text that a page may show in another language."""
    found = {message for _, message in every_message()}
    found |= {label for _, items in NAV for _, label, _ in items} | {heading for heading, _ in NAV}
    found |= set(ROLE_NAMES.values()) | {right.value for right in Right} | set(words.texts())
    found |= set(places.LOCKING.values()) | set(places.EGRESS.values()) | set(look.SPANS.values())
    found |= {text for pair in (*why.ASKED, *why.MORE.values()) for text in pair}
    found |= {*why.VERDICTS, why.WEAKEST, why.SHORT, why.PASSED, "never", "{0} days"}
    found |= {*visits.STATES.values(), emergency.HELD, emergency.LOCKED}
    found |= set(doors_page.FACTS.values())
    found |= {*holds.STATES.values(), "running", "halted", "done", "stopped"}
    found |= {*doors.STATE_TEXTS, *UNIT_STATES, *STEPS, "critical", "warning", "info"}
    found |= refusals()
    for number in range(12):
        moment = dt.datetime(2026, number + 1, 1, tzinfo=dt.UTC)
        found |= {f"{moment:%b}", f"{moment:%B}", f"{dt.datetime(2026, 1, 1 + number, tzinfo=dt.UTC):%A}"}
    return {
        text for text in found if any(c.isalpha() for c in string.Formatter().vformat(text, _Blank(), {}))
    }


def refusals() -> set[str]:
    """What the page refuses, in words that it does not put together."""
    found = {web.GONE, web.FAILED}
    for file in Path(web.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RefusedError":
                found |= {
                    a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                }
    return found


class _Blank(tuple[str, ...]):
    def __getitem__(self, _: object) -> str:  # type: ignore[override]
        return ""


def _fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_every_message_is_there_and_none_is_left_over(language: str) -> None:
    found = catalogue(language)
    assert sorted(wanted() - found.keys()) == []
    assert sorted(found.keys() - wanted()) == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_inserts_nothing_that_is_not_there(language: str) -> None:
    for message, said in catalogue(language).items():
        assert said.strip(), message
        assert _fields(said) <= _fields(message), message
        assert "<" not in said, message
        for mark in ("[at]", "[count]"):
            assert (mark in said) == (mark in message), message


def test_text_between_tags_becomes_a_message_and_code_does_not() -> None:
    source = (
        '<p title="Read {{ a }}">You have {{ n }} doors, {{ b if c }}.</p><code>ostiary</code>{% if x > 1 %}'
        '<a href="/x">And <b>more</b></a>{% endif %}{{ n }} <i>·</i>'
    )
    assert messages(source) == ["Read {0}", "You have {0} doors, {1}.", "And", "more"]


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    yield
    languages.choose("en")


def test_what_is_inserted_is_escaped_in_every_language() -> None:
    for language in LANGUAGES:
        languages.choose(language)
        assert "<b>" not in languages.say("Person {0}", "<b>")
        assert "&lt;b&gt;" in languages.say("Person {0}", "<b>")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.5", "de"), ("it,es;q=0.8", "es"), ("", "en"), ("zh", "en"), ("fr", "fr"),
        ("x" * 5000, "en"),
    ],
)  # fmt: skip
def test_a_browser_that_asks_gets_its_language(hospital: Hospital, header: str, language: str) -> None:
    with hospital.client() as client:
        page = client.get("/login", headers={"Accept-Language": header}).text
    assert f'<html lang="{language}"' in page


def test_a_person_who_chooses_a_language_keeps_it_and_sees_it_everywhere(hospital: Hospital) -> None:
    with hospital.client("admin") as client:
        form = {"csrf": token_of(client.get("/account").text), "language": "de", "back": "/events"}
        assert client.post("/language", data=form).headers["location"] == "/events"
        page = client.get("/events", headers={"Accept-Language": "fr"}).text
        assert "Ereignisse" in page
        assert "Events" not in page.partition("<main")[2].replace("/events", "")
        assert client.post("/language", data=form | {"language": "xx"}).status_code == 303
        assert "Ereignisse" in client.get("/events").text


def test_a_refusal_is_told_in_the_language_of_the_page(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        page = client.get("/accounts", headers={"Accept-Language": "de"})
        assert page.status_code == 403
        assert "Ihr Konto darf das nicht." in page.text
        gone = client.get("/nowhere", headers={"Accept-Language": "es"}).text
        assert "Aquí no hay nada que su cuenta pueda ver." in gone
