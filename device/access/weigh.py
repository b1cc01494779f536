"""Weighs evidence by a risk class: its factors and thresholds, stricter for who was found unclaimed."""

from __future__ import annotations

from dataclasses import replace

from device.access.decision import Decision, Notice, Outcome, Reason, refusal_for
from device.access.policy import decide
from device.access.rules.model import RiskClass
from device.evidence.judge import Evidence


def weigh(
    heard: Evidence | BaseException, risk: RiskClass, *, claimed: bool, before_llr: float | None = None
) -> Decision:
    """The decision by a risk class's factors on the evidence, or on what kept the judge from any. Pure. A
    person who was found and not claimed must clear a higher threshold, and lead the second."""
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
