"""One unit's attempts from claim to decision: challenge, limits, evidence, rules, two persons, duress.

The order is the security argument. An attempt is charged on disk before its evidence is looked at, the
challenge is gone before that, and a success is on disk before anybody hears of it. Rights (hours, zones,
visits) are answered only to somebody whose every factor passed, so a found badge tells a stranger nothing.
"""

from __future__ import annotations

import hmac
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from device.access.challenge import Binding, Challenge, ChallengeBook, ChallengeError
from device.access.decision import Decision, Notice, Outcome, Reason, RefusalError, fault, refusal_for
from device.access.history import History, HistoryError, Position
from device.access.permissions import refusal, roles_of
from device.access.policy import Thresholds, counts_on
from device.access.rules import Door, RiskClass, Rules
from device.access.weigh import weigh
from device.clock import Now
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.evidence.phrase import normalise
from device.secure_store.signing import Mac

STEP_UP_WINDOW_S = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One more phrase was asked for; what the first counts beside it."""

    until_s: float
    before_llr: float


@dataclass(frozen=True, slots=True)
class _First:
    """The first of two persons, waiting for the second."""

    uid: str
    until_s: float
    duress: bool


def duress_digest(mac: Mac, uid: str, word: str) -> bytes:
    """What the rules keep instead of a duress word: useless without this unit's secret."""
    return mac("duress", f"{uid}\0{word.casefold()}".encode())[:16]


