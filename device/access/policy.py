"""Turns evidence into a decision: every required factor must pass, and any doubt is a refusal.

The *log* names the gravest failure first (not live, another voice, wrong words). The *person at the door* is
told only how the speech was picked up, or that words were missing: a failed voice check and a failed live
check look the same, so nobody can tune an attack against one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from device.access.decision import (
    DEFAULT_FACTORS,
    Decision,
    Factor,
    Finding,
    Notice,
    Outcome,
    Reason,
    fault,
    poor_audio,
)
from device.audio.utterance import Quality
from device.evidence.judge import Evidence
from device.liveness.condition import Blindness, Conditions, blindness

WARNED_LLR = 1.0
"""A door must be so much surer that what resembles a known attack is live; it also asks for one more
phrase. A threat list can do no more: it names nobody, and grants and denies nothing."""
COVERING_LINES = 6
"""So many exact pitches cover speech, which itself has none, or one where a lamp hums."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Lowest accepted log-likelihood ratios (natural log, calibrated).

    The Bayes threshold is ln(cost of a wrong opening / cost of a wrong refusal * odds against the person).
    The defaults take one impostor in 100 badge swipes and costs of 2,000 to 1 (voice), one wrong phrase in
    100 and 750 (phrase), one presentation attack in 1,000 and 1,000 (live).
    """

    phrase_llr: float = 2.0
    voice_llr: float = 3.0
    live_llr: float = 0.0
    step_up_margin_llr: float = 0.0
    """Scores that miss by no more than this ask for one more phrase; 0 never does."""
    live_point: str = ""
    """An operating point of the detector, such as `bpcer_3`, in place of `live_llr`."""
    reuse_llr: float | None = 0.5
    """Below this it was heard before: a needless second phrase costs less than an opening. For this and
    the next two, None records the score and does not ask."""
    consistency_llr: float | None = None
    joins_llr: float | None = -2.2
    """Below this it was pasted together from pieces; set where one person in a hundred is refused for it."""
    joins_doubt_llr: float = 2.7
    """Where one more phrase may be asked, it is asked up to so far above `joins_llr`. 0 doubts nobody."""

    def __post_init__(self) -> None:
        asked = (self.reuse_llr, self.consistency_llr, self.joins_llr)
        always = (self.phrase_llr, self.voice_llr, self.live_llr, self.step_up_margin_llr)
        values = (*always, *(value for value in asked if value is not None))
        margins = (self.step_up_margin_llr, self.joins_doubt_llr)
        if not all(math.isfinite(value) for value in (*values, *margins)) or min(margins) < 0:
            raise ValueError("thresholds must be finite numbers, and margins not below zero")

    def beside(self, name: str) -> float | None:
        """What one of the context's LLRs needs where no second phrase is to be asked; None where it is
        recorded and not asked."""
        llr: float | None = getattr(self, name)
        if name == "joins_llr" and llr is not None and self.step_up_margin_llr:
            return llr + self.joins_doubt_llr
        return llr


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Outside these the checks would guess, so the person is asked again and no failure is counted."""

    min_speech_s: float = 0.5
    min_snr_db: float = 3.0
    max_clipped_fraction: float = 0.05
    min_bandwidth_hz: float = 0.0


