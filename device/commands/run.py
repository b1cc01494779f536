"""`ostiary run`: the appliance at one door."""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

import click
from rich.console import Console

from device.access.claims import BadgeDecoder, Claim, ClaimKind, Directory
from device.access.rules import Rules
from device.app import run as serve
from device.audio import AudioSource, FifoSource, FileSource
from device.clock import system_clock
from device.door import SimulatedDoor
from device.errors import DeviceError
from device.evidence.phrase import normalise
from device.feedback import (
    EarconSink,
    Feedback,
    KernelLeds,
    LightSink,
    Loudspeaker,
    PageSink,
    Sink,
    TerminalSink,
    language,
)
from device.settings import Settings, load, models_dir, state_dir
from device.unit.assembly import open_unit, rules_of
from device.unit.metrics import DoorMetrics
from device.unit.progress import WAIT_S, Progress
from device.unit.upkeep import Upkeep
from device.unit.watch import FireInput, Watch
from device.uplink.archive import rotate_when_due
from device.uplink.orders import ORDERS_FOLDER
from sync import journal
from sync.service_manager import ServiceManager

log = logging.getLogger(__name__)

AUDIO = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)


@click.command()
@click.option("--claim", "uids", multiple=True, metavar="UID", help="Serve these claims, then stop.")
@click.option("--no-claim", is_flag=True, help="Serve one person who shows no badge, then stop.")
@click.option(
    "--source",
    type=AUDIO,
    help="Hear this WAV or FLAC file, or this FIFO of raw 16 kHz s16le, instead of the microphone.",
)
@click.option("--verbose", is_flag=True, help="Log every decision and its reason to standard error.")
@click.option("--metrics", type=FILE, help="Keep figures for Prometheus' textfile collector here.")
@click.option("--config", type=AUDIO, help="Settings file.")
def run(
    uids: tuple[str, ...],
    no_claim: bool,
    source: Path | None,
    verbose: bool,
    metrics: Path | None,
    config: Path | None,
) -> None:
    """Run the door unit: a claim, a fresh phrase, one utterance, a decision. Stop it with Ctrl-C.

    Claims come from --claim, else line by line from standard input, where a badge reader that acts as a
    keyboard types them. An empty line (Enter, or a button wired as that key) is somebody without a badge:
    asked for a spoken name or number, or recognised by voice where the door's rule asks for no claim. The
    microphone is open only while a person is asked to speak, and for one frame at the start.

    While it runs, `ostiary policy lock-down`, `pardon` and `adopt` reach it.

    \b
    Example: ostiary run --claim 4711
    """
    journal.set_up(logging.INFO if verbose else logging.WARNING, "%(name)s: %(message)s")
    settings = load(config)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, _terminated)
    door = SimulatedDoor(
        settings.door.name, settings.door.unlock_s, lambda: system_clock().monotonic_s, click.echo
    )
    feedback = Feedback(language(settings.door.language), sinks(settings))
    state = state_dir()
    try:
        with open_unit(settings, state, models_dir()) as unit:
            if settings.door.name not in unit.keeper.rules.doors:
                raise DeviceError(
                    f"the rules have no door {settings.door.name!r}, which the settings name; "
                    f"they have {', '.join(sorted(unit.keeper.rules.doors))}"
                )
            claims: Iterable[Claim] = [Claim(ClaimKind.BADGE, uid) for uid in uids]
            if no_claim:
                claims = [*claims, Claim(ClaimKind.BUTTON)]
            fire = settings.door.fire_input
            watch = Watch(
                unit,
                settings.door.name,
                door,
                feedback,
                orders_folder=state / ORDERS_FOLDER,
                rules=lambda: rules_of(state, settings.door.name),
                fire=FireInput(fire, active_low=settings.door.fire_active_low) if fire else None,
            )
            rotate = None
            if settings.audit.standalone:
                signer = unit.store.audit_signer
                rotate = partial(rotate_when_due, unit.log, signer, settings.audit, state)
            with Upkeep(unit, settings.door.name, rotate) as upkeep, watch:
                progress = Progress(
                    ServiceManager(),
                    stuck={"watch": watch.stuck, "judge": unit.ear.stuck},
                    troubles={"store": upkeep.trouble},
                    metrics=DoorMetrics(metrics, unit.log.status) if metrics else None,
                )
                ears = progress.hearing(_ears(settings, source), microphone=source is None)
                if not claims:
                    rest_s, rules = settings.feedback.rest_s, lambda: unit.keeper.rules
                    claims = _typed(rules, feedback.ready, rest_s, stop, progress.waiting)
                    progress.waiting()
                feedback.ready()
                progress.ready()
                for decision in serve(unit, claims, ears, settings.door.name, door, feedback, stop):
                    # The door tells little, so that nobody can tune an attack on it; the log tells all.
                    fields = {"outcome": decision.outcome, "code": decision.code, "door": decision.door}
                    log.info("%s: %s", decision.outcome, decision.reason, extra={"fields": fields})
                    progress.decided(decision)
                progress.stopping()
    except KeyboardInterrupt:
        click.echo("stopping", err=True)
    finally:
        stop.set()
        door.close()


def sinks(settings: Settings) -> list[Sink]:
    """What tells the person: the terminal always, the rest as set up."""
    told = settings.feedback
    found: list[Sink] = [TerminalSink(Console())]
    if told.page is not None:
        found.append(PageSink(told.page, language(settings.door.language)))
    if told.leds is not None:
        found.append(LightSink(KernelLeds(told.leds)))
    if told.earcons:
        found.append(EarconSink(Loudspeaker()))
    return found


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


def _typed(
    rules: Callable[[], Rules],
    rest: Callable[[], None],
    rest_s: float,
    stop: threading.Event,
    waiting: Callable[[], None],
) -> Iterator[Claim]:
    """Badges as a keyboard wedge types them, one a line; an empty line is somebody without one.

    `rest` is called when nobody has come for a while after an answer, `waiting` every few seconds.
    """
    decoder = BadgeDecoder()
    for line in _lines(sys.stdin.buffer, rest, rest_s, waiting):
        if stop.is_set():
            return
        if not line.strip():
            yield Claim(ClaimKind.BUTTON)
            continue
        directory = Directory.of(rules(), normalise)
        for number in decoder.feed(line, system_clock().monotonic_s):
            yield directory.badge(number)


def _lines(
    stream: BinaryIO, rest: Callable[[], None], rest_s: float, waiting: Callable[[], None]
) -> Iterator[bytes]:
    """Lines as they come. Read from the descriptor: a buffered reader would hide a line from `select`."""
    try:
        descriptor = stream.fileno()
    except OSError:  # a test's stream
        yield from stream
        return
    rest_at_s, pending = math.inf, b""
    while True:
        waiting()
        left_s = max(0.0, rest_at_s - time.monotonic())
        ready, _, _ = select.select([descriptor], [], [], min(left_s, WAIT_S))
        if not ready:
            if time.monotonic() >= rest_at_s:
                rest()
                rest_at_s = math.inf
            continue
        data = os.read(descriptor, 4096)
        *whole, pending = (pending + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for number, line in enumerate(whole):
            if not line and number:
                continue  # a reader's second line end, not a button
            yield line + b"\n"
            rest_at_s = time.monotonic() + rest_s
        if not data:
            if pending:
                yield pending
            return
        if len(pending) > 65_536:
            pending = b""  # noise on the line, not a badge