class Doorkeeper:
    """Greets a claim with a challenge, and turns the answer into a decision that is already on disk."""

    def __init__(
        self,
        unit: str,
        rules: Rules,
        history: History,
        mac: Mac,
        *,
        enrolled: Callable[[str], bool],
        same_voice_llr: Callable[[str, str], float] | None = None,
    ) -> None:
        """`enrolled(uid)`: whether there is a voiceprint. `same_voice_llr(a, b)`: whether two enrolled people
        are
        one voice, as an LLR; a door for two persons stays locked without it."""
        self._unit = unit
        self.rules = rules
        self._history = history
        self._mac = mac
        self._enrolled = enrolled
        self._same_voice_llr = same_voice_llr
        self._book: ChallengeBook | None = None
        self._asked_again: dict[tuple[str, str], _Asked] = {}
        self._first: dict[str, _First] = {}
        self._before: dict[str, Position | None] = {}
        # Attempts come from one thread, the fire input and orders from another.
        self._one_at_a_time = threading.Lock()

    def greet(
        self, door: str, uid: str, now: Now, *, transaction: str = "", transaction_text: str = ""
    ) -> Challenge | Decision:
        """A phrase to say, or the reason why there is none. `uid` is empty when nobody was claimed."""
        try:
            with self._one_at_a_time:
                return self._greet(Binding(self._unit, door, uid, transaction, transaction_text), now)
        except HistoryError as err:
            return replace(fault(Reason.HISTORY_FAULT, str(err)), door=door, person=uid or None)
        except DeviceError as err:
            return replace(refusal_for(err), door=door, person=uid or None)

    def decide(
        self,
        challenge: Challenge,
        heard: Evidence | BaseException,
        now: Now,
        *,
        door: str,
        uid: str,
        speech_began_s: float,
    ) -> Decision:
        """The decision on one answered challenge. `heard` is the evidence, or what kept the judge from any.

        When this returns, failures, successes and positions are on disk. Whatever is raised inside is a
        denial.
        """
        try:
            with self._one_at_a_time:
                decision = self._decide(challenge, heard, now, door, uid, speech_began_s)
        except RefusalError as err:
            decision = err.decision
        except HistoryError as err:
            decision = fault(Reason.HISTORY_FAULT, str(err))
        except Exception as err:  # noqa: BLE001 - the last line of defence: nothing that fails may open a door
            decision = refusal_for(err)
        person = decision.person or uid or None
        return replace(decision, door=door, person=person, challenge=challenge.challenge_id)

    def take_back(self, decision: Decision) -> None:
        """The door did not open after all, because its event could not be written: nobody has moved."""
        if not decision.opens:
            return
        try:
            with self._one_at_a_time:
                self._history.move(self._before)
        except HistoryError as err:
            log.error("where people are could not be taken back: %s", err)

    def fire_input(self, door: str) -> Decision:
        """What the fire input does at `door`. Lock-down wins: pulling an alarm must not open a door it
        closed.

        Only the entry side is ours; the way out is always free.
        """
        rule = self.rules.doors.get(door)
        if rule is None or not rule.fire_release:
            decision = Decision(
                Outcome.DENIED_RULE,
                Reason.FIRE_INPUT,
                "this door has no emergency release in its rules; the exit is free",
                Notice.NOT_HERE,
            )
        elif self._history.locked_down(door):
            decision = _locked_down()
        else:
            decision = Decision(
                Outcome.EMERGENCY_RELEASE,
                Reason.FIRE_INPUT,
                "the fire input released the door",
                Notice.EMERGENCY,
            )
        return replace(decision, door=door)

    def lock_down(self, door: str, on: bool) -> Decision:
        """Lock a door, or all of them with `*`, until that is lifted; on disk when this returns.

        Raises HistoryError, and RefusalError for a door that the rules do not know.
        """
        with self._one_at_a_time:
            if door != "*":
                self._rule(door)
            self._history.lock_down(door, on)
        return replace(_locked_down(), door=door)

    def pardon(self, uid: str) -> bool:
        """Take back a person's failures and forget where they are; False when nothing was held."""
        with self._one_at_a_time:
            return self._history.pardon(f"person:{uid}")

    def adopt(self, rules: Rules) -> None:
        """New rules, from the next attempt on. Raises HistoryError unless their version is higher."""
        with self._one_at_a_time:
            self._adopt(rules)

    def _adopt(self, rules: Rules) -> None:
        if rules.version <= self.rules.version:
            raise HistoryError(
                f"rules {rules.version} are not newer than {self.rules.version}; raise `version`"
            )
        self.rules = rules
        self._first.clear()
        self._asked_again.clear()

    def _greet(self, binding: Binding, now: Now) -> Challenge | Decision:
        door, risk = self._rule(binding.door)
        if self._history.locked_down(door.name) and not self.rules.lock_down_roles:
            return replace(_locked_down(), door=door.name, person=binding.person or None)
        barred = self._barred(door.name, binding.person, risk, now)
        if barred is not None:
            return replace(barred, door=door.name, person=binding.person or None)
        if self._book is None:
            self._book = ChallengeBook(self._unit, self._history.begin(), self._mac, self._history)
        self._book.withdraw(door.name)
        return self._book.issue(binding, risk.challenge, now)

    def _decide(
        self,
        challenge: Challenge,
        heard: Evidence | BaseException,
        now: Now,
        door_name: str,
        uid: str,
        speech_began_s: float,
    ) -> Decision:
        door, risk = self._rule(door_name)
        # 1. The challenge is genuine, open, of this door and person, in time; from here on it is used up.
        if self._book is None:
            raise ChallengeError("no challenge was shown since the unit started")
        self._book.redeem(challenge, door=door_name, person=uid, speech_began_s=speech_began_s)
        # 2. The claim may still try.
        barred = self._barred(door_name, uid, risk, now)
        if barred is not None:
            return barred
        # 3. Charged before the evidence is looked at.
        subject = self._subject(door_name, uid)
        self._history.charge(subject, now.monotonic_s)
        found = heard.identified if isinstance(heard, Evidence) and not uid else None
        who = found.uid if found is not None else uid
        duress = False
        if isinstance(heard, Evidence) and self._duress(who, heard.transcript):
            duress, heard = True, _without_duress_word(heard, challenge.phrase, risk.thresholds)
        decision = self._judged(heard, risk, door_name, uid, now)
        granted = decision.outcome is Outcome.GRANTED
        if not granted and not decision.counts_as_failure:
            self._history.refund(subject)
            return replace(decision, silent_alarm=duress)
        if not granted:
            return replace(decision, silent_alarm=duress)
        if who != uid and (barred := self._barred(door_name, who, risk, now)) is not None:
            return replace(barred, silent_alarm=duress, person=who)
        # 4. Every factor passed: now, and only now, the rules speak.
        decision = replace(self._permitted(door, who, now, duress, decision), person=who)
        moved = {}
        if decision.opens:
            here = Position(door.zone, now.wall)
            moved = {who: here}
            if (first := self._first.pop(door_name, None)) is not None:
                moved[first.uid] = here
            self._before = {person: self._history.position(person) for person in moved}
        # 5. On disk before it is acted on.
        if decision.opens or subject == f"person:{uid}":
            self._history.settle((subject,), moved)
        elif not decision.counts_as_failure:
            self._history.refund(subject)  # a door's count is not one person's to clear without opening it
        return decision

    def _judged(
        self, heard: Evidence | BaseException, risk: RiskClass, door: str, uid: str, now: Now
    ) -> Decision:
        """The factors alone."""
        asked = self._asked_again.pop((door, uid), None) if isinstance(heard, Evidence) else None
        before_llr = asked.before_llr if asked is not None and now.monotonic_s <= asked.until_s else None
        decision = weigh(heard, risk, claimed=bool(uid), before_llr=before_llr)
        if decision.outcome is Outcome.STEP_UP:
            asked = _Asked(now.monotonic_s + STEP_UP_WINDOW_S, counts_on(decision))
            self._asked_again[(door, uid)] = asked
        return decision

    def _permitted(self, door: Door, uid: str, now: Now, duress: bool, passed: Decision) -> Decision:
        """What the rules make of a person whose every factor passed. The findings stay with the decision."""
        findings = passed.findings
        if self._history.locked_down(door.name):
            person = self.rules.person(uid)
            if person is None or not roles_of(person) & self.rules.lock_down_roles:
                return replace(_locked_down(), findings=findings, silent_alarm=duress)
        if (refused := refusal(self.rules, door, uid, now.wall)) is not None:
            return replace(refused, findings=findings, silent_alarm=duress)
        if self._inside_already(door, uid, now):
            return Decision(
                Outcome.PASSBACK_DETECTED,
                Reason.ALREADY_INSIDE,
                f"this person was let into {door.zone} less than {door.anti_passback_s:.0f} s ago",
                Notice.REFUSED,
                findings,
                silent_alarm=duress,
            )
        if door.two_persons_within_s is not None:
            waiting = self._two_persons(door, door.two_persons_within_s, uid, now, duress, passed)
            if waiting is not None:
                return waiting
            duress = duress or self._first[door.name].duress
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

    def _two_persons(
        self, door: Door, within_s: float, uid: str, now: Now, duress: bool, passed: Decision
    ) -> Decision | None:
        """None when `uid` completes a pair."""
        first = self._first.get(door.name)
        if first is None or now.monotonic_s > first.until_s:
            self._first[door.name] = _First(uid, now.monotonic_s + within_s, duress)
            return Decision(
                Outcome.AWAITING_SECOND_PERSON,
                Reason.SECOND_PERSON_NEEDED,
                f"a second person must pass within {within_s:.0f} s",
                Notice.SECOND_PERSON,
                passed.findings,
                silent_alarm=duress,
                wait_s=within_s,
            )
        if first.uid == uid:
            return Decision(
                Outcome.DENIED_RULE,
                Reason.SAME_PERSON_TWICE,
                "the second person must be another one",
                Notice.SECOND_PERSON,
                passed.findings,
                silent_alarm=duress,
            )
        if self._same_voice_llr is None:
            return fault(Reason.CHECK_FAILED, "this unit cannot tell whether two people are one voice")
        alike_llr = self._same_voice_llr(first.uid, uid)
        if not alike_llr < 0.0:  # also when it is not a number
            return Decision(
                Outcome.DENIED_RULE,
                Reason.SAME_VOICE_TWICE,
                f"both people have the same voice (LLR {alike_llr:+.1f})",
                Notice.SECOND_PERSON,
                passed.findings,
                silent_alarm=duress,
            )
        return None

    def _inside_already(self, door: Door, uid: str, now: Now) -> bool:
        position = self._history.position(uid)
        if door.anti_passback_s is None or position is None or position.zone != door.zone:
            return False
        # A clock set back makes this negative: still inside, until an admin pardons.
        return (now.wall - position.since).total_seconds() < door.anti_passback_s

    def _duress(self, uid: str, transcript: str) -> bool:
        """Whether the transcript holds the person's duress word.

        Every word is hashed, for everybody: same time.
        """
        person = self.rules.person(uid)
        expected = (person.duress if person is not None else None) or bytes(16)
        words = "".join(c if c.isalnum() else " " for c in transcript.casefold()).split()
        hits = [hmac.compare_digest(duress_digest(self._mac, uid, word), expected) for word in words]
        return any(hits)

    def _rule(self, name: str) -> tuple[Door, RiskClass]:
        door = self.rules.doors.get(name)
        if door is None or door.risk not in self.rules.risks:
            raise RefusalError(
                fault(Reason.NO_SUCH_DOOR, f"the rules have no door {name}, so it stays locked")
            )
        return door, self.rules.risks[door.risk]

    def _subject(self, door: str, uid: str) -> str:
        """Whose limit an attempt counts against.

        Invented badge numbers share the door's, so they fill no disk.
        """
        known = uid and (uid in self.rules.people or self._enrolled(uid))
        return f"person:{uid}" if known else f"door:{door}"

    def _barred(self, door: str, uid: str, risk: RiskClass, now: Now) -> Decision | None:
        standing = self._history.standing(self._subject(door, uid), risk.attempts, now.monotonic_s)
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


def _without_duress_word(heard: Evidence, phrase: str, limits: Thresholds) -> Evidence:
    """The evidence with the extra word forgiven: it lowers the phrase's score, for it was not in the phrase.

    Then, and only then, four of five words of the phrase in the transcript, in order, stand in for the score.
    """
    wanted, said = normalise(phrase), normalise(heard.transcript)
    blocks = SequenceMatcher(None, wanted, said, autojunk=False).get_matching_blocks()
    if sum(block.size for block in blocks) < 0.8 * len(wanted) or not math.isfinite(heard.phrase_llr):
        return heard
    # The margin is the most that a phrase before can have left missing.
    return replace(heard, phrase_llr=max(heard.phrase_llr, limits.phrase_llr, limits.step_up_margin_llr))


def _locked_down() -> Decision:
    return Decision(Outcome.LOCK_DOWN, Reason.LOCKED_DOWN, "the door is in lock-down", Notice.LOCKED_DOWN)
