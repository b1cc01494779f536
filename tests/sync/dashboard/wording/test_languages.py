"""The page in four languages: nothing is forgotten, nothing is lost on the way."""

from __future__ import annotations

import ast
import datetime as dt
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sync.dashboard import web
from sync.dashboard.accounts.rights import ROLE_NAMES, Right
from sync.dashboard.doors import doors, holds
from sync.dashboard.events import why
from sync.dashboard.incidents import incidents_page
from sync.dashboard.insight import figures, insight_pages
from sync.dashboard.people import visits
from sync.dashboard.records import emergency
from sync.dashboard.site import places
from sync.dashboard.web import NAV
from sync.dashboard.wording import languages, words
from sync.dashboard.wording.languages import LANGUAGES, catalogue
from tests.sync.dashboard.conftest import Hospital, token_of

DASHBOARD = Path(web.__file__).parent
PAGES = sorted(DASHBOARD.joinpath("templates").iterdir())
OTHERS = [language for language in LANGUAGES if language != "en"]
UNIT_STATES = ("new", "online", "silent", "offline", "revoked")
STEPS = ("acknowledged", "took over", "wrote", "resolved", "opened again")
LOOK_UP = re.compile(r"""\bsay\((?:"((?:[^"\\]|\\.)*)"|'([^']+)')""")
DATES = re.compile(r"""['"]((?:%[-A-Za-z]+|[ :]){2,})['"]""")


def messages(source: str) -> list[str]:
    """What a template looks up, once Jinja has read it."""
    found = LOOK_UP.findall(web.environment().preprocess(source))
    return [re.sub(r"\\(.)", r"\1", double) or single for double, single in found]


def words_of_events() -> set[str]:
    """Every text of `words.toml`, and what stands where it has none."""
    data = words.data()
    found = {words.LOOK, *(label for label, _ in words.GROUPS.values()), *data["reasons"].values()}
    found |= {entry["short"] for entry in data["kinds"].values()}
    return found | {entry[part] for entry in data["alarms"].values() for part in ("short", "do")}


def dates() -> set[str]:
    """Every form with a day and a month in which a template or Python writes a moment."""
    files = [*DASHBOARD.rglob("*.html"), *DASHBOARD.rglob("*.py")]
    forms = {form for file in files for form in DATES.findall(file.read_text("utf-8"))}
    return {form for form in forms if "%-d" in form and ("%b" in form or "%B" in form)}


@cache
def wanted() -> frozenset[str]:
    """Every text that a page may show in another language."""
    found = {message for file in PAGES for message in messages(file.read_text("utf-8"))}
    found |= {label for _, items in NAV for _, label, _ in items} | {heading for heading, _ in NAV}
    found |= set(ROLE_NAMES.values()) | {right.value for right in Right} | words_of_events()
    found |= set(places.LOCKING.values()) | set(places.EGRESS.values()) | set(insight_pages.SPANS.values())
    found |= {text for pair in (*why.ASKED, *why.MORE.values()) for text in pair}
    found |= {*why.VERDICTS, why.WEAKEST, why.SHORT, why.PASSED, "never", "{0} days"}
    found |= {*visits.STATES.values(), emergency.HELD, emergency.LOCKED}
    found |= set(words.FACTS.values())
    found |= {*holds.STATES.values(), "running", "halted", "done", "stopped"}
    found |= {
        *(text for text, _ in doors.STATES.values()),
        doors.DOWN,
        doors.NO_EVENT,
        *UNIT_STATES,
        *STEPS,
        "critical",
        "warning",
        "info",
    }
    found |= dates() | set(incidents_page.EVIDENCE.values())
    found |= {title for _, title in figures.SCORES} | set(web.FIELDS.values())
    found |= refusals()[0] | spoken()
    for number in range(12):
        moment = dt.datetime(2026, number + 1, 1, tzinfo=dt.UTC)
        found |= {f"{moment:%b}", f"{moment:%B}", f"{dt.datetime(2026, 1, 1 + number, tzinfo=dt.UTC):%A}"}
    return frozenset(
        text for text in found if any(c.isalpha() for c in string.Formatter().vformat(text, _Blank(), {}))
    )


