"""One unit's attempts from claim to decision: challenge, limits, evidence, rules, two persons, duress.

The order is the security argument. An attempt is charged on disk before its evidence is looked at, the
challenge is gone before that, and a success is on disk before anybody hears of it. Rights (hours, zones,
visits) are answered only to somebody whose every factor passed, so a found badge tells a stranger nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from device.access.challenge import Binding, Challenge, ChallengeBook, ChallengeError
from device.access.decision import Decision, Factor, Outcome, Reason, RefusalError, fault, refusal_for
from device.access.memory.history import History, HistoryError
from device.access.memory.holds import Hold
from device.access.memory.remembered import First, Position, Standing, normal
from device.access.memory.timekeeping import TimeSeen
from device.access.memory.voice_refusals import with_one_more
from device.access.orders import DoorOrders, rule_of
from device.access.passage import (
    Factors,
    Known,
    barred,
    before_hearing,
    conclude,
    duress_said,
)
from device.access.policy import counts_on
from device.access.rules import Rules
from device.access.weigh import weigh
from device.clock import Now
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.evidence.phrase import said_in_full
from device.evidence.vocabulary import Language
from device.secure_store.signing import Mac

STEP_UP_WINDOW_S = 60.0
MOST_EXCUSED = 3
"""Attempts of one claim that a noise or the door's tone spoiled, and that count as no failures ..."""
EXCUSED_WINDOW_S = 900.0
"""... in so long a time. The next ones count: an attacker can make a noise, too."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One more phrase was asked for: until when, and what the first one counts."""

    until_s: float
    before_llr: float


