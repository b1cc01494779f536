"""The whole appliance on one screen: build the parts, run the loop, stop in reverse."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from device.attempt import Ear, Moments
from device.audio import AudioSource
from device.audit import Witness
from device.challenge import Challenge
from device.claims import Claim, ClaimKind, Directory
from device.clock import Clock, system_clock
from device.decision import Decision, Factor, Notice, Outcome, Reason, fault, refusal_for
from device.door import Door
from device.doorkeeper import Doorkeeper
from device.feedback.earcons import TONE_S
from device.history import History
from device.judge import Evidence, Judge, Reference
from device.liveness.recollection import Recollection
from device.liveness.side import SideChecks
from device.models import shelf
from device.models.bundle import Bundle
from device.models.floor import Floor, pinned_floor, raise_floor
from device.models.pick import remembered
from device.models.speaker import SpeakerModel
from device.models.spoof import SpoofDetector
from device.models.transcriber import Transcriber
from device.phrase import normalise
from device.rules import Rules, default_rules, load_rules
from device.secure_store import Counter, Store, open_store
from device.settings import Settings
from device.voices import GalleryCache, alike, is_enrolled, voiceprint
from sync.errors import SyncError
from sync.outbox import Outbox, Risk

RULES_FILE = "rules.toml"
AUDIT_FILE = Path("audit") / "outbox.db"
HISTORY_FILE = "history"

NAME_WITHIN_S = 10.0
NOBODY_NAMED = Decision(
    Outcome.DENIED_UNKNOWN,
    Reason.NO_CLAIM,
    "no name or number was understood, and this door asks for one",
    Notice.SAY_NUMBER,
)

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
    recollection: Recollection
    voices: GalleryCache

    def record(self, decision: Decision, evidence: Evidence | None = None) -> None:
        """Write the event of a decision; it is on the disk when this returns.

        At a door of a risk class that says so, a full log only counts it. Raises OutboxError.
        """
        event = self._present_witness().of(decision, evidence, self.clock())
        self.log.append(event, risk=log_risk_at(self.keeper.rules, decision.door))

    def note(self, kind: str, reason: str, door_name: str) -> None:
        """Write an event that is no attempt."""
        self.log.append(self._present_witness().note(kind, reason, door_name, self.clock()))

    def _present_witness(self) -> Witness:
        """Rules may have been replaced since the unit started."""
        return replace(self.witness, policy=policy_name(self.keeper.rules))

    def asks_for_claim(self, door_name: str) -> bool:
        """Whether the rules want somebody named at this door; also where they know no such door."""
        return Factor.CLAIM in factors_at(self.keeper.rules, door_name)


class Display(Protocol):
    """What a person at the door is shown."""

    def ask_name(self) -> None:
        """Nobody was claimed: ask for a name or number."""

    def speaking(self) -> None:
        """Somebody is heard."""

    def judging(self) -> None:
        """They have ended."""

    def tell(self, event: Challenge | Decision) -> None:
        """A phrase to say, or what became of it."""


def run(
    unit: Unit,
    claims: Iterable[Claim],
    source: AudioSource,
    door_name: str,
    door: Door,
    display: Display,
    stop: threading.Event,
) -> Iterator[Decision]:
    """Serve one door until the claims end or `stop` is set; yields each decision once it is carried out."""
    if not unit.asks_for_claim(door_name):
        unit.voices.at(door_name, unit.keeper.rules, unit.clock().monotonic_s)  # before anybody waits for it
    for claim in claims:
        uid = named(unit, claim, source, door_name, display, stop)
        more = True
        while more and not stop.is_set():
            decision = served(unit, uid, source, door_name, display, stop)
            door.obey(decision)
            display.tell(decision)
            yield decision
            more = decision.outcome is Outcome.STEP_UP  # one more phrase, from the same person
        if stop.is_set():
            return


def named(
    unit: Unit, claim: Claim, source: AudioSource, door_name: str, display: Display, stop: threading.Event
) -> str:
    """The uid of a claim; one who shows no badge where one is asked for may say a name or number."""
    if claim.uid or claim.kind is not ClaimKind.BUTTON or not unit.asks_for_claim(door_name):
        return claim.uid
    directory = Directory.of(unit.keeper.rules, normalise)
    moments = Moments(display.ask_name, display.speaking, display.judging)
    said = unit.ear.name(
        source, directory.spoken_words, start_within_s=NAME_WITHIN_S, stop=stop, moments=moments
    )
    return directory.spoken(normalise(said)).uid


def served(
    unit: Unit, uid: str, source: AudioSource, door_name: str, display: Display, stop: threading.Event
) -> Decision:
    """What was decided and is in the log: durable before the strike moves.

    Whatever goes wrong, and a log that takes no more, is a refusal that says "out of service". The door goes
    on: it may be mended while it runs.
    """
    try:
        decision, evidence = attempt(unit, uid, source, door_name, display, stop)
    except Exception as err:  # noqa: BLE001 - a supervisor: nothing in one attempt may end the process
        _LOG.exception("an attempt failed; the door stays locked")
        decision, evidence = replace(refusal_for(err), door=door_name, person=uid or None), None
    try:
        unit.record(decision, evidence)
    except SyncError as err:
        _LOG.error("%s could not be written down, so the door stays locked: %s", decision.outcome, err)
        unit.keeper.take_back(decision)
        return replace(
            fault(Reason.LOG_FAULT, str(err)),
            door=door_name,
            person=decision.person,
            challenge=decision.challenge,
        )
    return decision


def attempt(
    unit: Unit, uid: str, source: AudioSource, door_name: str, display: Display, stop: threading.Event
) -> tuple[Decision, Evidence | None]:
    """One fresh phrase and its answer: what was decided, and on what evidence."""
    if not uid and unit.asks_for_claim(door_name):
        return replace(NOBODY_NAMED, door=door_name), None
    greeting = unit.keeper.greet(door_name, uid, unit.clock())
    if isinstance(greeting, Decision):
        return greeting, None
    with reference(unit, door_name, uid) as voice:
        listening_since_s = unit.clock().monotonic_s
        answer = unit.ear.hear(
            source,
            greeting.phrase,
            voice,
            start_within_s=greeting.lifetime_s,
            stop=stop,
            moments=Moments(partial(display.tell, greeting), display.speaking, display.judging),
        )
    heard = unit.recollection.note(
        answer.heard, greeting.phrase, uid, answer.speech_began_s, unit.clock()
    )  # before anybody decides on it: a cut after the door opened must not make the unit forget
    decision = unit.keeper.decide(
        greeting,
        heard,
        unit.clock(),
        door=door_name,
        uid=uid,
        speech_began_s=listening_since_s + answer.speech_began_s,
    )
    unit.recollection.settle(decision)
    return decision, heard if isinstance(heard, Evidence) else None


@contextmanager
def reference(unit: Unit, door_name: str, uid: str) -> Iterator[Reference]:
    """What the voice is held against: the person claimed, or everybody who may ever pass this door."""
    vault, model = unit.store.vault, unit.judge.speaker.version
    if uid or unit.asks_for_claim(door_name):
        with voiceprint(vault, uid, model) as vector:
            yield vector
    else:
        yield unit.voices.at(door_name, unit.keeper.rules, unit.clock().monotonic_s)


def factors_at(rules: Rules, door_name: str) -> frozenset[Factor]:
    """What the rules ask for at a door: everything, where they do not know it."""
    door = rules.doors.get(door_name)
    risk = rules.risks.get(door.risk) if door is not None else None
    return frozenset(Factor) if risk is None else risk.factors


def log_risk_at(rules: Rules, door_name: str) -> Risk:
    """Whether a full audit log keeps a door locked: always, unless its risk class says otherwise."""
    door = rules.doors.get(door_name)
    risk = rules.risks.get(door.risk) if door is not None else None
    return "low" if risk is not None and risk.opens_with_full_log else "high"


def rules_of(state: Path, door: str) -> Rules:
    """The rules file of this unit, or the default: every factor, everybody who is enrolled."""
    path = state / RULES_FILE
    return load_rules(path) if path.exists() else default_rules(door)


@contextmanager
def open_unit(settings: Settings, state: Path, models: Path, clock: Clock = system_clock) -> Iterator[Unit]:
    """Every part of the unit; leaving stops them in reverse. Raises what keeps the unit from serving."""
    with ExitStack() as parts:
        store = parts.enter_context(open_store(state, settings.store))
        judge = parts.enter_context(open_judge(models, settings, pinned_floor(store.vault)))
        raise_floor(store.vault, shelf.reached(models))
        rules = rules_of(state, settings.door.name)
        # Raw counters: history and log move theirs once a start, so they wear nothing out.
        history = History(
            state / HISTORY_FILE,
            store.keystore.counter("attempts"),
            store.mac,
            opened_s=clock().monotonic_s,
            never_used=store.never_used("attempts"),
        )
        parts.callback(history.close)
        log = parts.enter_context(
            open_log(
                settings,
                state,
                rules,
                clock,
                counter=store.keystore.counter("audit"),
                never_used=store.never_used("audit"),
            )
        )
        recollection = Recollection(
            state,
            store.mac,
            store.vault.record_id,
            at_least=history.memory_version,
            now=clock().wall,
            noted=history.memory_reached,
            people=store.vault.uids,
        )
        parts.callback(recollection.close)
        deaf_s = TONE_S if settings.feedback.earcons else 0.0
        remembering = judge.looking_beside(replace(SideChecks.open(), memory=recollection.memory))
        ear = Ear(remembering, settings.audio, settings.judge.timeout_s, deaf_s)
        parts.callback(ear.close)
        keeper = Doorkeeper(
            settings.door.unit,
            rules,
            history,
            store.mac,
            enrolled=lambda uid: is_enrolled(store.vault, uid),
            same_voice_llr=lambda a, b: alike(store.vault, judge.speaker, a, b),
        )
        witness = witness_of(store, rules, log.next_boot(), clock)
        voices = GalleryCache(store.vault, judge.speaker.version)
        parts.callback(voices.close)
        yield Unit(store, judge, ear, keeper, log, witness, clock, recollection, voices)


@contextmanager
def open_judge(models: Path, settings: Settings, floor: Floor | None = None) -> Iterator[Judge]:
    """The three checks on the verified bundle in `models`, none below `floor`.

    Raises ModelError when it must not be used.
    """
    with ExitStack() as parts:
        judge, opened = shelf.steadily(models, partial(_judge_on, models, settings), _LOG.warning, floor)
        parts.push(opened)
        yield judge


def _judge_on(models: Path, settings: Settings, bundle: Bundle) -> tuple[Judge, ExitStack]:
    """The judge on this very bundle, and what to close after it; nothing stays open when a part fails."""
    pick = remembered(models, bundle, _LOG.warning)
    with ExitStack() as parts:
        words = Transcriber.open(
            bundle,
            threads=settings.judge.threads,
            engine=settings.judge.words,
        )
        parts.callback(words.close)
        # They run beside the transcriber: a second thread of theirs would only take its core away.
        speaker = SpeakerModel.open(bundle, 1, pick.runtime("speaker"), _LOG.warning)
        spoof = SpoofDetector.open(bundle, 1, pick.runtime("spoof"), _LOG.warning)
        judge = Judge(words, speaker, spoof, SideChecks.open())
        parts.callback(judge.close)
        return judge, parts.pop_all()


def open_log(
    settings: Settings,
    state: Path,
    rules: Rules,
    clock: Clock,
    counter: Counter | None = None,
    never_used: int = 0,
) -> Outbox:
    """The unit's audit log."""
    return Outbox(
        state / AUDIT_FILE,
        unit=settings.door.unit,
        doors={settings.door.name, *rules.doors},
        now_ms=lambda: int(clock().wall.timestamp() * 1000),
        counter=counter,
        never_used=never_used,
    )


def witness_of(store: Store, rules: Rules, boot: int, clock: Clock) -> Witness:
    """What the events of this start have in common."""
    return Witness(
        boot=boot,
        started_s=clock().monotonic_s,
        pseudonym_key=store.pseudonym_key(),
        keystore=store.keystore.kind,
        policy=policy_name(rules),
    )


def policy_name(rules: Rules) -> str:
    """How events name the rules they were decided under."""
    return f"rules-{rules.version}"
