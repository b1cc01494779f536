"""What a door can conclude: outcomes, reasons for the log, notices for the person, and the decision itself.

The log gets the exact reason. The person at the door is told only what an impostor already knows: how the
speech was picked up, or that words were missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from device.audio.errors import Flaw, QualityError
from device.errors import DeviceError
from sync.plain_words import what_and_why


class Outcome(StrEnum):
    """The closed vocabulary of what a door can conclude. Event names follow BACnet's access vocabulary."""

    GRANTED = "GRANTED"
    DENIED_PHRASE = "DENIED_PHRASE"
    DENIED_VOICE = "DENIED_VOICE"
    DENIED_SPOOF = "DENIED_SPOOF"
    DENIED_REPLAY = "DENIED_REPLAY"
    DENIED_EXPIRED = "DENIED_EXPIRED"
    DENIED_QUALITY = "DENIED_QUALITY"
    DENIED_SCHEDULE = "DENIED_SCHEDULE"
    DENIED_RULE = "DENIED_RULE"
    DENIED_UNKNOWN = "DENIED_UNKNOWN"
    DENIED_FAULT = "DENIED_FAULT"
    STEP_UP = "STEP_UP"
    AWAITING_SECOND_PERSON = "AWAITING_SECOND_PERSON"
    LOCKOUT_MAX_ATTEMPTS = "LOCKOUT_MAX_ATTEMPTS"
    PASSBACK_DETECTED = "PASSBACK_DETECTED"
    LOCK_DOWN = "LOCK_DOWN"
    DURESS = "DURESS"
    EMERGENCY_RELEASE = "EMERGENCY_RELEASE"
    DOOR_FORCED_OPEN = "DOOR_FORCED_OPEN"
    DOOR_OPEN_TOO_LONG = "DOOR_OPEN_TOO_LONG"
    TAMPER = "TAMPER"


OPENING = frozenset({Outcome.GRANTED, Outcome.DURESS, Outcome.EMERGENCY_RELEASE})


class Factor(StrEnum):
    """What a door can ask for."""

    CLAIM = "claim"
    PHRASE = "phrase"
    VOICE = "voice"
    LIVE = "live"


DEFAULT_FACTORS = frozenset(Factor)


class Reason(StrEnum):
    """Closed codes for the audit log; the sentence beside them is for people."""

    ALL_FACTORS_PASSED = "all_factors_passed"
    NOT_LIVE = "not_live"
    HEARD_BEFORE = "heard_before"
    VOICE_CHANGES = "voice_changes"
    PASTED = "pasted"
    UNKNOWN_CONDITION = "unknown_condition"
    OTHER_VOICE = "other_voice"
    WRONG_WORDS = "wrong_words"
    WEAK_SCORE = "weak_score"
    KNOWN_ATTACK = "known_attack"
    NOT_ENROLLED = "not_enrolled"
    NO_CLAIM = "no_claim"
    BADGE_UNREADABLE = "badge_unreadable"
    NO_EVIDENCE = "no_evidence"
    INVALID_EVIDENCE = "invalid_evidence"
    EMPTY_RULE = "empty_rule"
    CHECK_FAILED = "check_failed"
    INTERNAL_FAULT = "internal_fault"
    HISTORY_FAULT = "history_fault"
    LOG_FAULT = "log_fault"
    CLOCK_BEHIND = "clock_behind"
    TOO_LITTLE_SPEECH = "too_little_speech"
    TOO_NOISY = "too_noisy"
    DISTURBED = "disturbed"
    WHISPERED = "whispered"
    TOO_EARLY = "too_early"
    CLIPPED = "clipped"
    NARROW_BAND = "narrow_band"
    SOUND_LOST = "sound_lost"
    UNUSABLE_AUDIO = "unusable_audio"
    CHALLENGE_UNKNOWN = "challenge_unknown"
    CHALLENGE_USED = "challenge_used"
    CHALLENGE_FORGED = "challenge_forged"
    CHALLENGE_EXPIRED = "challenge_expired"
    CHALLENGE_BEFORE_RESTART = "challenge_before_restart"
    CHALLENGE_OTHER_DOOR = "challenge_other_door"
    CHALLENGE_OTHER_PERSON = "challenge_other_person"
    MUST_WAIT = "must_wait"
    DISABLED_AFTER_FAILURES = "disabled_after_failures"
    NO_SUCH_DOOR = "no_such_door"
    NO_SUCH_PERSON = "no_such_person"
    PERSON_DISABLED = "person_disabled"
    VISIT_ENDED = "visit_ended"
    VISIT_NOT_BEGUN = "visit_not_begun"
    OUTSIDE_SCHEDULE = "outside_schedule"
    NOT_ALLOWED = "not_allowed"
    ALREADY_INSIDE = "already_inside"
    LOCKED_DOWN = "locked_down"
    FIRE_INPUT = "fire_input"
    DURESS_WORD = "duress_word"
    SECOND_PERSON_NEEDED = "second_person_needed"
    SAME_PERSON_TWICE = "same_person_twice"
    SAME_VOICE_TWICE = "same_voice_twice"


