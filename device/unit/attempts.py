"""One attempt at a door: a claim, a fresh phrase, its answer, a decision in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from device.access.claims import Claim, ClaimKind, Directory
from device.access.decision import Decision, Notice, Outcome, Reason, fault, refusal_for
from device.access.voices import claimed
from device.audio import AudioSource
from device.errors import DeviceError
from device.evidence.judge import Evidence, Reference
from device.evidence.listener import AnswerProgress
from device.evidence.phrase import normalise
from device.feedback.display import Display
from device.unit.assembly import Unit
from device.unit.voices.enrol_again import asked_to_enrol
from sync.errors import SyncError
from sync.plain_words import what_and_why

_LOG = logging.getLogger("ostiary")

NAME_WITHIN_S = 10.0
NOBODY_NAMED = Decision(
    Outcome.DENIED_UNKNOWN,
    Reason.NO_CLAIM,
    "no name or number was understood, and this door asks for one",
    Notice.SAY_NUMBER,
)
BADGE_UNREADABLE = Decision(
    Outcome.DENIED_UNKNOWN,
    Reason.BADGE_UNREADABLE,
    "the reader sent something that is no badge number; `ostiary readers watch` shows it",
    Notice.CARD_UNREADABLE,
)


def named(
    unit: Unit, claim: Claim, source: AudioSource, door_name: str, display: Display, stop: threading.Event
) -> str | Decision:
    """The uid of a claim, or the refusal where there is none. Somebody without a badge may say a name or
    number.
    """
    if claim.kind is ClaimKind.UNREADABLE:
        return BADGE_UNREADABLE
    if claim.uid or claim.kind is not ClaimKind.BUTTON or not unit.asks_for_claim(door_name):
        return claim.uid
    language = unit.controller.usual_language
    spelled = partial(normalise, language=language)
    directory = Directory.of(unit.controller.rules, spelled)
    progress = AnswerProgress(display.ask_name, display.speaking, display.judging)
    said = unit.listener.name(
        source,
        directory.spoken_words,
        start_within_s=NAME_WITHIN_S,
        stop=stop,
        progress=progress,
        language=language,
    )
    return directory.spoken(spelled(said)).uid


def _nothing_more() -> str:
    """The words after an answer that never was."""
    return ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A decision and its evidence; `rest` waits for the words that follow an early answer."""

    decision: Decision
    evidence: Evidence | None = None
    rest: Callable[[], str] = _nothing_more


def served(
    unit: Unit,
    who: str | Decision,
    source: AudioSource,
    door_name: str,
    display: Display,
    stop: threading.Event,
) -> Attempt:
    """One attempt whose decision is in the log, on the disk, before the strike moves.

    Every error, and a log that takes no event, becomes a refusal that says "out of service"; the door goes
    on.
    """
    try:
        made = attempt(unit, who, source, door_name, display, stop)
    except Exception as err:  # noqa: BLE001 - a supervisor: nothing in one attempt may end the process
        if isinstance(err, DeviceError | SyncError | OSError):  # the machine's fault, and not ours
            _LOG.error("an attempt failed, and the door stays locked: %s", what_and_why(err))
            _LOG.debug("where it failed", exc_info=err)
        else:
            _LOG.exception("an attempt failed; the door stays locked")
        made = Attempt(replace(refusal_for(err), door=door_name, person=_uid(who)))
    decision = made.decision
    try:
        sequence = unit.trail.decided(decision, made.evidence)
    except SyncError as err:
        _LOG.error("%s could not be written down, so the door stays locked: %s", decision.outcome, err)
        unit.controller.take_back(decision)
        refused = replace(
            fault(Reason.LOG_FAULT, str(err)),
            door=door_name,
            person=decision.person,
            challenge=decision.challenge,
        )
        return replace(made, decision=refused)
    if made.evidence is not None:
        values, uid = made.evidence.print_values, _uid(who) or ""
        unit.prints.leave(sequence, decision.outcome, values)
        unit.bouts.note(decision.outcome, values, door_name, uid, unit.clock().monotonic_s)
    return replace(made, decision=asked_to_enrol(unit, decision))


def listened_on(unit: Unit, made: Attempt) -> Attempt:
    """Listen until the person has ended. A duress word after a complete answer raises a silent alarm, and is
    in what comes back: nothing is learnt of somebody under duress."""
    decision = made.decision
    said = made.rest()
    if not said or not decision.person or not unit.controller.duress_said(decision.person, said):
        return made
    told = replace(
        decision,
        outcome=Outcome.DURESS if decision.opens else decision.outcome,
        code=Reason.DURESS_WORD,
        reason="the duress word was said after an answer that was complete",
        silent_alarm=True,
    )
    try:
        unit.trail.decided(told, made.evidence)
    except SyncError as err:
        _LOG.error("a silent alarm could not be written down: %s", err)
    return replace(made, decision=told)


def attempt(
    unit: Unit,
    who: str | Decision,
    source: AudioSource,
    door_name: str,
    display: Display,
    stop: threading.Event,
) -> Attempt:
    """One fresh phrase and the decision on its answer."""
    if isinstance(who, Decision):
        return Attempt(replace(who, door=door_name))
    uid = who
    if not uid and unit.asks_for_claim(door_name):
        return Attempt(replace(NOBODY_NAMED, door=door_name))
    greeting = unit.controller.greet(door_name, uid, unit.clock())
    if isinstance(greeting, Decision):
        return Attempt(greeting)
    unit.judge.open_soon(greeting.language)

    def ready() -> None:
        display.tell(greeting)
        unit.controller.shown(greeting, unit.clock())

    with reference(unit, door_name, uid) as voice:
        listening_since_s = unit.clock().monotonic_s
        answer = unit.listener.hear(
            source,
            greeting.phrase,
            voice,
            start_within_s=greeting.lifetime_s,
            stop=stop,
            progress=AnswerProgress(ready, display.speaking, display.judging),
            complete=partial(unit.controller.complete, greeting, door=door_name, uid=uid),
            lacks_words=partial(unit.controller.lacks_words, door=door_name, uid=uid),
            language=greeting.language,
        )
    # Before anybody decides on it: a cut after the door opened must not make the unit forget.
    heard = unit.replay_guard.note(answer.heard, unit.clock())
    if isinstance(heard, Evidence) and uid:
        now_s = unit.clock().monotonic_s
        heard = replace(heard, threat=unit.bouts.match(heard.print_values, door_name, uid, now_s))
    decision = unit.controller.decide(
        greeting,
        heard,
        unit.clock(),
        door=door_name,
        uid=uid,
        speech_began_s=listening_since_s + answer.speech_began_s,
    )
    unit.replay_guard.settle(decision)
    return Attempt(decision, heard if isinstance(heard, Evidence) else None, answer.rest)


@contextmanager
def reference(unit: Unit, door_name: str, uid: str) -> Iterator[Reference]:
    """The voices to compare with: the person claimed, or everybody who may ever pass this door."""
    if uid or unit.asks_for_claim(door_name):
        follows = unit.follows_at(door_name)
        with claimed(unit.store.vault, uid, unit.judge.generations, follows=follows) as voice:
            yield voice
    else:
        yield unit.voices.at(door_name, unit.controller.rules, unit.clock().monotonic_s)


def _uid(who: str | Decision) -> str | None:
    return who or None if isinstance(who, str) else None
