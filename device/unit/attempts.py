"""One attempt at a door: who is claimed, a fresh phrase, its answer, a decision that is in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from device.access.claims import Claim, ClaimKind, Directory
from device.access.decision import Decision, Notice, Outcome, Reason, fault, refusal_for
from device.access.voices import voiceprint
from device.audio import AudioSource
from device.evidence.judge import Evidence, Reference
from device.evidence.listener import Moments
from device.evidence.phrase import normalise
from device.unit.assembly import Unit
from device.unit.display import Display
from sync.errors import SyncError

_LOG = logging.getLogger("ostiary")

NAME_WITHIN_S = 10.0
NOBODY_NAMED = Decision(
    Outcome.DENIED_UNKNOWN,
    Reason.NO_CLAIM,
    "no name or number was understood, and this door asks for one",
    Notice.SAY_NUMBER,
)


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