class Notice(StrEnum):
    """What the person at the door is told; `device/feedback` has the words for each, in several languages."""

    WELCOME = "welcome"
    REFUSED = "refused"
    ALL_WORDS = "all_words"
    COME_CLOSER = "come_closer"
    STEP_BACK = "step_back"
    TOO_NOISY = "too_noisy"
    NOISE_OVER_WORDS = "noise_over_words"
    SPEAK_ALOUD = "speak_aloud"
    AFTER_TONE = "after_tone"
    PART_LOST = "part_lost"
    TOO_LATE = "too_late"
    ONE_MORE = "one_more"
    SECOND_PERSON = "second_person"
    SAY_NUMBER = "say_number"
    WAIT = "wait"
    SEE_ADMIN = "see_admin"
    NOT_NOW = "not_now"
    NOT_HERE = "not_here"
    LOCKED_DOWN = "locked_down"
    EMERGENCY = "emergency"
    CLOSE_DOOR = "close_door"
    CARD_UNREADABLE = "card_unreadable"
    ENROL_AGAIN = "enrol_again"
    OUT_OF_SERVICE = "out_of_service"


@dataclass(frozen=True, slots=True)
class Finding:
    """One factor's score against its threshold."""

    factor: Factor
    llr: float
    threshold_llr: float
    part: str = ""
    """For `live`: which evidence of the context this is; empty for the factor's own score."""
    before_llr: float = 0.0
    """The part of `llr` that the phrase before brought, which fell short by its words alone."""

    @property
    def name(self) -> str:
        return self.part or str(self.factor)

    @property
    def passed(self) -> bool:
        return self.llr >= self.threshold_llr  # False for NaN


@dataclass(frozen=True, slots=True)
class Decision:
    """What was concluded, why (a code for audit, a sentence for people) and what the door says."""

    outcome: Outcome
    code: Reason
    reason: str
    notice: Notice
    findings: tuple[Finding, ...] = ()
    person: str | None = None
    door: str = ""
    challenge: str = ""
    """Identifier of the challenge that was answered."""
    silent_alarm: bool = False
    wait_s: float = 0.0
    unlock_s: float | None = None
    """How long the strike stays released for this person; None is the door's own time."""
    enrol_again: bool = False
    """Whether a person who is in is also asked to enrol again: their voice was refused often of late."""

    @property
    def opens(self) -> bool:
        return self.outcome in OPENING

    @property
    def counts_as_failure(self) -> bool:
        """Whether an attempt limit counts it: speech was judged, and a factor the person controls failed."""
        failed = self.outcome in _FAILURES and self.code is not Reason.KNOWN_ATTACK
        return failed or self.code in _COUNTED

    @property
    def excused(self) -> bool:
        """Whether it counts as no failure although the speech fell short. Only so often is that granted: an
        attacker could disturb every attempt."""
        return self.code in _EXCUSED


_COUNTED = frozenset({Reason.HEARD_BEFORE, Reason.UNKNOWN_CONDITION})
"""A playback is an attack; and asking again without counting would let somebody search for a blind spot."""

_EXCUSED = frozenset({Reason.DISTURBED, Reason.TOO_EARLY, Reason.WHISPERED})

_FAILURES = frozenset(
    {
        Outcome.DENIED_PHRASE,
        Outcome.DENIED_VOICE,
        Outcome.DENIED_SPOOF,
        Outcome.DENIED_UNKNOWN,
        Outcome.STEP_UP,
    }
)


def poor_audio(code: Reason, detail: str, notice: Notice = Notice.COME_CLOSER) -> Decision:
    """The refusal for speech that nobody could judge; it counts as no failure."""
    return Decision(Outcome.DENIED_QUALITY, code, f"the speech cannot be judged: {detail}", notice)


def fault(code: Reason, reason: str) -> Decision:
    """The refusal when something in the unit is wrong: locked, and out of service until it is mended."""
    return Decision(Outcome.DENIED_FAULT, code, reason, Notice.OUT_OF_SERVICE)


class RefusalError(DeviceError):
    """A check other than the judge refused; `decision` is what that means."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


def refusal_for(error: BaseException) -> Decision:
    """The denial that an exception stands for. Whatever went wrong, the answer is never an open door."""
    if isinstance(error, RefusalError):
        return error.decision
    if isinstance(error, QualityError):
        code, notice = _QUALITY.get(error.code, (Reason.UNUSABLE_AUDIO, Notice.COME_CLOSER))
        return Decision(Outcome.DENIED_QUALITY, code, str(error), notice)
    if isinstance(error, DeviceError):  # our own messages hold nothing that was heard
        return fault(
            Reason.CHECK_FAILED, f"the attempt could not be judged: {' '.join(str(error).split())[:200]}"
        )
    if isinstance(error, OSError):
        return fault(Reason.INTERNAL_FAULT, f"the attempt could not be judged: {what_and_why(error)}")
    return fault(Reason.INTERNAL_FAULT, f"the attempt could not be judged ({type(error).__name__})")


_QUALITY = {
    Flaw.SILENCE: (Reason.TOO_LITTLE_SPEECH, Notice.COME_CLOSER),
    Flaw.TOO_SHORT: (Reason.TOO_LITTLE_SPEECH, Notice.ALL_WORDS),
    Flaw.CLIPPED: (Reason.CLIPPED, Notice.STEP_BACK),
    Flaw.GAP: (Reason.SOUND_LOST, Notice.PART_LOST),
    Flaw.TOO_NOISY: (Reason.TOO_NOISY, Notice.TOO_NOISY),
    Flaw.WHISPERED: (Reason.WHISPERED, Notice.SPEAK_ALOUD),
    Flaw.TOO_EARLY: (Reason.TOO_EARLY, Notice.AFTER_TONE),
}
