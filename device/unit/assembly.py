"""One unit: its parts, built in dependency order and stopped in reverse."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from device.access.decision import Decision, Factor
from device.access.doorkeeper import Doorkeeper
from device.access.memory.history import History
from device.access.recollection import Recollection
from device.access.rules import Rules, default_rules, load_rules
from device.access.voices import GalleryCache, alike, is_enrolled
from device.clock import Clock, system_clock
from device.evidence.judge import Evidence, Judge
from device.evidence.listener import Ear
from device.feedback.earcons import TONE_S
from device.liveness.side import SideChecks
from device.model_store import shelf
from device.model_store.bundle import Bundle
from device.model_store.floor import Floor, pinned_floor, raise_floor
from device.model_store.pick import remembered
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import SpoofDetector
from device.models.words.transcriber import Transcriber
from device.secure_store import Counter, Store, open_store
from device.settings import Settings
from device.unit.audit import Witness
from sync.outbox import Outbox, Risk

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
        # The keeper's clocks are looked at with every attempt: what was seen stands whatever the clock says.
        keeper.time.look(clock())
        store.vault.go_by(lambda: keeper.time.seen.time(clock().wall))
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
