"""The web page for a screen at the door."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from device.access.decision import Decision, Notice, Outcome, Reason
from device.feedback import Cue, Feedback, PageSink, Stage, language
from device.feedback.page import COLOURS, STALE_AFTER_S, render
from tests.waiting import wait_until


def test_the_phrase_stands_by_itself_and_the_page_reads_itself_again() -> None:
    page = render(Cue(Stage.SPEAK, "Dites : acorn river", "acorn river"), language("fr"), 0.0)
    assert '<p class="phrase" lang="en">acorn river</p>' in page
    assert '<p class="told">Dites : </p>' in page
    assert 'http-equiv="refresh"' in page
    assert '<html lang="fr">' in page


def test_the_page_asks_nobody_for_anything_and_its_script_only_looks_at_the_clock() -> None:
    page = render(Cue(Stage.OPEN, "Welcome."), language("en"), 1.5)
    assert not re.search(r"<script [^>]|https?:|src=|@import|url\(", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script.strip() == 'if (Math.abs(Date.now() - 1500) > 15000) document.body.className = "stale";'


def test_a_page_that_was_left_behind_says_that_the_door_is_out_of_service(tmp_path: Path) -> None:
    path = shutil.which("chromium")
    assert path, "the tests need Debian's chromium: scripts/setup --test installs it"
    page = tmp_path / "door.html"

    def is_stale(written_s: float) -> bool:
        text = render(Cue(Stage.THINKING, "One moment"), language("en"), written_s)
        page.write_text(text.replace('http-equiv="refresh"', 'name="read-once"'))
        command = [path, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout
        assert "Out of service." in shown
        return '<body class="stale">' in shown

    assert is_stale(time.time() + 3600)
    assert is_stale(0.0)
    # A page is fresh for so long only. A browser that took longer to start has shown nothing: once more.
    for _ in range(10):
        written_s = time.time() + STALE_AFTER_S - 1
        if not is_stale(written_s):
            return
        assert time.time() > written_s + STALE_AFTER_S, "a fresh page was said to be stale"
    pytest.fail("this machine takes half a minute to open a page")


def test_the_page_is_written_again_until_it_is_closed(tmp_path: Path) -> None:
    path, written = tmp_path / "door.html", []
    page = PageSink(path, language("en"), every_s=0.01, wall_s=lambda: (written.append(1), 0.0)[1])
    page.show(Cue(Stage.READY, "Badge"))
    first = path.stat().st_ino
    wait_until(lambda: len(written) > 2 and path.stat().st_ino != first)
    page.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "page"]


def test_a_page_that_was_never_shown_is_closed_too(tmp_path: Path) -> None:
    PageSink(tmp_path / "door.html", language("en")).close()
    assert list(tmp_path.iterdir()) == []


def test_a_phrase_is_text_and_never_markup() -> None:
    page = render(Cue(Stage.SPEAK, "Say: <b>&", "<b>&"), language("en"), 0.0)
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_a_page(stage: Stage) -> None:
    assert stage.upper() in render(Cue(stage, "x"), language("en"), 0.0)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", list(COLOURS.values()), ids=list(COLOURS))
def test_letters_can_be_read_by_weak_eyes(colours: tuple[str, str]) -> None:
    assert contrast(*colours) >= 7.0


def test_the_file_is_replaced_whole_and_can_be_read_by_the_screens_user(tmp_path: Path) -> None:
    path = tmp_path / "door.html"
    page = PageSink(path, language("en"))
    feedback = Feedback(language("en"), [page])
    feedback.ready()
    first = path.stat().st_ino
    feedback.tell(Decision(Outcome.GRANTED, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME))
    assert path.stat().st_ino != first
    page.close()
    assert "Welcome" in path.read_text("utf-8")
    assert path.stat().st_mode & 0o777 == 0o644
    assert [found.name for found in tmp_path.iterdir()] == ["door.html"]


def test_a_page_that_cannot_be_written_does_not_stop_the_door(tmp_path: Path) -> None:
    feedback = Feedback(language("en"), [PageSink(tmp_path / "gone" / "door.html", language("en"))])
    feedback.ready()