def decide(
    evidence: Evidence | None,
    thresholds: Thresholds | None = None,
    *,
    required: frozenset[Factor] = DEFAULT_FACTORS,
    claimed: bool = True,
    before_llr: float | None = None,
    quality: QualityLimits | None = None,
) -> Decision:
    """Whether the evidence satisfies every required factor. Pure; refuses bad evidence and never raises.

    `claimed`: a person was named. `before_llr`: None for a first phrase; for the second what the words of the
    first add to it (`counts_on`), while voice and liveness must pass on their own. Order: missing or invalid
    evidence, usable speech, claim and enrolment, heard before, conditions that the detector knows, then live,
    voice, phrase.
    """
    limits = thresholds or Thresholds()
    if not required or required == {Factor.CLAIM}:
        return fault(
            Reason.EMPTY_RULE, "the door's rule asks for nothing that can be checked, so it stays locked"
        )
    if evidence is None:
        return fault(Reason.NO_EVIDENCE, "there is no evidence to decide on")
    if (unusable := _unusable(evidence.quality, quality or QualityLimits())) is not None:
        return unusable
    if Factor.CLAIM in required and not claimed:
        return _refuse(Outcome.DENIED_UNKNOWN, Reason.NO_CLAIM, "nobody was claimed; show a badge first")
    if Factor.VOICE in required and evidence.speaker_llr is None:
        return _refuse(
            Outcome.DENIED_UNKNOWN, Reason.NOT_ENROLLED, "no voiceprint of this person on this unit"
        )
    if limits.live_point and limits.live_point not in evidence.operating_points:
        return fault(
            Reason.CHECK_FAILED, f"the detector has no operating point {limits.live_point}; mend the rules"
        )
    findings = _findings(evidence, limits, required, before_llr)
    scores = (evidence.phrase_llr, evidence.spoof_llr, *(finding.llr for finding in findings))
    if not all(math.isfinite(score) for score in scores):  # a sick model, even one this rule does not ask
        return fault(Reason.INVALID_EVIDENCE, "a check returned something that is not a number")
    short = [finding for finding in findings if not finding.passed]
    failed = [finding for finding in short if not _in_doubt(finding, limits)]
    warned = evidence.threat is not None and Factor.LIVE in required
    reused = bool(failed) and failed[0].part == "reuse_llr"
    blind = blindness(evidence.quality, Conditions()) if Factor.LIVE in required else None
    if blind is not None:  # then what the detector says is a guess, for and against
        failed = [f for f in failed if f.factor is not Factor.LIVE or f.part == "reuse_llr"]
        if not failed and blind[0] is Blindness.NARROW_BAND and (over := _lay_over(evidence)):
            return _disturbed(over, findings)  # it is what fills the upper band
        if not failed:
            return Decision(
                Outcome.DENIED_QUALITY,
                Reason.UNKNOWN_CONDITION,
                f"nobody could tell whether this was live: {blind[1]}",
                _BLIND[blind[0]],
                findings,
            )
    if warned and before_llr is None and all(_only_stricter(finding) for finding in failed):
        reason = "every factor passed, but it resembles a known attack; one more phrase is asked"
        return Decision(Outcome.STEP_UP, Reason.KNOWN_ATTACK, reason, Notice.ONE_MORE, findings)
    if failed and not reused and evidence.quality.whispered_s >= (quality or QualityLimits()).min_speech_s:
        # Creaky voices measure alike and pass: only who falls short is taken for a whisperer.
        return Decision(
            Outcome.DENIED_QUALITY,
            Reason.WHISPERED,
            "hardly any of it has a voice's pitch, so it cannot be judged",
            Notice.SPEAK_ALOUD,
            findings,
        )
    covered = _covered(evidence, failed)
    if covered and not reused and all(f.factor is not Factor.VOICE for f in failed):
        return _disturbed(covered, findings)
    if not short:
        return Decision(
            Outcome.GRANTED,
            Reason.ALL_FACTORS_PASSED,
            "every required factor passed",
            Notice.WELCOME,
            findings,
        )
    margin = limits.step_up_margin_llr
    if (
        margin
        and before_llr is None
        and blind is None
        and not reused
        and all(f.part != "joins_llr" and f.llr >= f.threshold_llr - margin for f in failed)
    ):
        names = " and ".join(dict.fromkeys(_NAMES[finding.factor] for finding in short))
        reason = f"{names} just short of the threshold; one more phrase is asked"
        return Decision(Outcome.STEP_UP, Reason.WEAK_SCORE, reason, Notice.ONE_MORE, findings)
    gravest = failed[0]
    outcome, code, complaint = _DENIALS[gravest.name]
    needed_llr = limits.joins_llr if gravest.part == "joins_llr" else gravest.threshold_llr
    reason = f"{complaint} (LLR {gravest.llr:+.1f}, {needed_llr:+.1f} needed)"
    wrong_words = any(finding.factor is Factor.PHRASE for finding in failed)
    # The same whichever of voice and liveness failed: the door does not tell which.
    unclear = covered or (_lay_over(evidence) and any(f.factor is Factor.VOICE for f in failed))
    notice = Notice.NOISE_OVER_WORDS if unclear and not reused else None
    return Decision(
        outcome, code, reason, notice or (Notice.ALL_WORDS if wrong_words else Notice.REFUSED), findings
    )


def _in_doubt(finding: Finding, limits: Thresholds) -> bool:
    """Whether a finding only asks for one more phrase: it refuses nobody, and names no attack."""
    return finding.part == "joins_llr" and finding.llr >= (limits.joins_llr or 0.0)


def _disturbed(over: str, findings: tuple[Finding, ...]) -> Decision:
    return Decision(
        Outcome.DENIED_QUALITY,
        Reason.DISTURBED,
        f"{over} lay over the speech, so it cannot be judged",
        Notice.NOISE_OVER_WORDS,
        findings,
    )


def _covered(evidence: Evidence, failed: Sequence[Finding]) -> str:
    """What lay over the speech and made it fall short; empty where nothing did. Tones and clicks cover no
    words, but the live check mistakes them for a synthesiser's frame rate; a cough may cover some, and the
    evidence for joins mistakes it for a piece that was pasted."""
    live = [finding for finding in failed if finding.factor is Factor.LIVE]
    if not live:
        return "a cough" if failed and evidence.coughs else ""
    if over := _lay_over(evidence):
        return over
    without = {"": evidence.unclicked_llr, "joins_llr": evidence.context.uncoughed_llr}
    for finding in live:
        llr = without.get(finding.part)
        if llr is None or not llr >= finding.threshold_llr:
            return ""
    return "clicks" if not live[0].part else "a cough"


