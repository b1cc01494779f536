"""`ostiary run`: the appliance at one door."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from device.app import open_unit
from device.app import run as serve
from device.audio import AudioSource, FifoSource, FileSource
from device.claims import BadgeDecoder, Directory
from device.clock import system_clock
from device.door import SimulatedDoor
from device.feedback import Feedback, TerminalSink, language
from device.phrase import normalise
from device.settings import Settings, load, models_dir, state_dir

log = logging.getLogger(__name__)


@click.command()
@click.option("--claim", "uids", multiple=True, metavar="UID", help="Serve these claims, then stop.")
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Hear this WAV or FLAC file, or this FIFO of raw 16 kHz s16le, instead of the microphone.",
)
@click.option("--verbose", is_flag=True, help="Log every decision and its reason to standard error.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file.")
def run(uids: tuple[str, ...], source: Path | None, verbose: bool, config: Path | None) -> None:
    """Run the door unit: a claim, a fresh phrase, one utterance, a decision. Stop it with Ctrl-C.

    Claims come from --claim, else line by line from standard input, where a badge reader that acts as a
    keyboard types them. The microphone is open only while a phrase is on display.

    \b
    Example: ostiary run --claim 4711
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
    settings = load(config)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, _terminated)
    door = SimulatedDoor(
        settings.door.name, settings.door.unlock_s, lambda: system_clock().monotonic_s, click.echo
    )
    feedback = Feedback(language(settings.door.language), [TerminalSink(Console())])
    try:
        with open_unit(settings, state_dir(), models_dir()) as unit:
            feedback.ready()
            directory = Directory.of(unit.keeper.rules, normalise)
            claims = iter(uids) if uids else (directory.badge(number).uid for number in _typed(stop))
            ears = _ears(settings, source)
            for decision in serve(unit, claims, ears, settings.door.name, door, feedback.tell, stop):
                # The door tells little, so that nobody can tune an attack on it; the log tells all.
                log.info("%s: %s", decision.outcome, decision.reason)
    except KeyboardInterrupt:
        click.echo("stopping", err=True)
    finally:
        stop.set()
        door.close()


def _terminated(_signal: int, _frame: object) -> NoReturn:
    """Like Ctrl-C: a loop that waits for the next badge would not see a flag."""
    raise KeyboardInterrupt


def _ears(settings: Settings, source: Path | None) -> AudioSource:
    if source is None:
        from device.audio.microphone import Microphone  # a unit that hears a FIFO needs no sound card

        return Microphone(settings.audio.microphone)
    if source.is_fifo():
        return FifoSource(source)
    return FileSource(source, settings.audio.file, realtime=True)


def _typed(stop: threading.Event) -> Iterator[str]:
    """Badge numbers as a keyboard wedge types them, one a line."""
    decoder = BadgeDecoder()
    for line in sys.stdin.buffer:
        if stop.is_set():
            return
        yield from decoder.feed(line, system_clock().monotonic_s)
