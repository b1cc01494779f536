"""A picture of a door's screen from the real pages: `python -m tests.device.feedback.pictures`.

Writes docs/images/door-display.png; `scripts/screenshots --docs` runs it, too.
"""

from __future__ import annotations

import html
import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from device.access.decision import Notice
from device.feedback import Cue, Stage, language
from device.feedback.page import render

PICTURE = Path(__file__).resolve().parents[3] / "docs" / "images" / "door-display.png"
WIDTH, HEIGHT = 508, 300


def cues() -> list[tuple[str, Cue]]:
    """(language, cue) of each screen, in the order in which somebody meets them."""
    english, phrase = language("en"), "canyon velvet bishop almond tunnel"
    return [
        ("en", Cue(Stage.READY, english.prompts["ready"])),
        ("en", Cue(Stage.SPEAK, english.prompt(phrase), phrase)),
        ("de", Cue(Stage.SPEAK, language("de").prompt(phrase), phrase)),
        ("en", Cue(Stage.OPEN, english.notice(Notice.WELCOME))),
        ("de", Cue(Stage.RETRY, language("de").notice(Notice.ALL_WORDS, tries=2))),
        ("en", Cue(Stage.REFUSED, english.notice(Notice.REFUSED))),
    ]


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Debian's chromium is missing; scripts/setup --test installs it")
    frames = "".join(
        f'<iframe srcdoc="{html.escape(page)}" width="{WIDTH}" height="{HEIGHT}"></iframe>'
        for code, cue in cues()
        # Each once: in a picture nothing has to read itself again.
        if (page := render(cue, language(code), time.time()).replace('http-equiv="refresh"', 'name="once"'))
    )
    style = (
        "body{margin:0;display:grid;grid-template-columns:1fr 1fr;gap:8px;background:#888} iframe{border:0}"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 2 * WIDTH + 8, "height": 3 * HEIGHT + 16})
        page.set_content(f"<style>{style}</style>{frames}")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
