"""From a decision to the audit event that must be on the disk before the strike moves."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass

from device.access.decision import Decision
from device.clock import Now
from device.evidence.judge import Evidence
from sync.events import AuditEvent, EventTimings, pseudonym


@dataclass(frozen=True, slots=True)
class Witness:
    """What every event of this run of the unit has in common."""

    boot: int
    started_s: float
    """Monotonic, when this run began."""
    pseudonym_key: bytes
    keystore: str
    policy: str

    def __repr__(self) -> str:
        return f"Witness(boot={self.boot}, keystore={self.keystore!r})"

    def of(self, decision: Decision, evidence: Evidence | None, now: Now) -> AuditEvent:
        """The event of `decision`. It holds no free text: codes, scores, versions and a pseudonym."""
        return AuditEvent(
            event_id=uuid.uuid4(),
            time_ms=int(now.wall.timestamp() * 1000),
            boot=self.boot,
            monotonic_ms=max(0, int((now.monotonic_s - self.started_s) * 1000)),
            door=decision.door,
            kind=str(decision.outcome),
            reason=str(decision.code),
            attempt=uuid.uuid4(),
            person=pseudonym(self.pseudonym_key, decision.person) if decision.person else None,
            phrase_llr=None if evidence is None else _finite(evidence.phrase_llr),
            speaker_llr=None if evidence is None else _finite(evidence.speaker_llr),
            spoof_llr=None if evidence is None else _finite(evidence.spoof_llr),
            models=() if evidence is None else evidence.model_versions,
            policy=self.policy,
            timings=None if evidence is None else _timings(evidence),
            keystore=self.keystore,
            silent_alarm=decision.silent_alarm,
            more_scores=() if evidence is None else _more(evidence, decision),
        )

    def note(self, kind: str, reason: str, door: str, now: Now) -> AuditEvent:
        """The event of something that is no attempt, in words of `sync/vocabulary.py`."""
        return AuditEvent(
            event_id=uuid.uuid4(),
            time_ms=int(now.wall.timestamp() * 1000),
            boot=self.boot,
            monotonic_ms=max(0, int((now.monotonic_s - self.started_s) * 1000)),
            door=door,
            kind=kind,
            reason=reason,
            policy=self.policy,
            keystore=self.keystore,
        )


def _more(evidence: Evidence, decision: Decision) -> tuple[tuple[str, float], ...]:
    """What else was found, by the names of the event's vocabulary: scores and measures, nothing personal."""
    before_llr = sum(finding.before_llr for finding in decision.findings)
    found = {
        **({"phrase_before_llr": before_llr} if before_llr else {}),
        **evidence.live_kinds,
        **evidence.side.scores(),
        **(evidence.side.reuse() if evidence.side.reuse_llr is not None else {}),
        "snr_db": evidence.quality.snr_db,
        "speech_s": evidence.quality.speech_s,
    }
    finite = {name: _finite(value) for name, value in found.items()}
    return tuple(sorted((name, round(value, 3)) for name, value in finite.items() if value is not None))


def _finite(llr: float | None) -> float | None:
    """A score that is no number is refused by the policy; its event must still be written."""
    return float(llr) if llr is not None and math.isfinite(llr) else None


def _timings(evidence: Evidence) -> EventTimings:
    timings = evidence.timings
    return EventTimings(
        words_ms=round(timings.words_ms),
        speaker_ms=round(timings.speaker_ms),
        spoof_ms=round(timings.spoof_ms),
        total_ms=round(timings.total_ms),
    )
