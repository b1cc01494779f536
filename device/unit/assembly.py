"""One unit: its parts, built in dependency order and stopped in reverse."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from device.access.challenge import lacks
from device.access.controller import AccessController, unheard
from device.access.decision import Factor
from device.access.memory.history import History, recall
from device.access.memory.remembered import Remembered
from device.access.memory.timekeeping import TimeSeen
from device.access.replay_guard import ReplayGuard
from device.access.rules import Rules, default_rules, load_rules
from device.access.voices import GalleryCache, alike, is_enrolled
from device.clock import Clock, system_clock
from device.errors import DeviceError
from device.evidence.judge import Judge
from device.evidence.listener import Listener
from device.feedback import language
from device.feedback.earcons import own_tones
from device.liveness.context import ContextChecks
from device.liveness.threats.bouts import Bouts
from device.liveness.threats.known import KnownAttacks
from device.liveness.threats.print_box import PrintBox
from device.model_store import slots
from device.model_store.bundle import Bundle
from device.model_store.minimum_versions import MinimumVersions, pinned_minimum, raise_minimum
from device.model_store.pick import remembered
from device.model_store.sessions import give_memory_back
from device.models import self_test
from device.models.second_speaker import BEFORE, NEXT, SecondSpeaker
from device.models.second_words import other_words, second_words
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import SpoofDetector
from device.models.words.transcriber import Transcriber
from device.secure_store import Store, open_store
from device.settings import Settings, kept_in, own_models_dir
from device.state_folder import StateFolder, remove_old_drafts
from device.unit.audit import AuditTrail, EventContext
from sync.events import Counter, pseudonym, unit_id
from sync.outbox import Outbox

_LOG = logging.getLogger("ostiary")


@dataclass(frozen=True, slots=True)
class Unit:
    """The parts of one door unit, built in dependency order."""

    store: Store
    judge: Judge
    listener: Listener
    controller: AccessController
    log: Outbox
    trail: AuditTrail
    clock: Clock
    replay_guard: ReplayGuard
    voices: GalleryCache
    threats: KnownAttacks
    prints: PrintBox
    bouts: Bouts
    fallen_back: str = ""
    """Why the last good models serve instead of the newest; empty when the newest do."""
    voices_follow: bool = True
    """What the settings say of it; the rules may say no for a door."""

    def asks_for_claim(self, door_name: str) -> bool:
        """Whether the rules want somebody named at this door; also where they know no such door."""
        risk = self.controller.rules.risk_at(door_name)
        return risk is None or Factor.CLAIM in risk.factors

    def follows_at(self, door_name: str) -> bool:
        """Whether voiceprints follow what this door hears of their owners; never where nobody is claimed."""
        risk = self.controller.rules.risk_at(door_name)
        named = risk is not None and Factor.CLAIM in risk.factors
        return self.voices_follow and named and risk is not None and risk.voices_follow


class NoSuchDoorError(DeviceError):
    """The rules have no door of that name."""


def rules_of(state: Path, door: str) -> Rules:
    """The rules in this unit's file, or the default: every factor, for everybody enrolled."""
    path = StateFolder(state).rules
    try:
        found = path.stat()
    except FileNotFoundError:
        return default_rules(door)
    return _loaded(path, (found.st_ino, found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=2)
def _loaded(path: Path, _stamp: tuple[int, int, int]) -> Rules:
    """Parsed once for each change of the file: thousands of people take a second to parse."""
    return load_rules(path)


@contextmanager
def open_unit(
    settings: Settings,
    state: Path,
    models: Path | Callable[[], Path],
    clock: Clock = system_clock,
    take_up: Callable[[Store], bool] = lambda _: False,
) -> Iterator[Unit]:
    """Every part of the unit; leaving stops them in reverse. Raises what keeps the unit from serving.

    `take_up` first does what a change has left to do, and says whether models are on trial; `models` is asked
    after it. `ostiary doctor` opens a unit by this too, and so finds what stops `ostiary run`.
    """
    with ExitStack() as parts:
        language(settings.door.language)
        store = parts.enter_context(open_store(state, settings.store))
        remove_old_drafts(state)
        on_trial = take_up(store)
        models = models if isinstance(models, Path) else models()
        rules = rules_of(state, settings.door.name)
        if settings.door.name not in rules.doors:
            raise NoSuchDoorError(
                f"the rules have no door {settings.door.name!r}, which the settings name; "
                f"they have {', '.join(sorted(rules.doors))}"
            )
        fallen_back: list[str] = []
        judge = parts.enter_context(
            open_judge(models, settings, pinned_minimum(store.vault), fallen_back.append)
        )
        check_phrases(rules, settings, judge)
        if not on_trial:  # a unit that may have to go back pins nothing yet
            raise_minimum(store.vault, slots.reached(models))
        # Raw counters: history and log move theirs once a start, so they wear nothing out.
        history = open_history(store, state, clock)
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
        replay_guard = ReplayGuard(
            state,
            store.mac,
            at_least=history.memory_version,
            now=clock().wall,
            noted=history.memory_reached,
        )
        parts.callback(replay_guard.close)
        tones = own_tones() if settings.feedback.earcons else None
        threats = KnownAttacks(StateFolder(state).threats, lambda: clock().time_ms)
        prints = PrintBox(StateFolder(state).desired / "prints", unit_id(settings.door.unit), threats)
        remembering = judge.with_context(replace(ContextChecks.open(), memory=replay_guard.memory))
        warned = remembering.warned(threats)
        listener = Listener(warned, settings.audio, settings.judge.timeout_s, tones)
        parts.callback(listener.close)
        key = store.pseudonym_key()
        controller = AccessController(
            settings.door.unit,
            rules,
            history,
            store.mac,
            enrolled=lambda uid: is_enrolled(store.vault, uid),
            same_voice_llr=lambda a, b: alike(store.vault, judge, a, b),
            pseudonym=lambda uid: str(pseudonym(key, uid)),
            usual=settings.door.phrases,
            heard_in=judge.hears,
        )
        # It reads the clocks at every attempt, and the highest time seen counts.
        controller.time.look(clock())
        store.vault.go_by(lambda: controller.time.seen.time(clock().wall))
        context = EventContext.of(store, log.next_boot(), clock())
        trail = AuditTrail(log, context, lambda: controller.rules, clock)
        voices = GalleryCache(store.vault, judge.generations)
        parts.callback(voices.close)
        yield Unit(
            store,
            judge,
            listener,
            controller,
            log,
            trail,
            clock,
            replay_guard,
            voices,
            threats,
            prints,
            Bouts(threats),
            "; ".join(fallen_back),
            settings.judge.voices_follow,
        )


def cannot_ask(rules: Rules, settings: Settings) -> str:
    """Why this unit's door cannot ask in the language that its settings name; empty where it can."""
    language, risk = settings.door.phrases, rules.risk_at(settings.door.name)
    why = "" if risk is None else lacks(risk.challenge.style, language)
    if risk is None or not why:
        return ""
    return f"[door] phrases is `{language}`, and this door's class {risk.name} cannot ask so: {why}"


def check_phrases(rules: Rules, settings: Settings, judge: Judge) -> None:
    """Raises DeviceError where this door could not ask for phrases as its settings say, or not hear them."""
    language = settings.door.phrases
    if why := cannot_ask(rules, settings):
        raise DeviceError(why)
    if not judge.hears(language):
        raise DeviceError(f"[door] phrases is `{language}`, and {unheard(language)}")
    judge.open_soon(language)


@contextmanager
def open_judge(
    models: Path,
    settings: Settings,
    minimum: MinimumVersions | None = None,
    fallen_back: Callable[[str], None] = lambda why: None,
) -> Iterator[Judge]:
    """The three checks on the verified bundle in `models`, none below `minimum`.

    `fallen_back` is told why the last good bundle is used instead. Raises ModelError when none may be used.
    """

    def notify(why: str) -> None:
        _LOG.warning("%s", why)
        fallen_back(why)

    with ExitStack() as parts:
        judge, opened = slots.steadily(models, partial(_judge_on, models, settings), notify, minimum)
        parts.push(opened)
        yield judge


def _judge_on(models: Path, settings: Settings, bundle: Bundle) -> tuple[Judge, ExitStack]:
    """The judge on `bundle`, and what to close after it; nothing stays open when a part fails."""
    pick = remembered(kept_in(models), bundle, _LOG.warning)
    forms = self_test.ensured(bundle, pick, own_models_dir() / self_test.MEMORY_NAME, _LOG.warning)
    with ExitStack() as parts:
        # Side by side: the speaker's network takes longer to open than all others together.
        with ThreadPoolExecutor(2, "open") as pool:
            # They run beside the transcriber: a second thread of theirs would only take its core away.
            speaker = pool.submit(SpeakerModel.open, bundle, 1, forms["speaker"], _LOG.warning)
            spoof = pool.submit(SpoofDetector.open, bundle, 1, forms["spoof"], _LOG.warning)
            following = pool.submit(SecondSpeaker.open, bundle, NEXT)
            followed = pool.submit(SecondSpeaker.open, bundle, BEFORE)
            words = Transcriber.open(
                bundle,
                threads=settings.judge.threads,
                engine=settings.judge.words,
                runtime=forms["words"],
            )
            parts.callback(words.close)
        second = second_words(bundle, settings)
        if second is not None:
            parts.callback(second.close)
        judge = Judge(
            words,
            speaker.result(),
            spoof.result(),
            ContextChecks.open(),
            successor=following.result(),
            predecessor=followed.result(),
            second_words=second,
            other_words=other_words(second, bundle, settings),
        )
        parts.callback(judge.close)
        give_memory_back()  # of what opening and the self-test took
        return judge, parts.pop_all()


def second_hearing(bundle: Bundle, settings: Settings) -> str:
    """What a person is told of the second hearing. Raises DeviceError where it is set and does not work."""
    second = second_words(bundle, settings)
    if second is None:
        return (
            "words are heard once; `ostiary models build --only words-base` and `[judge] second_words` add a "
            "second hearing"
        )
    try:
        second.examine()
    finally:
        second.close()
    return f"doubtful words are heard again by {second.version}"


def open_history(store: Store, state: Path, clock: Clock = system_clock) -> History:
    """What the unit remembers of attempts, for this process alone. Raises HistoryBusyError, HistoryError."""
    return History(
        StateFolder(state).history,
        store.keystore.counter("attempts"),
        store.mac,
        opened_s=clock().monotonic_s,
        never_used=store.never_used("attempts"),
    )


def open_log(
    settings: Settings,
    state: Path,
    rules: Rules | None,
    clock: Clock,
    counter: Counter | None = None,
    never_used: int = 0,
    advances: bool = True,
) -> Outbox:
    """The unit's audit log. Raises OutboxRollbackError where `counter` says that it is gone or old."""
    return Outbox(
        StateFolder(state).audit_log,
        unit=settings.door.unit,
        doors={settings.door.name, *(rules.doors if rules is not None else ())},
        now_ms=lambda: clock().time_ms,
        counter=counter,
        never_used=never_used,
        advances=advances,
    )


@contextmanager
def open_trail(
    store: Store, settings: Settings, state: Path, clock: Clock = system_clock
) -> Iterator[AuditTrail]:
    """The audit trail of a process beside the door's, in the same log.

    With a broken rules file events carry no version of the rules. A log that is gone or old is refused here
    as at the door.
    """
    with open_log(
        settings,
        state,
        readable_rules(settings, state),
        clock,
        counter=store.keystore.counter("audit"),
        never_used=store.never_used("audit"),
        advances=False,
    ) as log:
        context = EventContext.of(store, 0, clock())
        yield AuditTrail(log, context, lambda: readable_rules(settings, state), clock, other_process=True)


def readable_rules(settings: Settings, state: Path) -> Rules | None:
    """The rules, or None where their file is broken."""
    try:
        return rules_of(state, settings.door.name)
    except (DeviceError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Tools:
    """Judge, store and log of the unit, for recordings in a process beside the door's."""

    judge: Judge
    store: Store
    settings: Settings
    state: Path
    clock: Clock = system_clock

    def trail(self) -> AbstractContextManager[AuditTrail]:
        """The unit's log, open for writing."""
        return open_trail(self.store, self.settings, self.state, self.clock)

    def recalled(self) -> Remembered:
        """Attempts, positions and time as the door process last kept them. Raises HistoryError."""
        counter, never_used = self.store.keystore.counter("attempts"), self.store.never_used("attempts")
        return recall(StateFolder(self.state).history, counter, self.store.mac, never_used)

    def time_seen(self) -> TimeSeen:
        """The highest time that the door process has seen; nothing where its history cannot be read."""
        try:
            return self.recalled().time
        except DeviceError:
            return TimeSeen()

    def going_by_time_seen(self) -> Tools:
        """These tools, which judge consents as the door does: a clock that was set back revives none."""
        self.store.vault.go_by(lambda: self.time_seen().time(self.clock().wall))
        return self


@contextmanager
def open_tools(settings: Settings, state: Path, models: Path) -> Iterator[Tools]:
    """Store and judge, none of the models below what the store has pinned."""
    with (
        open_store(state, settings.store) as store,
        open_judge(models, settings, pinned_minimum(store.vault)) as judge,
    ):
        yield Tools(judge, store, settings, state).going_by_time_seen()
