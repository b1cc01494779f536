"""From evidence on one person at one door to what happens there: the one decision path. Pure.

The door, `ostiary decide` and the facade all decide here, on the same knowledge of the unit. The door writes
down afterwards what it decided; the others rehearse.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import SequenceMatcher
from enum import Enum

from device.access.decision import Decision, Finding, Notice, Outcome, Reason, fault
from device.access.memory.remembered import First, Position, Standing
from device.access.memory.visits import Visit
from device.access.policy import Thresholds
from device.access.rules import Door, RiskClass, Rules
from device.access.rules.permissions import refusal, roles_of
from device.access.weigh import weigh
from device.evidence.judge import Evidence
from device.evidence.phrase import normalise
from device.evidence.vocabulary import Language
from device.secure_store.signing import Mac


@dataclass(frozen=True, slots=True)
class Known:
    """What the unit knows besides the evidence, at this moment and at this door."""

    rules: Rules
    door: Door
    risk: RiskClass
    at: datetime
    """The time that rights go by: the later of the clock and the highest time seen."""
    clock_behind: bool
    locked_down: bool
    first: First | None
    """Who waits here for a second person."""
    position: Callable[[str], Position | None]
    standing: Callable[[str], Standing]
    """Of a claim; of the door's own limit for one that is not known here."""
    mac: Mac
    same_voice_llr: Callable[[str, str], float] | None = None
    visit: Callable[[str], Visit | None] = lambda uid: None
    """Of a temporary person."""


class Factors(Enum):
    """How far the evidence got, for the code that counts failures."""

    FAILED = "failed"
    BARRED = "barred"
    PASSED = "passed"


def before_hearing(known: Known, uid: str) -> Decision | None:
    """Why nobody is asked for a phrase now, or None: a lock-down for everybody, or a claim that must wait."""
    if known.locked_down and not known.rules.lock_down_roles:
        return locked_down()
    return barred(known, uid)


def barred(known: Known, uid: str) -> Decision | None:
    """Why `uid` may not try now, or None."""
    standing = known.standing(uid)
    if standing.may_try:
        return None
    if standing.disabled:
        return Decision(
            Outcome.LOCKOUT_MAX_ATTEMPTS,
            Reason.DISABLED_AFTER_FAILURES,
            f"disabled after {standing.failures} failures until an admin enables it",
            Notice.SEE_ADMIN,
        )
    return Decision(
        Outcome.LOCKOUT_MAX_ATTEMPTS,
        Reason.MUST_WAIT,
        f"{standing.failures} failures: wait {standing.wait_s:.0f} s",
        Notice.WAIT,
        wait_s=standing.wait_s,
    )


def conclude(
    known: Known,
    uid: str,
    heard: Evidence | BaseException,
    phrase: str,
    before_llr: float | None = None,
    language: Language = Language.ENGLISH,
) -> tuple[Decision, Factors]:
    """The decision on one answer to `phrase`, said in `language`. `uid` is empty where nobody was claimed.
    The rules speak to nobody but a person whose every factor passed. `before_llr`: as for
    `policy.decide`."""
    found = heard.identified if isinstance(heard, Evidence) and not uid else None
    who = found.uid if found is not None else uid
    duress = False
    if isinstance(heard, Evidence) and duress_said(known.rules, known.mac, who, heard.transcript):
        duress = True
        heard = _without_duress_word(heard, phrase, known.risk.thresholds, language)
    decision = weigh(heard, known.risk, claimed=bool(uid), before_llr=before_llr)
    if decision.outcome is not Outcome.GRANTED:
        return replace(decision, silent_alarm=duress), Factors.FAILED
    if who != uid and (shut := barred(known, who)) is not None:
        return replace(shut, silent_alarm=duress, person=who), Factors.BARRED
    return replace(_permitted(known, who, duress, decision), person=who), Factors.PASSED


def duress_digest(mac: Mac, uid: str, word: str) -> bytes:
    """What the rules keep instead of a duress word: useless without this unit's secret."""
    return mac("duress", f"{uid}\0{word.casefold()}".encode())[:16]


def locked_down() -> Decision:
    return Decision(Outcome.LOCK_DOWN, Reason.LOCKED_DOWN, "the door is in lock-down", Notice.LOCKED_DOWN)


