"""`ostiary demo`: a door, a real reader, and everybody who is not that reader. Run by `scripts/demo`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from device.access.decision import Decision, Outcome
from device.commands.attempt import decide_recording
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.secure_store import open_store
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import load, models_dir
from device.unit.assembly import open_judge
from device.unit.enrolment import enrol_recordings

SPEECH = Path("/usr/share/pocketsphinx/test/data")
READER = "sense_and_sensibility_01_austen_64kb-{}.wav"
ENROLMENT = ("0870", "0890", "0920")
SENTENCE = "he was not an ill disposed young man"
OTHER_SENTENCE = "he might even have been made amiable himself"
CARDS = "four queen of clubs"
UID = "reader-1"


class DemoError(DeviceError):
    """The demo lacks a voice or a tool."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One attempt, and what must come of it."""

    who: str
    phrase: str
    recording: Path
    expected: frozenset[Outcome]
    claim: str = UID


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a scene."""

    scene: Scene
    decision: Decision
    evidence: Evidence | None

    @property
    def as_expected(self) -> bool:
        return self.decision.outcome in self.scene.expected


@click.command()
@click.option("--headless", is_flag=True, help="No colours, no motion; for scripts and CI.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Save the table as a picture.")
def demo(headless: bool, svg: Path | None) -> None:
    """Enrol a real reader, then try the door as that reader and as everybody else.

    Every row goes through the code of `ostiary enroll` and `ostiary decide`, with a store of its own, sealed
    by a TPM in software, that is gone afterwards. Exit code 0 only if every row came out as it must.

    \b
    Example: ostiary demo --headless
    """
    console = Console(no_color=headless, record=svg is not None, width=None if svg is None else 118)
    with tempfile.TemporaryDirectory(prefix="ostiary-demo-") as folder:
        rows = list(_play(console, Path(folder), headless))
    table = _table(rows)
    console.print(table)
    wrong = [row for row in rows if not row.as_expected]
    console.print(
        f"[bold red]{len(wrong)} of {len(rows)} came out wrong.[/]"
        if wrong
        else f"[bold green]All {len(rows)} attempts came out as they must.[/]"
    )
    console.print(
        "Scores are log-likelihood ratios: above the threshold speaks for the person. Where to look next:\n"
        "  ostiary enroll 4711 a.wav b.wav c.wav     your own voice\n"
        "  ostiary run --claim 4711                  your own microphone\n"
        "  ostiary evaluate --help                   error rates on your own recordings"
    )
    if svg is not None:
        console.save_svg(str(svg), title="scripts/demo", code_format=_SVG)
    raise click.exceptions.Exit(1 if wrong else 0)


def _play(console: Console, folder: Path, headless: bool) -> Iterator[Row]:
    enrolment = [_speech("librivox", READER.format(number)) for number in ENROLMENT]
    with (
        _progress(console, headless) as progress,
        SwTpm(folder / "tpm") as tpm,
        open_judge(models_dir(), settings := replace(load(), store=tpm.settings())) as judge,
        open_store(folder / "state", settings.store) as store,
    ):
        scenes = _scenes(folder)
        task = progress.add_task("Enrolling a reader from three sentences", total=len(scenes) + 1)
        enrol_recordings(judge, store, settings, UID, enrolment)
        for scene in scenes:
            progress.update(task, advance=1, description=f"{scene.who} ...")
            decision, evidence = decide_recording(
                judge,
                store,
                settings,
                folder / "state",
                door=settings.door.name,
                uid=scene.claim,
                phrase=scene.phrase,
                probe=scene.recording,
            )
            yield Row(scene, decision, evidence)
        progress.update(task, advance=1)


def _scenes(folder: Path) -> list[Scene]:
    granted, phrase = frozenset({Outcome.GRANTED}), frozenset({Outcome.DENIED_PHRASE})
    spoof, quality = frozenset({Outcome.DENIED_SPOOF}), frozenset({Outcome.DENIED_QUALITY})
    first = _speech("librivox", READER.format("0880"))
    second = _speech("librivox", READER.format("0930"))
    cards = _speech("cards", "002.wav")
    return [
        Scene("the reader, the right words", SENTENCE, first, granted),
        Scene("the reader, another sentence", OTHER_SENTENCE, second, granted),
        Scene("the reader, the wrong words", OTHER_SENTENCE, first, phrase),
        Scene("another person, the right words", CARDS, cards, frozenset({Outcome.DENIED_VOICE})),
        Scene(
            "a badge nobody enrolled", SENTENCE, first, frozenset({Outcome.DENIED_UNKNOWN}), claim="nobody"
        ),
        Scene("a synthetic voice (espeak-ng)", SENTENCE, _espeak(folder), spoof),
        Scene("a synthetic voice (flite)", SENTENCE, _flite(folder), spoof),
        Scene("silence", SENTENCE, _sox(folder, "silence", "trim", "0", "4"), quality),
        Scene("noise", SENTENCE, _sox(folder, "noise", "synth", "4", "pinknoise", "gain", "-12"), quality),
    ]


def _speech(folder: str, name: str) -> Path:
    path = SPEECH / folder / name
    if not path.is_file():
        raise DemoError(f"{path} is missing; install the package pocketsphinx-testdata (scripts/setup does)")
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
        raise DemoError(f"{command[0]} did not work ({err}); run scripts/setup") from err


@contextmanager
def _progress(console: Console, headless: bool) -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=headless) as progress:
        yield progress


def _table(rows: list[Row]) -> Table:
    table = Table(title="One door, one enrolled person", title_justify="left")
    for heading in ("at the door", "decision", "words", "voice", "live", "ms", ""):
        table.add_column(heading, justify="right" if heading in ("words", "voice", "live", "ms") else "left")
    for row in rows:
        colour = "green" if row.decision.opens else "red"
        table.add_row(
            row.scene.who,
            f"[{colour}]{row.decision.outcome}[/]",
            *_scores(row.evidence),
            "as it must" if row.as_expected else "[bold red]WRONG[/]",
        )
    return table


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


# Rich's own frame asks a content delivery network for a font; ours asks nobody.
_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
