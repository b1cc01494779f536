"""The whole appliance on one screen: build the parts, run the loop, stop in reverse."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.attempt import Answer, Ear
from device.audio import AudioSource
from device.audit import Witness
from device.challenge import Challenge
from device.clock import Clock, system_clock
from device.door import Door
from device.doorkeeper import Doorkeeper
from device.history import History
from device.judge import Evidence, Judge
from device.models import shelf
from device.models.speaker import SpeakerModel
from device.models.spoof import SpoofDetector
from device.models.transcriber import Transcriber
from device.policy import Decision
from device.rules import Rules, default_rules, load_rules
from device.secure_store import (
    ConsentError,
    Counter,
    ModelChangedError,
    NotEnrolledError,
    Store,
    StoreError,
    Vault,
    open_store,
)
from device.settings import Settings
from sync.outbox import Outbox

RULES_FILE = "rules.toml"
AUDIT_FILE = Path("audit") / "outbox.db"
HISTORY_FILE = "history"

_LOG = logging.getLogger("ostiary")


@dataclass(frozen=True, slots=True)
class Unit:
    """The parts of one door unit, built in dependency order."""

    store: Store
    judge: Judge
    ear: Ear
    keeper: Doorkeeper
    log: Outbox
    witness: Witness
    clock: Clock


Tell = Callable[[Challenge | Decision], None]
"""Shows the person a phrase to say, or what became of it."""


def run(
    unit: Unit,
    claims: Iterable[str],
    source: AudioSource,
    door_name: str,
    door: Door,
    tell: Tell,
    stop: threading.Event,
) -> Iterator[Decision]:
    """Serve one door until the claims end or `stop` is set; yields each decision once it is carried out."""
    for uid in claims:
        if stop.is_set():
            return
        greeting = unit.keeper.greet(door_name, uid, unit.clock())
        if isinstance(greeting, Decision):
            decision, evidence = greeting, None
        else:
            with voiceprint(unit.store.vault, uid, unit.judge.speaker.version) as template:
                listening_since_s = unit.clock().monotonic_s
                answer = unit.ear.hear(
                    source,
                    greeting.phrase,
                    template,
                    start_within_s=greeting.lifetime_s,
                    stop=stop,
                    ready=partial(tell, greeting),
                )
            decision = _answered(unit, greeting, answer, door_name, uid, listening_since_s)
            evidence = answer.heard if isinstance(answer.heard, Evidence) else None
        unit.log.append(unit.witness.of(decision, evidence, unit.clock()))  # durable before the strike moves
        door.obey(decision)
        tell(decision)
        yield decision


def _answered(
    unit: Unit, challenge: Challenge, answer: Answer, door: str, uid: str, listening_since_s: float
) -> Decision:
    return unit.keeper.decide(
        challenge,
        answer.heard,
        unit.clock(),
        door=door,
        uid=uid,
        speech_began_s=listening_since_s + answer.speech_began_s,
    )


@contextmanager
def voiceprint(vault: Vault, uid: str, model: str) -> Iterator[npt.NDArray[np.float32] | None]:
    """The template of `uid` for as long as one attempt takes; None when there is none that may be used."""
    try:
        template = vault.template(uid, model=model) if uid else None
    except (NotEnrolledError, ConsentError, ModelChangedError):
        template = None
    try:
        yield None if template is None else template.vector
    finally:
        if template is not None:
            template.wipe()


def rules_of(state: Path, door: str) -> Rules:
    """The rules file of this unit, or the default: every factor, everybody who is enrolled."""
    path = state / RULES_FILE
    return load_rules(path) if path.exists() else default_rules(door)


@contextmanager
def open_unit(settings: Settings, state: Path, models: Path, clock: Clock = system_clock) -> Iterator[Unit]:
    """Every part of the unit; leaving stops them in reverse. Raises what keeps the unit from serving."""
    with ExitStack() as parts:
        judge = parts.enter_context(open_judge(models, settings))
        store = parts.enter_context(open_store(state, settings.store))
        rules = rules_of(state, settings.door.name)
        # Raw counters: history and log move theirs once a start, so they wear nothing out.
        history = History(
            state / HISTORY_FILE,
            store.keystore.counter("attempts"),
            store.mac,
            opened_s=clock().monotonic_s,
        )
        parts.callback(history.close)
        log = parts.enter_context(
            open_log(settings, state, rules, clock, counter=store.keystore.counter("audit"))
        )
        ear = Ear(judge, settings.audio, settings.judge.timeout_s)
        parts.callback(ear.close)
        keeper = Doorkeeper(
            settings.door.unit,
            rules,
            history,
            store.mac,
            enrolled=lambda uid: is_enrolled(store.vault, uid),
            same_voice_llr=lambda a, b: alike(store.vault, judge, a, b),
        )
        witness = witness_of(store, rules, log.next_boot(), clock)
        yield Unit(store, judge, ear, keeper, log, witness, clock)


@contextmanager
def open_judge(models: Path, settings: Settings) -> Iterator[Judge]:
    """The three checks on the verified bundle in `models`. Raises ModelError when it must not be used."""
    bundle = shelf.active(models, notify=_LOG.warning)
    threads = settings.judge.threads
    with ExitStack() as parts:
        words = Transcriber.open(bundle, threads=threads)
        parts.callback(words.close)
        # They run beside the transcriber: a second thread of theirs would only take its core away.
        speaker = SpeakerModel.open(bundle, threads=1)
        spoof = SpoofDetector.open(bundle, threads=1)
        judge = Judge(words, speaker, spoof)
        parts.callback(judge.close)
        yield judge


def open_log(
    settings: Settings, state: Path, rules: Rules, clock: Clock, counter: Counter | None = None
) -> Outbox:
    """The unit's audit log."""
    return Outbox(
        state / AUDIT_FILE,
        unit=settings.door.unit,
        doors={settings.door.name, *rules.doors},
        now_ms=lambda: int(clock().wall.timestamp() * 1000),
        counter=counter,
    )


def witness_of(store: Store, rules: Rules, boot: int, clock: Clock) -> Witness:
    """What the events of this start have in common."""
    return Witness(
        boot=boot,
        started_s=clock().monotonic_s,
        pseudonym_key=store.mac("pseudonym", b"person"),
        keystore=store.keystore.kind,
        policy=f"rules-{rules.version}",
    )


def is_enrolled(vault: Vault, uid: str) -> bool:
    try:
        vault.record_id(uid)
    except StoreError:
        return False
    return True


def alike(vault: Vault, judge: Judge, first: str, second: str) -> float:
    """The LLR that two enrolled people are one voice."""
    model = judge.speaker.version
    with voiceprint(vault, first, model) as one, voiceprint(vault, second, model) as other:
        return float("nan") if one is None or other is None else judge.speaker.llr(one, other)
