"""`ostiary demo`: a door, a real reader, and everybody who is not that reader. Run by `scripts/demo`."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from device.access.decision import Decision, Outcome
from device.commands.demo_site import ACCOUNT, Site, site_around
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.secure_store import open_store
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import load, models_dir
from device.unit.assembly import Tools, open_judge
from device.unit.enrolment import enrol, named
from device.unit.recordings import decide_recording
from sync.plain_file import check_plain_or_new
from sync.plain_words import what_and_why

SPEECH = Path("/usr/share/pocketsphinx/test/data")
READER = "sense_and_sensibility_01_austen_64kb-{}.wav"
ENROLMENT = ("0870", "0890", "0920")
SENTENCE = "he was not an ill disposed young man"
OTHER_SENTENCE = "he might even have been made amiable himself"
CARDS = "four queen of clubs"
UID = "reader-1"
HEADINGS = ("at the door", "decision", "words", "voice", "live", "ms", "")
WIDTHS = (31, 14, 5, 5, 5, 4, 10)
"""80 characters, with a space between columns."""
NUMBERS = range(2, 6)
"""The columns that are aligned to the right."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One attempt, and its right outcomes."""

    who: str
    phrase: str
    recording: Path
    expected: frozenset[Outcome]
    claim: str = UID


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of a scene."""

    scene: Scene
    decision: Decision
    evidence: Evidence | None

    @property
    def as_expected(self) -> bool:
        return self.decision.outcome in self.scene.expected


@click.command()
@click.option("--headless", is_flag=True, help="No colours, no motion; for scripts and CI.")
@click.option("--no-page", is_flag=True, help="The door alone, without registry and dashboard.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Save the table as a picture.")
def demo(headless: bool, no_page: bool, svg: Path | None) -> None:
    """Enrol a real reader, then try the door as that reader and as everybody else.

    Every row goes through the code of `ostiary enroll` and `ostiary decide`, with a store of its own, sealed
    by a TPM in software, that is gone afterwards. Each attempt travels to a registry and appears on its
    dashboard, on this machine alone. Exit code 0 only if every row came out as it must and is on the page.

    \b
    Example: ostiary demo --headless
    """
    if svg is not None:
        check_plain_or_new(svg)  # before the demo takes its minutes
    console = Console(no_color=headless, record=svg is not None, width=None if svg is None else 84)
    with (
        tempfile.TemporaryDirectory(prefix="ostiary-demo-") as folder,
        _progress(console, headless) as progress,
        _door(Path(folder), page=not no_page) as (tools, site),
    ):
        console.print(_line(HEADINGS, "bold"), soft_wrap=True)
        rows, told = [], False
        for row in _play(tools, site, Path(folder), progress):
            rows.append(row)
            console.print(_row(row), soft_wrap=True)
            if site is not None and len(rows) == 1:
                site.start()  # not before: the first row need not share the cores with it
            elif site is not None and not told and site.ready():
                told = True
                click.echo(f"Live at {_address(site)}", err=True)
        if site is not None:
            site.settle()
        progress.stop()
        wrong = [row for row in rows if not row.as_expected]
        console.print(
            f"[bold red]{len(wrong)} of {len(rows)} came out wrong.[/]"
            if wrong
            else f"[bold green]All {len(rows)} attempts came out as they must.[/]"
        )
        if site is not None and (listed := site.listed()) != len(rows):
            raise DeviceError(f"the dashboard lists {listed} of {len(rows)} attempts")
        console.print(
            "Scores are log-likelihood ratios: above the threshold speaks for the person. Where to look "
            "next:\n  ostiary enroll 4711 *.wav                 your own voice, five phrases\n"
            "  ostiary run --claim 4711                  your own microphone\n"
            "  ostiary evaluate --help                   error rates on your own recordings"
        )
        if site is not None:
            _show(console, site, len(rows), headless)
    if svg is not None:
        console.save_svg(str(svg), title="scripts/demo", code_format=SVG)
    raise click.exceptions.Exit(1 if wrong else 0)


@contextmanager
def _door(folder: Path, *, page: bool) -> Iterator[tuple[Tools, Site | None]]:
    """The door, and with `page` the hospital around it, not yet started."""
    with ExitStack() as parts:
        tpm = parts.enter_context(SwTpm(folder / "tpm"))
        settings = replace(load(), store=tpm.settings())
        store = parts.enter_context(open_store(folder / "state", settings.store))
        judge = parts.enter_context(open_judge(models_dir(), settings))
        site = parts.enter_context(site_around(store, settings, folder)) if page else None
        yield Tools(judge, store, settings, folder / "state"), site


def _play(tools: Tools, site: Site | None, folder: Path, progress: Progress) -> Iterator[Row]:
    enrolment = [_speech("librivox", READER.format(number)) for number in ENROLMENT]
    task = progress.add_task("Enrolling a reader from three sentences", total=None)
    enrol(tools, UID, named(enrolment), reason="operator")
    for scene in _scenes(folder):
        progress.update(task, description=f"{scene.who} ...")
        decision, evidence = decide_recording(
            tools, scene.recording, door=tools.settings.door.name, uid=scene.claim, phrase=scene.phrase
        )
        if site is not None:
            site.decided(decision, evidence)
        yield Row(scene, decision, evidence)


def _show(console: Console, site: Site, times: int, headless: bool) -> None:
    """Say that all is on the page; at a terminal, keep it there until Ctrl-C."""
    console.print(f"All {times} are on the dashboard, signed by the unit and stored by the registry.")
    if headless or not (console.is_terminal and sys.stdin.isatty()):
        return
    click.echo(f"Look at {_address(site)}. Ctrl-C ends it.", err=True)
    with suppress(KeyboardInterrupt):
        signal.pause()


def _address(site: Site) -> str:
    return f"{site.origin} (account {ACCOUNT}, password {site.password})"


def _scenes(folder: Path) -> Iterator[Scene]:
    """The scenes, each made in its turn, so that the first row need not wait for the synthesisers."""
    granted, phrase = frozenset({Outcome.GRANTED}), frozenset({Outcome.DENIED_PHRASE})
    voice, unknown = frozenset({Outcome.DENIED_VOICE}), frozenset({Outcome.DENIED_UNKNOWN})
    spoof, quality = frozenset({Outcome.DENIED_SPOOF}), frozenset({Outcome.DENIED_QUALITY})
    first = _speech("librivox", READER.format("0880"))
    second = _speech("librivox", READER.format("0930"))
    yield Scene("the reader, the right words", SENTENCE, first, granted)
    yield Scene("the reader, another sentence", OTHER_SENTENCE, second, granted)
    yield Scene("the reader, the wrong words", OTHER_SENTENCE, first, phrase)
    yield Scene("another person, the right words", CARDS, _speech("cards", "002.wav"), voice)
    yield Scene("a badge nobody enrolled", SENTENCE, first, unknown, claim="nobody")
    yield Scene("a synthetic voice (espeak-ng)", SENTENCE, _espeak(folder), spoof)
    yield Scene("a synthetic voice (flite)", SENTENCE, _flite(folder), spoof)
    yield Scene("silence", SENTENCE, _sox(folder, "silence", "trim", "0", "4"), quality)
    noise = _sox(folder, "noise", "synth", "4", "pinknoise", "gain", "-12")
    yield Scene("noise", SENTENCE, noise, quality)


def _speech(folder: str, name: str) -> Path:
    path = SPEECH / folder / name
    if not path.is_file():
        raise DeviceError(
            f"{path} is missing; install the package pocketsphinx-testdata (scripts/setup does)"
        )
    return path


def _espeak(folder: Path) -> Path:
    path = folder / "espeak.wav"
    _make(["espeak-ng", "-v", "en-us", "-w", str(path), SENTENCE])
    return path


def _flite(folder: Path) -> Path:
    path = folder / "flite.wav"
    _make(["flite", "-voice", "slt", "-t", SENTENCE, "-o", str(path)])
    return path


def _sox(folder: Path, name: str, *effects: str) -> Path:
    path = folder / f"{name}.wav"
    _make(["sox", "-n", "-r", "16000", "-c", "1", "-b", "16", str(path), *effects])
    return path


def _make(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as err:
        raise DeviceError(f"{command[0]} did not work ({what_and_why(err)}); run scripts/setup") from err


@contextmanager
def _progress(console: Console, headless: bool) -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=headless) as progress:
        yield progress


def _row(row: Row) -> Text:
    cells = (
        row.scene.who,
        str(row.decision.outcome),
        *_scores(row.evidence),
        "as it must" if row.as_expected else "WRONG",
    )
    return _line(cells, "" if row.as_expected else "bold red", "green" if row.decision.opens else "red")


def _line(cells: tuple[str, ...], style: str = "", decision_style: str = "") -> Text:
    """One row; a table would be printed only after the last."""
    padded = [
        cell.rjust(width) if number in NUMBERS else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ]
    line = Text(" ".join(padded).rstrip(), style)
    line.stylize(decision_style, WIDTHS[0] + 1, WIDTHS[0] + 1 + WIDTHS[1])
    return line


def _scores(evidence: Evidence | None) -> tuple[str, str, str, str]:
    if evidence is None:
        return "-", "-", "-", "-"
    voice = "-" if evidence.speaker_llr is None else f"{evidence.speaker_llr:+.1f}"
    return (
        f"{evidence.phrase_llr:+.1f}",
        voice,
        f"{evidence.spoof_llr:+.1f}",
        f"{evidence.timings.total_ms:.0f}",
    )


# Rich's own frame asks a content delivery network for a font and cuts the last line off below; ours, for the
# guide's pictures too, does neither.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
