"""Every page in German, read as a person reads it: no English word is left, wherever it was put together."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa

from sync.dashboard.app import PAGES
from sync.dashboard.insight import counted
from sync.registry.database.schema import events
from tests.sync.dashboard.conftest import Hospital

ENGLISH = re.compile(
    r"\b(?:the|of|and|with|from|this|that|is|are|be|been|needed|granted|refused|attack|attacks|attempts|none|not"
    r"|passed|failed|yes|nobody|anybody|somebody|everywhere|never|today|days|hours|doors|units|people|events|count"
    r"|open|closed|locked|unlocked|unknown|online|silent|offline|words|voice|live|seen|owner|times|last|since|until)\b",
    re.IGNORECASE,
)
DATA = re.compile(
    r"\[[a-z]+\]|^live$|Intensive care[^<]*|(?:East|West) [a-z0-9 ]+|Risk assessment of 12 March 2026"
    r"|Ostiary|Live-\w+|st-mary\S*"
    r"|[a-z-]+/[a-z0-9/#-]+|English|Theatres|Operating theatre \d|Newborn[^<]*|[A-Z][A-Za-z -]+, [a-z ]+"
)
"""What a site calls its doors, zones and reasons; and what is the same in every language."""


class Reader(HTMLParser):
    """The texts of a page, and of the attributes that are read out."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("code", "pre", "script", "style", "select", "textarea"):
            self._silent.append(tag)
        named = ("aria-label", "title", "placeholder", "alt")
        said = [value for name, value in attrs if value and (name in named or name.startswith("data-say"))]
        self.texts += said

    def handle_endtag(self, tag: str) -> None:
        if self._silent and self._silent[-1] == tag:
            self._silent.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and not self._silent:
            self.texts.append(" ".join(data.split()))


def english(html: str) -> list[str]:
    reader = Reader()
    reader.feed(html)
    return [text for text in reader.texts if ENGLISH.search(DATA.sub("", text))]


def addresses(hospital: Hospital) -> list[str]:
    """Of every page that is opened without a form."""
    with hospital.store.reading() as db:
        scored = sa.select(events.c.unit, events.c.sequence, events.c.person, events.c.door)
        row = db.execute(scored.where(events.c.kind == "DENIED_VOICE").limit(1)).one()
    plain = [path for method, path, _, _ in PAGES if method == "GET" and "{" not in path and path != "/"]
    more = [
        f"/events/{row.unit}/{row.sequence}", f"/people/{row.person}", f"/doors/{row.unit}/{row.door}",
        f"/proofs/{row.unit}", "/lockdown/start?site=st-mary&zone=icu", "/nowhere", "/attacks?days=365",
        "/login", "/events?show=alarms", "/incidents?state=resolved",
    ]  # fmt: skip
    # The journal is a record: it shows what was written down when it happened, in one language.
    return [path for path in plain if path not in ("/journal", "/events/export")] + more


def test_no_page_in_german_has_an_english_word(hospital: Hospital) -> None:
    counted.count(hospital.store, hospital.settings.time_zone, hospital.now_ms())
    left: dict[str, list[str]] = {}
    with hospital.client("admin") as client:
        for path in addresses(hospital):
            answer = client.get(path, headers={"Accept-Language": "de"})
            if "text/html" in answer.headers.get("content-type", "") and (found := english(answer.text)):
                left[path] = found
    assert [f"{path}: {text}" for path, texts in left.items() for text in texts] == []


@pytest.mark.parametrize(
    "html", ["<p>Voice: +3.0 needed</p>", '<svg aria-label="Attacks in 30 days"></svg>', "<td>nobody</td>"]
)
def test_the_reader_finds_what_is_left_in_english(html: str) -> None:
    assert english(html)
