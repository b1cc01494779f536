"""What a risk class makes of the evidence: its factors, its thresholds, a stricter one for who was found."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from device.access.decision import Decision, Notice, Outcome, Reason, refusal_for
from device.access.permissions import refusal
from device.access.policy import decide
from device.access.rules.model import RiskClass, Rules
from device.evidence.judge import Evidence


def ruled(heard: Evidence | BaseException, rules: Rules, door_name: str, uid: str, at: datetime) -> Decision:
    """What the factors and the rules of a door make of one recording. Pure: nothing is charged, and what only
    the running door knows (waits, lock-down, where people are, who came first of two) is left out.

    `uid` is empty when nobody was claimed.
    """
    door = rules.doors[door_name]
    decision = weigh(heard, rules.risks[door.risk], claimed=bool(uid))
    who = uid
    if decision.opens and isinstance(heard, Evidence) and heard.identified is not None:
        who = heard.identified.uid
    refused = refusal(rules, door, who, at) if decision.opens else None
    if refused is not None:
        decision = replace(refused, findings=decision.findings)
    return replace(decision, door=door_name, person=who or None)


def weigh(
    heard: Evidence | BaseException, risk: RiskClass, *, claimed: bool, before_llr: float | None = None
) -> Decision:
    """What the factors of a risk class make of the evidence, or of what kept the judge from any. Pure.

    `before_llr`: as for `decide`.
    A person who was found and not claimed must clear a higher threshold, and lead the second by a margin.
    """
    if isinstance(heard, BaseException):
        return refusal_for(heard)
    limits, found = risk.thresholds, None if claimed else heard.identified
    if not claimed and found is None:
        heard = replace(heard, speaker_llr=None)  # nobody was found, so no voice speaks for anybody
    if found is not None:
        higher = found.threshold_llr(limits.voice_llr)
        limits = replace(limits, voice_llr=higher, step_up_margin_llr=0.0)
    decision = decide(
        heard,
        limits,
        required=risk.factors,
        claimed=claimed,
        before_llr=before_llr,
        quality=risk.quality,
    )
    if found is None or not decision.opens:
        return decision
    if not found.llr - found.runner_up_llr >= risk.identify_margin_llr:
        return Decision(
            Outcome.DENIED_UNKNOWN,
            Reason.NO_CLAIM,
            "two enrolled voices fit about equally; show a badge",
            Notice.REFUSED,
            decision.findings,
        )
    return decision