def _permitted(known: Known, uid: str, duress: bool, passed: Decision) -> Decision:
    """What the rules decide about a person whose every factor passed. The findings stay with it."""
    findings, rules, door = passed.findings, known.rules, known.door
    if known.locked_down:
        person = rules.person(uid)
        if person is None or not roles_of(person) & rules.lock_down_roles:
            return replace(locked_down(), findings=findings, silent_alarm=duress)
    refused = refusal(rules, door, uid, known.at, clock_behind=known.clock_behind, visit=known.visit(uid))
    if refused is not None:
        return replace(refused, findings=findings, silent_alarm=duress)
    if _inside_already(known, uid):
        return Decision(
            Outcome.PASSBACK_DETECTED,
            Reason.ALREADY_INSIDE,
            f"this person was let into {door.zone} less than {door.anti_passback_s:.0f} s ago",
            Notice.REFUSED,
            findings,
            silent_alarm=duress,
        )
    if door.two_persons_within_s is not None:
        waiting = _second_person(known, door.two_persons_within_s, uid, duress, passed)
        if waiting is not None:
            return waiting
        duress = duress or (known.first is not None and known.first.duress)
    if duress:
        return Decision(
            Outcome.DURESS,
            Reason.DURESS_WORD,
            "every required factor passed, and the duress word was said",
            Notice.WELCOME,
            findings,
            silent_alarm=True,
        )
    return passed


def _second_person(
    known: Known, within_s: float, uid: str, duress: bool, passed: Decision
) -> Decision | None:
    """None when `uid` completes a pair."""
    first, found = known.first, passed.findings
    if first is None:
        return Decision(
            Outcome.AWAITING_SECOND_PERSON,
            Reason.SECOND_PERSON_NEEDED,
            f"a second person must pass within {within_s:.0f} s",
            Notice.SECOND_PERSON,
            found,
            silent_alarm=duress,
            wait_s=within_s,
        )
    if first.uid == uid:
        return _not_a_pair(Reason.SAME_PERSON_TWICE, "the second person must be another one", found, duress)
    if known.same_voice_llr is None:
        return fault(Reason.CHECK_FAILED, "this unit cannot tell whether two people are one voice")
    alike_llr = known.same_voice_llr(first.uid, uid)
    if not alike_llr < 0.0:  # also when it is not a number
        why = f"both people have the same voice (LLR {alike_llr:+.1f})"
        return _not_a_pair(Reason.SAME_VOICE_TWICE, why, found, duress)
    return None


def _not_a_pair(code: Reason, why: str, findings: tuple[Finding, ...], duress: bool) -> Decision:
    return Decision(Outcome.DENIED_RULE, code, why, Notice.SECOND_PERSON, findings, silent_alarm=duress)


def _inside_already(known: Known, uid: str) -> bool:
    position, door = known.position(uid), known.door
    if door.anti_passback_s is None or position is None or position.zone != door.zone:
        return False
    # A clock set back makes this negative: still inside, until an admin pardons.
    return (known.at - position.since).total_seconds() < door.anti_passback_s


def duress_said(rules: Rules, mac: Mac, uid: str, transcript: str) -> bool:
    """Whether the transcript holds the person's duress word. Every word is hashed for everybody, so that
    the time it takes tells nothing."""
    person = rules.person(uid)
    expected = (person.duress if person is not None else ()) or (bytes(16),)
    # Digests that were made before ids had a normal form hold the id as the rules file has it.
    spellings = (uid, person.written if person is not None and person.written else uid)
    words = "".join(c if c.isalnum() else " " for c in transcript.casefold()).split()
    hits = [
        hmac.compare_digest(duress_digest(mac, spelled, word), digest)
        for word in words
        for spelled in spellings
        for digest in expected
    ]
    return any(hits)


def _without_duress_word(heard: Evidence, phrase: str, limits: Thresholds, language: Language) -> Evidence:
    """The evidence with the extra word forgiven, which lowers the phrase's score because it was not in the
    phrase. Only then four of five words of the phrase in the transcript, in order, stand in for the score."""
    wanted, said = normalise(phrase, language), normalise(heard.transcript, language)
    blocks = SequenceMatcher(None, wanted, said, autojunk=False).get_matching_blocks()
    if sum(block.size for block in blocks) < 0.8 * len(wanted) or not math.isfinite(heard.phrase_llr):
        return heard
    # The margin is the most that a phrase before can have left missing.
    return replace(heard, phrase_llr=max(heard.phrase_llr, limits.phrase_llr, limits.step_up_margin_llr))
