"""Why a decision fell as it did, in one paragraph, from the audit event and the rules of that time. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from device.access.decision import OPENING, Factor, Outcome, Reason
from device.access.memory.remembered import AttemptLimits
from device.access.rules.model import Door, RiskClass, Rules
from device.liveness.evidence import NAMES as BESIDE
from sync.events import AuditEvent

_SAID = {
    Reason.ALL_FACTORS_PASSED: "because every factor that the rules ask for here passed",
    Reason.NOT_LIVE: "because the speech did not sound like a live human: a recording or a synthetic voice",
    Reason.HEARD_BEFORE: "because the unit had heard this very recording before: a playback",
    Reason.VOICE_CHANGES: "because the voice changed on the way, as where recordings are joined",
    Reason.PASTED: "because it was pasted together from pieces of other recordings",
    Reason.UNKNOWN_CONDITION: "because the sound was such that no detector could tell whether it was live",
    Reason.OTHER_VOICE: "because the voice did not match the person claimed",
    Reason.WRONG_WORDS: "because the words were not those on the display",
    Reason.KNOWN_ATTACK: "because it resembled a known attack; one more phrase was asked",
    Reason.WEAK_SCORE: "because a score fell just short; one more phrase was asked instead of guessing",
    Reason.NOT_ENROLLED: "because the person claimed has no usable voiceprint on this unit",
    Reason.BADGE_UNREADABLE: "because the reader sent something that is no badge number",
    Reason.NO_CLAIM: "because nobody was claimed, or two voices fitted about equally well",
    Reason.NO_EVIDENCE: "because there was no evidence to decide on",
    Reason.INVALID_EVIDENCE: "because a check returned what is not a number, which counts as a fault",
    Reason.EMPTY_RULE: "because the rules ask for nothing that can be checked here, which never opens",
    Reason.CHECK_FAILED: "because one of the checks could not be made; run `ostiary doctor`",
    Reason.INTERNAL_FAULT: "because something unexpected went wrong inside the unit; run `ostiary doctor`",
    Reason.HISTORY_FAULT: "because the memory of attempts could not be read or written; run `ostiary doctor`",
    Reason.CLOCK_BEHIND: "because the unit's clock lay behind a time it had seen, and hours count here",
    Reason.LOG_FAULT: "because its event could not be written down, and nothing opens without one",
    Reason.TOO_LITTLE_SPEECH: "because too little speech was heard to judge",
    Reason.TOO_NOISY: "because the voice did not stand out from the noise",
    Reason.DISTURBED: "because a noise, a cough, clicks or a tone lay over the speech, which was asked again",
    Reason.WHISPERED: "because it was whispered, and a whisper holds no voice to judge",
    Reason.TOO_EARLY: "because speech began before the door's tone was over and its first words were missing",
    Reason.CLIPPED: "because the microphone was overdriven",
    Reason.NARROW_BAND: "because the sound lacked the upper half of a voice, as through a telephone",
    Reason.SOUND_LOST: "because parts of the sound were lost between microphone and unit",
    Reason.UNUSABLE_AUDIO: "because the recording could not be used",
    Reason.CHALLENGE_UNKNOWN: "because no such phrase was shown",
    Reason.CHALLENGE_USED: "because the phrase had been used or withdrawn before; each is good once",
    Reason.CHALLENGE_FORGED: "because the phrase was not issued by this unit",
    Reason.CHALLENGE_EXPIRED: "because speech began too late after the phrase was shown",
    Reason.CHALLENGE_BEFORE_RESTART: "because the phrase was shown before the unit restarted",
    Reason.CHALLENGE_OTHER_DOOR: "because the phrase was shown at another door",
    Reason.CHALLENGE_OTHER_PERSON: "because the phrase was shown to somebody else",
    Reason.MUST_WAIT: "because of too many failures in a row: a wait was running, and nothing was judged",
    Reason.DISABLED_AFTER_FAILURES: "because of so many failures that only an admin enables the claim again",
    Reason.NO_SUCH_DOOR: "because the rules do not know this door",
    Reason.NO_SUCH_PERSON: "because the rules do not know the person, though every factor passed",
    Reason.PERSON_DISABLED: "because the person is disabled in the rules, though every factor passed",
    Reason.VISIT_ENDED: "because the person's access had ended, though every factor passed",
    Reason.VISIT_NOT_BEGUN: "because the person's access had not begun, though every factor passed",
    Reason.OUTSIDE_SCHEDULE: "because of the hour, though every factor passed",
    Reason.NOT_ALLOWED: "because no permission covers this person at this door, though every factor passed",
    Reason.ALREADY_INSIDE: "because the person had been let into this zone moments before (anti-passback)",
    Reason.LOCKED_DOWN: "because the door was in lock-down",
    Reason.FIRE_INPUT: "because of the fire input",
    Reason.DURESS_WORD: "because every factor passed; the duress word raised a silent alarm",
    Reason.SECOND_PERSON_NEEDED: "because this door opens for two people, and this was the first",
    Reason.SAME_PERSON_TWICE: "because the second of two people must be another one",
    Reason.SAME_VOICE_TWICE: "because both of the two people had the same voice",
}


def explain(event: AuditEvent, rules: Rules | None) -> str:
    """One paragraph. Where `rules` are of another version, or missing, it shows no thresholds and says so."""
    when = datetime.fromtimestamp(event.time_ms / 1000, UTC)
    same = rules is not None and event.policy == f"rules-{rules.version}"
    zone = rules.time_zone if rules is not None else UTC
    sentences = [
        f"On {when.astimezone(zone):%a %d %b %Y at %H:%M:%S %Z}, door {event.door} {_verdict(event)}."
    ]
    door = rules.doors.get(event.door) if rules is not None and same else None
    risk = rules.risks.get(door.risk) if rules is not None and door is not None else None
    sentences += [_scores(event, risk), _sounded(event)]
    if door is not None and risk is not None:
        sentences.append(_rule(event, door, risk))
    elif rules is not None and not same:
        sentences.append(
            f"It was decided under {event.policy or 'unnamed rules'}; the file at hand is "
            f"rules-{rules.version}, so thresholds are not shown."
        )
    if event.silent_alarm:
        sentences.append("The duress word was said: a silent alarm was raised.")
    if event.models:
        sentences.append(f"Models: {', '.join(event.models)}.")
    return " ".join(sentence for sentence in sentences if sentence)


def _verdict(event: AuditEvent) -> str:
    try:
        outcome, reason = Outcome(event.kind), Reason(event.reason)
    except ValueError:
        return f"reported {event.kind} ({event.reason})"  # a door or unit event, not a decision
    opened = "opened" if outcome in OPENING else "stayed locked"
    return f"{opened} ({outcome}) {_SAID[reason]}"


def _scores(event: AuditEvent, risk: RiskClass | None) -> str:
    scores = (
        (Factor.LIVE, event.spoof_llr),
        (Factor.VOICE, event.speaker_llr),
        (Factor.PHRASE, event.phrase_llr),
    )
    told = [_told(event, factor, llr, risk) for factor, llr in scores if llr is not None]
    told += [_beside(name, llr, risk) for name, llr in event.more_scores if name in BESIDE]
    more = dict(event.more_scores)
    if more.get("reused_share", 0.0) > 0.0 and more.get("reuse_sources", 0.0) >= 1.0:
        told.append(f"{more['reused_share']:.0%} of it from {more['reuse_sources']:.0f} earlier attempt(s)")
    if not told:
        return "No speech was judged."
    return f"Log-likelihood ratios: {', '.join(told)}."


def _sounded(event: AuditEvent) -> str:
    """Which attack speech that was not live sounded like, when the event tells."""
    more = dict(event.more_scores)
    kinds = {name: more[name] for name in _SOUNDED if name in more}
    if event.reason != Reason.NOT_LIVE or not kinds:
        return ""
    worst = min(kinds, key=lambda name: kinds[name])
    rate = (
        f", {more['frame_rate_hz']:.1f} a second"
        if worst == "cadence_llr" and "frame_rate_hz" in more
        else ""
    )
    return f"It sounded most {_SOUNDED[worst]}{rate} ({kinds[worst]:+.1f})."


def _beside(name: str, llr: float, risk: RiskClass | None) -> str:
    """One piece of evidence of the context."""
    told = f"{name.removesuffix('_llr')} {llr:+.1f}"
    if risk is None:
        return told
    needed, clear = getattr(risk.thresholds, name), risk.thresholds.beside(name)
    if needed is None or clear is None or Factor.LIVE not in risk.factors:
        return f"{told} (not asked here)"
    if needed <= llr < clear and Factor.CLAIM in risk.factors:  # who was found is asked for one phrase
        return f"{told} (passed, {needed:+.1f} needed; in doubt below {clear:+.1f}, once)"
    return f"{told} ({'passed' if llr >= needed else 'failed'}, {needed:+.1f} needed)"


def _told(event: AuditEvent, factor: Factor, llr: float, risk: RiskClass | None) -> str:
    if risk is None:
        return f"{factor} {llr:+.1f}"
    if factor not in risk.factors:
        return f"{factor} {llr:+.1f} (not asked here)"
    if factor is Factor.LIVE and risk.thresholds.live_point:
        return f"{factor} {llr:+.1f} (the detector's operating point {risk.thresholds.live_point} needed)"
    needed = getattr(risk.thresholds, f"{factor}_llr")
    before_llr, aside = 0.0, ""
    if factor is Factor.PHRASE and (before_llr := dict(event.more_scores).get("phrase_before_llr", 0.0)):
        aside = f" with {before_llr:+.1f} of the phrase before"  # the words of two fresh phrases add up
    passed, more = llr + before_llr >= needed, ""
    verdict = f"passed{aside}, " if passed else f"failed{aside}, "
    if factor is Factor.VOICE and Factor.CLAIM not in risk.factors:
        # Without a claim the threshold rises with the number of people searched, which no event holds.
        more = ", and ln N more without a claim among N people,"
        if passed:
            verdict = _VOICE_VERDICTS.get(event.reason, verdict)
    if factor is Factor.PHRASE and not passed and event.silent_alarm:
        alike = event.reason == Reason.NO_CLAIM and Factor.CLAIM not in risk.factors  # two voices fitted
        if alike or event.reason in _EVERY_FACTOR_PASSED:
            more = "; passed, as the words of the phrase stood in the transcript beside the duress word"
        elif event.reason != Reason.WRONG_WORDS:
            more = "; not held against the person if the duress word beside it was all that was wrong"
        if more:
            return f"{factor} {llr:+.1f} ({needed:+.1f} needed{more})"
    return f"{factor} {llr:+.1f} ({verdict}{needed:+.1f}{more} needed)"


_SOUNDED = {
    "synthetic_llr": "like synthesis that the detector was taught",
    "envelopes_llr": "like a classical synthesiser or vocoder",
    "cadence_llr": "like a machine that makes speech in frames, or a beep beside the speaker",
    "loudspeaker_llr": "like a loudspeaker",
}
_VOICE_VERDICTS: dict[str, str] = {Reason.OTHER_VOICE: "failed, ", Reason.NOT_LIVE: ""}
_EVERY_FACTOR_PASSED = frozenset(
    {
        Reason.ALL_FACTORS_PASSED,
        Reason.DURESS_WORD,
        Reason.SECOND_PERSON_NEEDED,
        Reason.SAME_PERSON_TWICE,
        Reason.SAME_VOICE_TWICE,
        Reason.ALREADY_INSIDE,
        Reason.NOT_ALLOWED,
        Reason.NO_SUCH_PERSON,
        Reason.PERSON_DISABLED,
        Reason.OUTSIDE_SCHEDULE,
        Reason.VISIT_ENDED,
        Reason.VISIT_NOT_BEGUN,
    }
)
"""Reasons that are only given to somebody whose every factor passed."""


def _rule(event: AuditEvent, door: Door, risk: RiskClass) -> str:
    factors = ", ".join(sorted(risk.factors))
    parts = [f"Door {door.name} is of risk class {risk.name} and asks for {factors}"]
    if event.reason == Reason.ALREADY_INSIDE and door.anti_passback_s is not None:
        parts.append(
            f"the same person may enter again after {door.anti_passback_s:.0f} s or from another zone"
        )
    if event.reason in (Reason.SECOND_PERSON_NEEDED, Reason.SAME_PERSON_TWICE, Reason.SAME_VOICE_TWICE):
        parts.append(f"two people must pass within {door.two_persons_within_s or 0:.0f} s")
    if event.reason in (Reason.MUST_WAIT, Reason.DISABLED_AFTER_FAILURES):
        parts.append(_limits(risk.attempts))
    if event.reason == Reason.CHALLENGE_EXPIRED:
        parts.append(f"speech must begin within {risk.challenge.lifetime_s:.0f} s")
    return "; ".join(parts) + "."


def _limits(limits: AttemptLimits) -> str:
    return (
        f"after {limits.free_failures} failures a wait of {limits.first_wait_s:.0f} s begins and doubles "
        f"up to {limits.longest_wait_s:.0f} s, and {limits.disable_after} failures disable the claim"
    )
