"""Decisions, evidence and people as JSON types, for command lines and the facade."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime
from typing import Any

from device.access.decision import Decision
from device.evidence.judge import Evidence
from device.secure_store import DeletionReceipt
from device.secure_store.voiceprints.vault import Enrolled


def report(decision: Decision, evidence: Evidence | None) -> dict[str, Any]:
    """A decision and its evidence as JSON types. Numbers that are not finite become null."""
    return {
        "decision": str(decision.outcome),
        "opens": decision.opens,
        "code": str(decision.code),
        "reason": decision.reason,
        "door": decision.door,
        "claim": decision.person,
        "identified": None if evidence is None else _identified(evidence),
        "thresholds": {f.name: _number(f.threshold_llr) for f in decision.findings},
        "evidence": None if evidence is None else evidence_report(evidence),
    }


def evidence_report(evidence: Evidence) -> dict[str, Any]:
    """Evidence as JSON types."""
    return {
        "phrase_llr": _number(evidence.phrase_llr),
        "speaker_llr": _number(evidence.speaker_llr),
        "spoof_llr": _number(evidence.spoof_llr),
        "transcript": evidence.transcript,
        "quality": {name: _number(value) for name, value in asdict(evidence.quality).items()},
        "timings": {name: round(value, 2) for name, value in asdict(evidence.timings).items()},
        "model_versions": list(evidence.model_versions),
        "context": {name: _number(llr) for name, llr in evidence.context.scores().items()},
    }


def enrolled_report(one: Enrolled, now: datetime) -> dict[str, Any]:
    """Somebody in the vault as JSON types."""
    return {
        "uid": one.uid,
        "record": str(one.record_id),
        "until": one.consent.retain_until.isoformat(),
        "ended": one.consent.expired(now),
    }


def forgotten_report(receipt: DeletionReceipt) -> dict[str, Any]:
    """A deletion receipt as JSON types."""
    return {
        "record": str(receipt.record_id),
        "forgotten_at": receipt.forgotten_at.isoformat(),
        "receipt": receipt.to_bytes().hex(),
    }


def _identified(evidence: Evidence) -> dict[str, Any] | None:
    """Who was found where nobody was claimed, whether or not it was enough."""
    found = evidence.identified
    if found is None:
        return None
    runner_up_llr = _number(found.runner_up_llr)
    return {"uid": found.uid, "llr": _number(found.llr), "runner_up_llr": runner_up_llr, "among": found.among}


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)