AT_THE_COMMAND_LINE = {
    "accounts/journal.py", "accounts/oidc.py", "cli.py", "insight/calibration.py", "migrations.py",
    "serve.py", "settings.py", "site/names.py", "site/places.py",
}  # fmt: skip
"""Where a DashboardError may be raised: what these read or check, no page shows. A page refuses with
RefusedError."""


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """(file and line, call) of every call of these functions in the dashboard."""
    for file in sorted(DASHBOARD.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called in names:
                    yield f"{file.relative_to(DASHBOARD)}:{node.lineno}", node


def refusals() -> tuple[set[str], list[str]]:
    """(what the page refuses, where it does so in words that are no plain text)."""
    found, strange = {web.GONE, web.FAILED}, []
    for where, call in calls("RefusedError"):
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            found.add(first.value)
        else:
            strange.append(where)
    return found, strange


def spoken() -> set[str]:
    """The texts that Python gives to a look-up."""
    return {
        call.args[0].value
        for _, call in calls("say", "word", "tell")
        if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }


def test_a_refusal_is_a_plain_text_and_its_values_come_beside_it() -> None:
    assert refusals()[1] == []


def test_a_page_refuses_with_nothing_else() -> None:
    raised = {where.partition(":")[0] for where, _ in calls("DashboardError", "SyncError")}
    assert raised <= AT_THE_COMMAND_LINE
    unsaid = [
        where for where, call in calls("JSONResponse", "render", "page") if "str(err)" in ast.unparse(call)
    ]
    assert unsaid == []


def test_every_field_that_may_be_refused_has_a_name_for_people() -> None:
    named = {call.args[0].value for _, call in calls("text") if _is_field(call)}  # type: ignore[attr-defined]
    assert named == set(web.FIELDS)


def _is_field(call: ast.Call) -> bool:
    of_call = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in ("call", "self")
    return of_call and bool(call.args) and isinstance(call.args[0], ast.Constant)


SCRIPTS = sorted(DASHBOARD.joinpath("static").glob("*.js"))
_SCRIPT = re.compile(
    r"//[^\n]*|/\*.*?\*/|/(?![*/\s])(?:\\.|[^/\n\\])+/[gimsu]*(?=[.,);\s])"
    r"|(?P<literal>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)",
    re.DOTALL,
)
TECHNICAL = {
    "use strict", "tag alarm", "day ol", "message ", "muster ", "ostiary chain v1\\u0000", "roll-call",
    "not now", "last tone-",
    "Signature1", "SHA-256", "ECDSA", "P-256", "NotAllowedError", "message alarm", "tone-", "state-",
}  # fmt: skip
"""Literals of the scripts that look like words and are read by machines."""


def literals(script: str) -> list[str]:
    return [found["literal"][1:-1] for found in _SCRIPT.finditer(script) if found["literal"]]


def visible(script: str) -> list[str]:
    """Literals that a person could read: several words, a sentence, or one that is shown at once."""
    found = []
    for literal in literals(script):
        plain = re.sub(r"\$\{[^}]*\}", "", literal)
        selector = re.search(r"[\[\]#=<>/{}]|^\.|\.\w", plain) and not plain.endswith(".")
        words = re.findall(r"[A-Za-z]{2,}", plain)
        sentence = len(words) > 1 and " " in plain.strip()
        capital = bool(re.match(r"[A-Z][a-z]+\b", plain))
        if plain.strip() and plain not in TECHNICAL and not selector and (sentence or capital):
            found.append(literal)
    return found


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_no_script_says_anything_that_its_page_did_not_give_it(file: Path) -> None:
    script = file.read_text("utf-8")
    assert visible(script) == []


def test_the_check_of_scripts_sees_what_a_person_would_read() -> None:
    script = (
        '"use strict"; // "a comment"\nx.textContent = "Not sound"; y = \'It works\'; step("late now", true);'
        'z = `There are ${n} events`; q = document.querySelector(".day time"); fetch("/health");'
    )
    assert visible(script) == ["Not sound", "It works", "late now", "There are ${n} events"]


def test_every_sentence_that_a_script_asks_for_is_on_its_page() -> None:
    names = re.findall(
        r'(?:said|wrong)\(\s*"(\w+)"', DASHBOARD.joinpath("static/verify.js").read_text("utf-8")
    )
    given = re.findall(r"data-say-(\w+)=", DASHBOARD.joinpath("templates/verify_say.html").read_text("utf-8"))
    assert set(names) | {"unsound", "failed"} == set(given)
    assert len(given) == len(set(given))
    live = set(re.findall(r"words\.say(\w+)", DASHBOARD.joinpath("static/live.js").read_text("utf-8")))
    say = re.findall(r"data-say-(\w+)=", DASHBOARD.joinpath("templates/say.html").read_text("utf-8"))
    assert {name.lower() for name in live} == set(say)


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
        marks = re.findall(r"\[[a-z]+\]", message)
        assert sorted(re.findall(r"\[[a-z]+\]", said)) == sorted(marks), message


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
