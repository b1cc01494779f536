"""`ostiary run`: the appliance at one door."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from device import isolation
from device.access.badges import CardBits, read
from device.access.claims import Claim, ClaimKind, Directory
from device.access.rules import Rules
from device.app import run as serve
from device.audio import AudioError, AudioSource, FifoSource, FileSource
from device.audio.card.health import Trouble
from device.audio.card.level import InputLevel, keep, kept
from device.audio.card.loudspeaker import Loudspeaker, self_test
from device.audio.microphone import Microphone
from device.clock import system_clock
from device.commands.people import PERSON
from device.door.opening import osdp_door, supervised_door
from device.door.osdp.door import OsdpDoor
from device.door.osdp.keys import kept_key
from device.door.osdp.settings import OsdpMode
from device.door.readers import swipes
from device.door.settings import DoorKind
from device.door.supervised import SupervisedDoor
from device.door.wiring import fire_input_missing
from device.errors import DeviceError
from device.evidence.phrase import normalise
from device.feedback import (
    EarconSink,
    Feedback,
    KernelLeds,
    LightSink,
    PageSink,
    Sink,
    TerminalSink,
    language,
)
from device.model_store import slots
from device.model_store.minimum_versions import pinned_minimum
from device.settings import Settings, load, memory_dir, models_dir, state_dir
from device.state_folder import StateFolder
from device.unit.assembly import Unit, open_unit, rules_of
from device.unit.failed_starts import FailedStarts
from device.unit.fleet.following import Following
from device.unit.metrics import DoorMetrics
from device.unit.progress import WAIT_S, Progress
from device.unit.upkeep import Upkeep
from device.unit.watch import Watch
from device.uplink.archive import rotate_when_due
from device.uplink.state import certificate_trouble
from sync.errors import SyncError
from sync.service import journal
from sync.service.service_manager import ServiceManager
from sync.service.terminated import Terminated

log = logging.getLogger(__name__)

AUDIO = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)


@click.command()
@click.option(
    "--claim", "uids", type=PERSON, multiple=True, metavar="UID", help="Serve these claims, then stop."
)
@click.option("--no-claim", is_flag=True, help="Serve one person who shows no badge, then stop.")
@click.option(
    "--source",
    type=AUDIO,
    help="Hear this WAV or FLAC file, or this FIFO of raw 16 kHz s16le, instead of the microphone.",
)
@click.option("--no-network", is_flag=True, help="Refuse to start where this process can reach a network.")
@click.option("--verbose", is_flag=True, help="Log every decision and its reason to standard error.")
@click.option("--metrics", type=FILE, help="Keep figures for Prometheus' textfile collector here.")
@click.option("--config", type=AUDIO, help="Settings file.")
def run(
    uids: tuple[str, ...],
    no_claim: bool,
    source: Path | None,
    no_network: bool,
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
    alone = not no_network or isolation.required(isolation.own())
    stop = threading.Event()
    terminated = Terminated.heeded()
    speaker = Loudspeaker() if settings.feedback.earcons else None
    page = _page(settings)
    feedback = Feedback(language(settings.door.language), sinks(settings, page, speaker))
    state = state_dir()
    following = Following(settings, state)
    failed_starts = FailedStarts(state, system_clock, memory_dir())
    opening = open_unit(settings, state, models_dir, take_up=following.take_up)
    try:
        with failed_starts.noting(opening) as unit, ExitStack() as parts:
            if told := fire_input_missing(settings.door, unit.controller.rules):
                log.warning("%s", told)
            claims: Iterable[Claim] = [Claim(ClaimKind.BADGE, uid) for uid in uids]
            if no_claim:
                claims = [*claims, Claim(ClaimKind.BUTTON)]
            door = _door(settings, unit, feedback)
            parts.enter_context(door)
            watch = Watch(
                unit,
                settings.door.name,
                door,
                feedback,
                orders_folder=StateFolder(state).orders,
                rules=lambda: rules_of(state, settings.door.name),
                models=lambda: slots.active(models_dir(), minimum=pinned_minimum(unit.store.vault)),
                fire=door.fire,
            )
            rotate = None
            if settings.audit.standalone:
                signer = unit.store.audit_signer
                rotate = partial(rotate_when_due, unit.log, signer, settings.audit, state)
            certificate = partial(certificate_trouble, StateFolder(state).uplink_state)
            with Upkeep(unit, settings.door.name, rotate, certificate) as upkeep, watch:
                failed_starts.tell(unit.trail, settings.door.name, unit.store.keystore.power_ups)
                if not alone:
                    _noted(unit, "network_reachable", settings.door.name)
                if unit.fallen_back:
                    _noted(unit, "model_fault", settings.door.name)
                fleet = following.begin(unit, parts)
                progress = Progress(
                    ServiceManager(),
                    stuck={"watch": watch.stuck, "judge": unit.listener.stuck, "door": door.stuck},
                    troubles={"store": upkeep.trouble, "door": door.trouble, "fleet": fleet},
                    metrics=DoorMetrics(metrics, unit.log.status) if metrics else None,
                    gone_deaf=partial(_noted, unit, "audio_fault", settings.door.name),
                )
                microphone = _microphone(settings, unit, parts) if source is None else None
                if microphone is not None and speaker is not None and settings.feedback.chirp:
                    _chirp(microphone, speaker, unit, settings.door.name)
                if microphone is not None:  # after the chirp, which is heard as the microphone gives it
                    path = StateFolder(state).input_level
                    microphone.level = InputLevel(
                        settings.audio.microphone.raise_db, kept(path), partial(keep, path)
                    )
                heard = progress.hearing(
                    microphone or _file(settings, source), microphone=microphone is not None
                )

                def waiting(progress: Progress = progress) -> None:
                    terminated.look()
                    progress.waiting()

                if not claims:
                    rest_s, rules = settings.feedback.rest_s, lambda: unit.controller.rules
                    claims = typed(rules, feedback.ready, rest_s, waiting)
                    if isinstance(door, OsdpDoor) and settings.door.osdp.mode is OsdpMode.CLAIM_FROM_PANEL:
                        claims = _asked(door, rules, waiting)
                    progress.waiting()
                feedback.ready()
                progress.ready()
                for decision in serve(unit, claims, heard, settings.door.name, door, feedback, stop):
                    # The door tells little, so that nobody can tune an attack on it; the log tells all.
                    fields = {"outcome": decision.outcome, "code": decision.code, "door": decision.door}
                    log.info("%s: %s", decision.outcome, decision.reason, extra={"fields": fields})
                    progress.decided(decision)
                    del decision  # its person may be forgotten while nobody is at the door
                progress.stopping()
    except KeyboardInterrupt:
        click.echo("stopping", err=True)
    finally:
        stop.set()
        if page is not None:
            page.close()
        if speaker is not None:
            speaker.close()


def _door(settings: Settings, unit: Unit, feedback: Feedback) -> SupervisedDoor | OsdpDoor:
    """The door that the settings name, not yet entered."""
    name = settings.door.name

    def card_of(uid: str) -> CardBits | None:
        person = unit.controller.rules.person(uid)
        return CardBits.parse(person.card) if person is not None and person.card else None

    def note(kind: str, reason: str) -> None:
        unit.trail.note(kind, reason, name)

    def now_s() -> float:
        return system_clock().monotonic_s

    if settings.door.kind is not DoorKind.OSDP:
        return supervised_door(settings.door, now_s=now_s, note=note, warn=feedback.warn, show=click.echo)
    return osdp_door(
        settings.door,
        key=lambda: kept_key(unit.store.folder, unit.store.vault.derive),
        card_of=card_of,
        display=feedback.panel,
        now_s=now_s,
        note=note,
        warn=feedback.warn,
        show=click.echo,
    )


def _page(settings: Settings) -> PageSink | None:
    path = settings.feedback.page
    return PageSink(path, language(settings.door.language)) if path is not None else None


def sinks(settings: Settings, page: PageSink | None, speaker: Loudspeaker | None) -> list[Sink]:
    """What tells the person: the terminal always, the rest as set up."""
    told = settings.feedback
    found: list[Sink] = [TerminalSink(Console())]
    if page is not None:
        found.append(page)
    if told.leds is not None:
        found.append(LightSink(KernelLeds(told.leds)))
    if speaker is not None:
        found.append(EarconSink(speaker))
    return found


def _microphone(settings: Settings, unit: Unit, parts: ExitStack) -> Microphone:
    def trouble(found: Trouble) -> None:
        log.warning("the microphone's sound is poor: %s; `ostiary doctor --sound` tries it", found)
        _noted(unit, found, settings.door.name)

    microphone = Microphone(settings.audio.microphone, trouble)
    parts.callback(microphone.close)
    return microphone


def _chirp(microphone: Microphone, speaker: Loudspeaker, unit: Unit, door_name: str) -> None:
    """Try loudspeaker and microphone once; what is wrong is an event, and the door serves on."""
    try:
        report = self_test(microphone, speaker)
    except AudioError as err:
        log.warning("the sound was not tried: %s", err)
        return
    log.info("sound: %s", report)
    if report.complaint:
        log.warning("%s", report.complaint)
        _noted(unit, "audio_fault", door_name)


def _noted(unit: Unit, reason: str, door_name: str) -> None:
    try:
        unit.trail.note("FAULT", reason, door_name)
    except SyncError as err:
        log.error("FAULT %s could not be written down: %s", reason, err)


def _file(settings: Settings, source: Path | None) -> AudioSource:
    if source is None:
        raise DeviceError(
            "no microphone is set; name one under `[audio.microphone]` in the settings, or give --source FILE"
        )
    if source.is_fifo():
        return FifoSource(source)
    return FileSource(source, settings.audio.file, realtime=True)


def typed(
    rules: Callable[[], Rules],
    rest: Callable[[], None],
    rest_s: float,
    waiting: Callable[[], None],
    now_s: Callable[[], float] = time.monotonic,
) -> Iterator[Claim]:
    """Claims of a keyboard wedge, as the rules know them at that moment."""
    for swipe in swipes(
        sys.stdin.buffer, rest=rest, rest_s=rest_s, waiting=waiting, wait_s=WAIT_S, monotonic_s=now_s
    ):
        if swipe.trouble:
            log.warning("a badge cannot be read: %s; `ostiary readers watch` shows it", swipe.trouble)
        yield Directory.of(rules(), normalise).swipe(swipe)
        del swipe


def _asked(door: OsdpDoor, rules: Callable[[], Rules], waiting: Callable[[], None]) -> Iterator[Claim]:
    """Claims of badges that the controller has read."""
    for sent in door.claims(waiting, WAIT_S):
        swipe = read(sent.encode())
        yield Directory.of(rules(), normalise).swipe(swipe) if sent else Claim(ClaimKind.UNREADABLE)
        del sent, swipe
