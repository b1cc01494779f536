"""Writes a unit's audit events; a decision is on the disk before the strike moves."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from device.access.decision import Decision
from device.access.rules import Rules
from device.clock import Clock, Now
from device.evidence.judge import Evidence
from device.secure_store import Store
from sync.events import AuditEvent, EventTimings, pseudonym
from sync.outbox import Outbox, Risk


@dataclass(frozen=True, slots=True)
class EventContext:
    """The fields that all events of one process share."""

    boot: int
    started_s: float
    """Monotonic, when this run began."""
    pseudonym_key: bytes
    keystore: str

    def __repr__(self) -> str:
        return f"EventContext(boot={self.boot}, keystore={self.keystore!r})"

    @classmethod
    def of(cls, store: Store, boot: int, now: Now) -> Self:
        return cls(boot, now.monotonic_s, store.pseudonym_key(), store.keystore.kind)


@dataclass(frozen=True, slots=True)
class AuditTrail:
    """The one place where the unit's events are made. Its methods raise OutboxError."""

    log: Outbox
    context: EventContext
    rules: Callable[[], Rules | None]
    """The rules in force now; None when they cannot be read."""
    clock: Clock
    other_process: bool = False
    """True beside the door process: the log then gives boot and monotonic time."""

    def decided(self, decision: Decision, evidence: Evidence | None = None) -> int:
        """Write the event of a decision; returns its number in the log once it is on the disk.

        Where the door's risk class opens with a full log, a full log only counts it: then the number is 0.
        """
        risk = log_risk_at(self.rules(), decision.door)
        written = self.log.append(
            self.event_of(decision, evidence), risk=risk, other_process=self.other_process
        )
        return 0 if written is None else written.sequence

    def note(
        self,
        kind: str,
        reason: str,
        door: str,
        *,
        uid: str | None = None,
        record: uuid.UUID | None = None,
        count: int | None = None,
        risk: Risk = "high",
    ) -> None:
        """Write something that is no attempt, in words of `sync/vocabulary.py`.

        `record` stands in place of an attempt. With `risk="low"`, for what has happened already, a full log
        counts the event as overflow instead of refusing it.
        """
        event = AuditEvent(
            **self._common(),
            door=door,
            kind=str(kind),
            reason=str(reason),  # a member of an enumeration is no plain text, and events take nothing else
            person=self._pseudonym(uid),
            attempt=record,
            count=count,
        )
        self.log.append(event, risk=risk, other_process=self.other_process)

    def event_of(self, decision: Decision, evidence: Evidence | None = None) -> AuditEvent:
        """The event of `decision`. It holds no free text: codes, scores, versions and a pseudonym."""
        return AuditEvent(
            **self._common(),
            door=decision.door,
            kind=str(decision.outcome),
            reason=str(decision.code),
            attempt=uuid.uuid4(),
            person=self._pseudonym(decision.person),
            phrase_llr=None if evidence is None else _finite(evidence.phrase_llr),
            speaker_llr=None if evidence is None else _finite(evidence.speaker_llr),
            spoof_llr=None if evidence is None else _finite(evidence.spoof_llr),
            models=() if evidence is None else evidence.model_versions,
            timings=None if evidence is None else _timings(evidence),
            silent_alarm=decision.silent_alarm,
            more_scores=() if evidence is None else _more(evidence, decision),
        )

    def _common(self) -> dict[str, Any]:
        now, rules = self.clock(), self.rules()
        passed_s = 0.0 if self.other_process else max(0.0, now.monotonic_s - self.context.started_s)
        return {
            "event_id": uuid.uuid4(),
            "time_ms": now.time_ms,
            "boot": self.context.boot,
            "monotonic_ms": int(passed_s * 1000),
            "policy": None if rules is None else f"rules-{rules.version}",
            "keystore": self.context.keystore,
        }

    def _pseudonym(self, uid: str | None) -> uuid.UUID | None:
        return pseudonym(self.context.pseudonym_key, uid) if uid else None


def log_risk_at(rules: Rules | None, door_name: str) -> Risk:
    """`low` where the door's risk class opens with a full audit log, `high` everywhere else."""
    risk = None if rules is None else rules.risk_at(door_name)
    return "low" if risk is not None and risk.opens_with_full_log else "high"


def _more(evidence: Evidence, decision: Decision) -> tuple[tuple[str, float], ...]:
    """Further scores and measures by their names in the vocabulary; nothing personal."""
    before_llr = sum(finding.before_llr for finding in decision.findings)
    found = {
        **({"phrase_before_llr": before_llr} if before_llr else {}),
        **evidence.live_kinds,
        **evidence.context.scores(),
        **(evidence.context.reuse() if evidence.context.reuse_llr is not None else {}),
        **(evidence.threat.scores() if evidence.threat is not None else {}),
        "snr_db": evidence.quality.snr_db,
        "speech_s": evidence.quality.speech_s,
    }
    finite = {name: _finite(value) for name, value in found.items()}
    return tuple(sorted((name, round(value, 3)) for name, value in finite.items() if value is not None))


def _finite(llr: float | None) -> float | None:
    """None for a score that is no number: the policy refuses it, and its event must still be written."""
    return float(llr) if llr is not None and math.isfinite(llr) else None


def _timings(evidence: Evidence) -> EventTimings:
    timings = evidence.timings
    return EventTimings(
        words_ms=round(timings.words_ms),
        speaker_ms=round(timings.speaker_ms),
        spoof_ms=round(timings.spoof_ms),
        total_ms=round(timings.total_ms),
    )