class AccessController(DoorOrders):
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
        pseudonym: Callable[[str], str] = lambda uid: "",
        usual: Language = Language.ENGLISH,
        heard_in: Callable[[Language], bool] = lambda language: language is Language.ENGLISH,
    ) -> None:
        """`enrolled(uid)`: whether there is a voiceprint. `same_voice_llr(a, b)`: whether two enrolled people
        are one voice, as an LLR; a door for two persons stays locked without it. `pseudonym(uid)`: how
        events, and orders about visits, call a person. `usual`: in which language people are asked whose
        rules name none; `heard_in` says in which an answer can be heard."""
        super().__init__(rules, history)
        self._unit = unit
        self._mac = mac
        self._enrolled = enrolled
        self._same_voice_llr = same_voice_llr
        self._pseudonym = pseudonym
        self.usual_language = usual
        self._heard_in = heard_in
        self._book: ChallengeBook | None = None
        self._asked_again: dict[tuple[str, str], _Asked] = {}
        self._excused: dict[str, list[float]] = {}
        self._before: dict[str, Position | None] = {}
        self._waited: tuple[str, Hold] | None = None
        """The hold that the last success began, as it was before."""

    def greet(self, door: str, uid: str, now: Now) -> Challenge | Decision:
        """A phrase to say, or the reason why there is none. `uid` is empty when nobody was claimed."""
        try:
            with self._one_at_a_time:
                return self._greet(Binding(self._unit, door, uid), now)
        except HistoryError as err:
            return replace(fault(Reason.HISTORY_FAULT, str(err)), door=door, person=uid or None)
        except DeviceError as err:
            return replace(refusal_for(err), door=door, person=uid or None)

    def shown(self, challenge: Challenge, now: Now) -> None:
        """The phrase is on the display since `now`; the time for its answer begins. Waits for nothing."""
        if self._book is not None:
            self._book.shown(challenge, now)

    def complete(self, challenge: Challenge, heard: Evidence, *, door: str, uid: str) -> bool:
        """Whether the answer needs no more: every word was heard and every factor passes by itself. Never
        at a door for two persons, where a duress word after the phrase counts for both. Keeps nothing."""
        rule, risk = self.rules.doors.get(door), self.rules.risk_at(door)
        if rule is None or risk is None or rule.two_persons_within_s is not None:
            return False
        passed = weigh(heard, risk, claimed=bool(uid)).outcome is Outcome.GRANTED
        return passed and said_in_full(heard.transcript, challenge.phrase, challenge.language)

    def lacks_words(self, heard: Evidence, *, door: str, uid: str) -> bool:
        """Whether words are what this answer lacks, so that more may still come."""
        risk = self.rules.risk_at(door)
        if risk is None or not risk.factors & {Factor.PHRASE}:
            return False
        found = weigh(heard, risk, claimed=bool(uid))
        return heard.phrase_llr < risk.thresholds.phrase_llr or found.code is Reason.TOO_LITTLE_SPEECH

    def duress_said(self, uid: str, transcript: str) -> bool:
        """Whether a transcript holds the person's duress word."""
        return duress_said(self.rules, self._mac, uid, transcript)

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
        """The decision on one answered challenge. `heard` is the evidence, or what kept the judge from
        any. Failures, successes and positions are then on disk. Whatever is raised inside is a denial."""
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
        """Undo where people were noted: the door stayed locked, for its event could not be written."""
        if not decision.opens:
            return
        try:
            with self._one_at_a_time:
                self._history.settle((), self._before)
                if self._waited is not None:
                    self._history.hold(*self._waited)
        except HistoryError as err:
            log.error("where people are could not be taken back: %s", err)

    def pardon(self, uid: str) -> bool:
        """Take back a person's failures and forget where they are; False when nothing was held."""
        with self._one_at_a_time:
            return self._history.pardon(f"person:{uid}")

    def adopt(self, rules: Rules, *, ordered: bool = False) -> None:
        """New rules, from the next attempt on. Raises HistoryError unless their version is higher.
        `ordered` says that something else, such as the fleet's documents, gives the order."""
        with self._one_at_a_time:
            self._adopt(rules, ordered)

    def _adopt(self, rules: Rules, ordered: bool) -> None:
        if not ordered and rules.version <= self.rules.version:
            raise HistoryError(
                f"rules {rules.version} are not newer than {self.rules.version}; raise `version`"
            )
        self.rules = rules
        self._history.settle((), first={door: None for door in self._history.waiting_doors})
        self._asked_again.clear()

    def keep_time(self, now: Now) -> TimeSeen:
        """Look at the clocks while nobody comes, and write down what was seen. Raises HistoryError."""
        with self._one_at_a_time:
            seen = self.time.look(now)
            self._history.keep()
        return seen

    def trust_clock(self, now: Now) -> None:
        """An admin says that the clock is right. Raises HistoryError."""
        with self._one_at_a_time:
            self.time.trust(now)
            self._history.keep()

    def forget(self, uid: str) -> None:
        """Erase what is remembered of a person. Raises HistoryError."""
        with self._one_at_a_time:
            self._history.forget(uid)
            if self._history.visit(self._pseudonym(uid)) is not None:
                self._history.keep_visit(self._pseudonym(uid), None)
            self._before.pop(uid, None)
            self._excused.pop(f"person:{uid}", None)
            self._asked_again = {key: value for key, value in self._asked_again.items() if key[1] != uid}

    def keep_only(self, uids: Iterable[str]) -> None:
        """Erase what is remembered of everybody else. Raises HistoryError."""
        with self._one_at_a_time:
            self._history.keep_only(uids)

    def voice_refused(self, uid: str, enrolment: int, day: int) -> bool:
        """Note that a person's voice was refused on `day` (UTC, since 1970). True where by this it was
        refused often of late. Raises HistoryError."""
        with self._one_at_a_time:
            before = self._history.voice_refusals(uid)
            after = with_one_more(before, enrolment, day)
            self._history.keep_voice_refusals(uid, after)
        return after.often(enrolment, day) and not (before is not None and before.often(enrolment, day))

    def should_enrol_again(self, uid: str, enrolment: int, day: int) -> bool:
        """Whether a person's voice was refused often of late. True once, and then it begins anew. Raises
        HistoryError."""
        with self._one_at_a_time:
            found = self._history.voice_refusals(uid)
            often = found is not None and found.often(enrolment, day)
            if often:
                self._history.keep_voice_refusals(uid, None)
        return often

    def drop_voice_refusals(self, day: int) -> None:
        """Forget the refusals that count no more on `day`. Raises HistoryError."""
        with self._one_at_a_time:
            self._history.drop_voice_refusals(day)

    def _greet(self, binding: Binding, now: Now) -> Challenge | Decision:
        known = self._known(binding.door, now)
        refused = before_hearing(known, binding.person)
        if refused is not None:
            return replace(refused, door=binding.door, person=binding.person or None)
        if self._book is None:
            self._book = ChallengeBook(self._unit, self._history.begin(), self._mac, self._history)
        self._book.withdraw(binding.door)
        person = self.rules.person(binding.person)
        shown = known.risk.challenge if person is None else person.challenge(known.risk.challenge)
        language = self.rules.phrases(binding.person, self.usual_language)
        if not self._heard_in(language):  # never another language instead: nobody would know why
            raise ChallengeError(unheard(language))
        return self._book.issue(binding, shown, now, language=language)

    def _decide(
        self,
        challenge: Challenge,
        heard: Evidence | BaseException,
        now: Now,
        door_name: str,
        uid: str,
        speech_began_s: float,
    ) -> Decision:
        known = self._known(door_name, now)
        # 1. The challenge is genuine, open, of this door and person, in time; from here on it is used up.
        if self._book is None:
            raise ChallengeError("no challenge was shown since the unit started")
        self._book.redeem(challenge, door=door_name, person=uid, speech_began_s=speech_began_s)
        # 2. The claim may still try.
        if (shut := barred(known, uid)) is not None:
            return shut
        # 3. Charged before the evidence is looked at.
        subject = subject_of(self.rules, self._enrolled, door_name, uid)
        before = self._history.failing().get(normal(subject), 0)
        try:
            self._history.charge(subject, now.monotonic_s)
            return self._charged(known, subject, uid, heard, challenge, now)
        except BaseException:  # also a stop of the unit: whatever ended it was not the person
            with contextlib.suppress(HistoryError):
                self._history.count_again(subject, before)
            raise

    def _charged(
        self,
        known: Known,
        subject: str,
        uid: str,
        heard: Evidence | BaseException,
        challenge: Challenge,
        now: Now,
    ) -> Decision:
        door = known.door
        before_llr = self._before_llr(door.name, uid, now) if isinstance(heard, Evidence) else None
        # 4. The factors; and to somebody whose every factor passed, and to nobody else, the rules.
        said, language = challenge.phrase, challenge.language
        decision, factors = conclude(known, uid, heard, said, before_llr, language)
        if decision.outcome is Outcome.STEP_UP:
            asked = _Asked(now.monotonic_s + STEP_UP_WINDOW_S, counts_on(decision))
            self._asked_again[(door.name, uid)] = asked
        if factors is Factors.BARRED:
            return decision
        if factors is Factors.FAILED:
            if not decision.counts_as_failure and not (decision.excused and self._spent(subject, now)):
                self._history.refund(subject)
            return decision
        moved: dict[str, Position | None] = {}
        first: dict[str, First | None] = {}
        who = decision.person or uid
        if decision.opens:
            here = Position(door.zone, known.at)
            moved[who] = here
            if known.first is not None and door.two_persons_within_s is not None:
                moved[known.first.uid] = here
                first[door.name] = None
            decision = replace(decision, unlock_s=unlock_s(self.rules, moved))
            self._before = {person: self._history.position(person) for person in moved}
        elif decision.outcome is Outcome.AWAITING_SECOND_PERSON:
            until_s = now.monotonic_s + decision.wait_s
            first[door.name] = First(who, until_s, decision.silent_alarm)
        self._excused.pop(subject, None)
        # 5. On disk before it is acted on.
        if decision.opens or subject == f"person:{uid}":
            self._history.settle((subject,), moved, first)
            self._first_person(door.name, decision, known.at)
        elif not decision.counts_as_failure:
            self._history.refund(subject)  # a door's count is not one person's to clear without opening it
            if first:
                self._history.settle((), first=first)
        return decision

    def _spent(self, subject: str, now: Now) -> bool:
        """Note one more excused attempt; true when there were too many."""
        since = now.monotonic_s - EXCUSED_WINDOW_S
        recent = {
            who: kept for who, times in self._excused.items() if (kept := [at for at in times if at > since])
        }
        recent[subject] = [*recent.get(subject, []), now.monotonic_s]
        self._excused = recent
        return len(recent[subject]) > MOST_EXCUSED

    def _first_person(self, door: str, decision: Decision, at: datetime) -> None:
        """Begin a hold that waits for the first person. Somebody under duress begins none."""
        self._waited = None
        hold = self._history.held(door)
        if hold is None or not hold.first_person or hold.begun or decision.outcome is not Outcome.GRANTED:
            return
        if hold.begins_s <= at.timestamp() < hold.ends_s:
            self._history.hold(door, replace(hold, begun=True))
            self._waited = (door, hold)

    def _before_llr(self, door: str, uid: str, now: Now) -> float | None:
        """What an earlier phrase that fell just short adds to this one."""
        asked = self._asked_again.pop((door, uid), None)
        return asked.before_llr if asked is not None and now.monotonic_s <= asked.until_s else None

    def _known(self, door_name: str, now: Now) -> Known:
        door, risk = rule_of(self.rules, door_name)
        seen = self.time.look(now)

        def standing(uid: str) -> Standing:
            subject = subject_of(self.rules, self._enrolled, door_name, uid)
            return self._history.standing(subject, risk.attempts, now.monotonic_s)

        return Known(
            rules=self.rules,
            door=door,
            risk=risk,
            at=seen.time(now.wall),
            clock_behind=seen.behind(now.wall),
            locked_down=self._history.locked_down(door_name),
            first=self._history.waiting(door_name, now.monotonic_s),
            position=self._history.position,
            standing=standing,
            mac=self._mac,
            same_voice_llr=self._same_voice_llr,
            visit=lambda uid: self._history.visit(self._pseudonym(uid)),
        )


def unlock_s(rules: Rules, uids: Iterable[str]) -> float | None:
    """The longest strike time that the rules give one of these people."""
    people = (rules.person(uid) for uid in uids)
    return max((p.unlock_s for p in people if p is not None and p.unlock_s is not None), default=None)


def unheard(language: Language) -> str:
    """What a person is told where nothing can be heard in `language`."""
    return (
        f"phrases in {language.name.capitalize()} need the larger words model: run `ostiary models build "
        "--only words-base`, and leave `[judge] words` and `second_words` as they are"
    )


def subject_of(rules: Rules, enrolled: Callable[[str], bool], door: str, uid: str) -> str:
    """Whose limit an attempt counts against. Invented badge numbers share the door's: they fill no disk."""
    known = uid and (uid in rules.people or enrolled(uid))
    return f"person:{uid}" if known else f"door:{door}"