def _lay_over(evidence: Evidence) -> str:
    """What lay over the speech whatever it did to the scores; empty where nothing did."""
    if evidence.quality.steady_lines >= COVERING_LINES:
        return f"a sound of {evidence.quality.steady_lines} exact pitches"
    return "something in the place of lost blocks" if evidence.quality.filled else ""


_DENIALS = {
    "reuse_llr": (
        Outcome.DENIED_REPLAY,
        Reason.HEARD_BEFORE,
        "this very recording was heard here before",
    ),
    "live": (Outcome.DENIED_SPOOF, Reason.NOT_LIVE, "this did not sound like a live human"),
    "consistency_llr": (Outcome.DENIED_SPOOF, Reason.VOICE_CHANGES, "the voice changed on the way"),
    "joins_llr": (Outcome.DENIED_SPOOF, Reason.PASTED, "this was pasted together from pieces of recordings"),
    "voice": (Outcome.DENIED_VOICE, Reason.OTHER_VOICE, "the voice is not that of the person claimed"),
    "phrase": (Outcome.DENIED_PHRASE, Reason.WRONG_WORDS, "the words were not those on the display"),
}
_BLIND = {
    Blindness.TOO_SHORT: Notice.ALL_WORDS,
    Blindness.TOO_NOISY: Notice.COME_CLOSER,
    Blindness.NARROW_BAND: Notice.COME_CLOSER,
}
_NAMES = {Factor.LIVE: "liveness", Factor.VOICE: "the voice", Factor.PHRASE: "the phrase"}


def counts_on(asked: Decision) -> float:
    """What a phrase that led to one more adds to it: the LLR of its words if nothing else fell short.

    Each phrase is fresh, so the sum is Wald's sequential test: with calibrated LLRs, somebody who does not
    say the phrases passes at T with a chance of exp(-T) at most over both. Where voice or liveness fell
    short, nobody knows whose words they were.
    """
    short = [finding for finding in asked.findings if not finding.passed]
    return short[0].llr if [finding.factor for finding in short] == [Factor.PHRASE] else 0.0


def _only_stricter(finding: Finding) -> bool:
    """Whether this would have passed had the unit not been warned."""
    live = finding.factor is Factor.LIVE and not finding.part
    return live and finding.llr >= finding.threshold_llr - WARNED_LLR


def _findings(
    evidence: Evidence, limits: Thresholds, required: frozenset[Factor], before_llr: float | None
) -> tuple[Finding, ...]:
    """Gravest first: this order is the log's precedence."""
    voice_llr = math.nan if evidence.speaker_llr is None else evidence.speaker_llr
    live_llr = evidence.operating_points.get(limits.live_point, limits.live_llr)
    live_llr += WARNED_LLR if evidence.threat is not None else 0.0
    context = evidence.context.scores()
    asked = {name: limits.beside(name) for name in context}
    if before_llr is not None:  # it was asked once more, and is doubted no longer
        asked["joins_llr"] = limits.joins_llr
    words_before_llr = before_llr or 0.0
    parts = [
        Finding(Factor.LIVE, llr, needed, name)
        for name, llr in context.items()
        if llr is not None and (needed := asked[name]) is not None
    ]
    every = (
        *(part for part in parts if part.part == "reuse_llr"),
        Finding(Factor.LIVE, evidence.spoof_llr, live_llr),
        *(part for part in parts if part.part != "reuse_llr"),
        Finding(Factor.VOICE, voice_llr, limits.voice_llr),
        Finding(
            Factor.PHRASE,
            evidence.phrase_llr + words_before_llr,
            limits.phrase_llr,
            before_llr=words_before_llr,
        ),
    )
    return tuple(finding for finding in every if finding.factor in required)


def _unusable(quality: Quality, limits: QualityLimits) -> Decision | None:
    """The refusal for speech that cannot be judged, or None. NaN refuses: comparisons with it are false."""
    if not quality.speech_s >= limits.min_speech_s:
        return poor_audio(
            Reason.TOO_LITTLE_SPEECH, f"only {quality.speech_s:.1f} s of speech", Notice.ALL_WORDS
        )
    if not quality.clipped_fraction <= limits.max_clipped_fraction:
        return poor_audio(
            Reason.CLIPPED, f"{quality.clipped_fraction:.0%} of it is clipped", Notice.STEP_BACK
        )
    if not quality.snr_db >= limits.min_snr_db:
        return poor_audio(
            Reason.TOO_NOISY, f"only {quality.snr_db:.0f} dB above the noise", Notice.COME_CLOSER
        )
    if not quality.bandwidth_hz >= limits.min_bandwidth_hz:
        return poor_audio(
            Reason.NARROW_BAND, f"nothing above {quality.bandwidth_hz:.0f} Hz", Notice.COME_CLOSER
        )
    return None


def _refuse(outcome: Outcome, code: Reason, reason: str) -> Decision:
    return Decision(outcome, code, reason, Notice.REFUSED)
