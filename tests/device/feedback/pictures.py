"""Pictures of what an installer sees, from the real thing: `python -m tests.device.feedback.pictures`.

Writes docs/images/door-display.png, every state of the door's screen, and docs/images/first-boot.svg, what
the commands of the guide say; `scripts/screenshots --docs` runs it, too.
"""

from __future__ import annotations

import html
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

from device.access.challenge import Binding, Challenge, Style
from device.access.decision import Decision, Notice, Outcome, Reason, fault
from device.commands.demo import SVG
from device.feedback import Cue, Feedback, Stage, language
from device.feedback.page import render

IMAGES = Path(__file__).resolve().parents[3] / "docs" / "images"
WIDTH, HEIGHT, COLUMNS = 400, 236, 3
OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]


class Kept:
    """A sink that keeps what a display is given."""

    def __init__(self) -> None:
        self.cues: list[Cue] = []

    def show(self, cue: Cue) -> None:
        self.cues.append(cue)


def asked(phrase: str) -> Challenge:
    door = Binding("st-mary/pharmacy-1", "pharmacy", "4711")
    return Challenge(door, Style.WORDS, phrase, phrase, 1, 1, b"", "2026-11-30", 0.0, 20.0, b"")


def refused(notice: Notice, outcome: Outcome = Outcome.DENIED_VOICE) -> Decision:
    return Decision(outcome, Reason.WEAK_SCORE, "", notice, person="4711")


def cues() -> list[tuple[str, str, Cue]]:
    """(what it is, language, cue) of each state, as the door's own feedback makes it."""
    shown, phrase = Kept(), "canyon velvet bishop almond tunnel"
    english = Feedback(language("en"), [shown])
    english.ready()
    english.tell(asked(phrase))
    english.speaking()
    english.judging()
    english.tell(Decision(Outcome.GRANTED, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME))
    english.tell(refused(Notice.ALL_WORDS))
    english.tell(refused(Notice.REFUSED))
    english.warn(Notice.CLOSE_DOOR)
    english.tell(Decision(Outcome.LOCK_DOWN, Reason.LOCKED_DOWN, "", Notice.LOCKED_DOWN))
    english.tell(Decision(Outcome.EMERGENCY_RELEASE, Reason.FIRE_INPUT, "", Notice.EMERGENCY))
    english.tell(fault(Reason.LOG_FAULT, "the disk is full"))
    names = (
        "nobody is there", "say this after the tone", "somebody speaks", "they have ended", "let in",
        "once more", "refused", "the door stands open", "lock-down", "fire", "out of service",
    )  # fmt: skip
    found = [(name, "en", cue) for name, cue in zip(names, shown.cues, strict=True)]
    german = Cue(Stage.SPEAK, language("de").prompt(phrase), phrase)
    return [*found[:2], ("the same at a German door", "de", german), *found[2:]]


def screen(code: str, cue: Cue) -> str:
    """The page of a cue as it is written; a picture has no need to read itself again."""
    return render(cue, language(code), time.time()).replace('http-equiv="refresh"', 'name="once"')


def door_display() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Debian's chromium is missing; scripts/setup --test installs it")
    frames = "".join(
        f'<figure><iframe srcdoc="{html.escape(screen(code, cue))}" width="{WIDTH}" height="{HEIGHT}">'
        f"</iframe><figcaption>{html.escape(name)}</figcaption></figure>"
        for name, code, cue in cues()
    )
    style = (
        f"body{{margin:8px;display:grid;grid-template-columns:repeat({COLUMNS},{WIDTH}px);gap:8px;"
        "background:#fff;font:15px 'DejaVu Sans',sans-serif}figure{margin:0}iframe{border:1px solid #888}"
        "figcaption{text-align:center;padding:2px}"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": COLUMNS * (WIDTH + 10) + 8, "height": 600})
        page.set_content(f"<style>{style}</style>{frames}")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=IMAGES / "door-display.png", full_page=True)
        browser.close()


def first_boot() -> None:
    """The commands with which a unit is named and its wires are tried, and what they said."""
    console = Console(record=True, width=100, file=io.StringIO())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = folder / "lines"
        lines.mkdir()
        settings = folder / "ostiary.toml"
        environment = {**os.environ, "OSTIARY_STATE_DIR": name, "OSTIARY_CONFIG": str(settings)}

        def said(shown: str, *arguments: str, typed: str = "") -> None:
            ran = subprocess.run(
                [*OSTIARY, *arguments], env=environment, input=typed, text=True, check=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            told = ran.stdout.replace(": This", f": {typed}This") if typed else ran.stdout
            console.print(Text(f"# {shown}", style="bold"))
            console.print(Text(told.rstrip()))

        (folder / "policy-authority.pem").touch()
        named = ("--tcti", "tabrmd", "--unit", "st-mary/pharmacy-1", "--settings", str(settings))
        said("ostiary first-boot", "first-boot", *named, typed="pharmacy\n")
        with settings.open("a", encoding="utf-8") as file:
            file.write(f'\n[door.simulated]\nlines = "{lines}"\n')
        console.print(Text("# ostiary door wires", style="bold"))
        console.print(Text(wires(lines, environment)))
    console.save_svg(str(IMAGES / "first-boot.svg"), title="First boot, and each wire tried", code_format=SVG)


def wires(lines: Path, environment: dict[str, str]) -> str:
    """`ostiary door wires` while somebody moves each wire to and fro."""
    with subprocess.Popen(
        [*OSTIARY, "door", "wires"], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        told, names = "", ("contact", "request_to_exit", "tamper", "fire")
        assert process.stdout is not None
        for _ in names:
            told += process.stdout.readline()
        for name in names:
            for level in ("1", "0"):
                draft = lines / f"{name}.new"
                draft.write_text(level)
                draft.replace(lines / name)
                told += process.stdout.readline()
        return (told + process.stdout.read()).rstrip()


def main() -> None:
    door_display()
    first_boot()


if __name__ == "__main__":
    main()
