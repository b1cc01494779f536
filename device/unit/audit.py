"""Writes what happens at a unit into its audit log; a decision is on the disk before the strike moves."""

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
    """What every event of one process of the unit has in common."""

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
    """The one place where an event of the unit is made. Its methods raise OutboxError."""

    log: Outbox
    context: EventContext
    rules: Callable[[], Rules | None]
    """The rules that count now: they may be replaced while the unit runs. None when they cannot be read."""
    clock: Clock
    other_process: bool = False
    """Whether another process than the door's writes: the log then gives boot and monotonic time."""

    def decided(self, decision: Decision, evidence: Evidence | None = None) -> int:
        """Write the event of a decision; it is on the disk when this returns. Its number in the log.

        At a door of a risk class that says so, a full log only counts it: then the number is 0.
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

        `record` stands in place of an attempt. With `risk="low"` a full log counts the event as overflow
        instead of refusing it: what has happened already is noted so.
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
            "time_ms": int(now.wall.timestamp() * 1000),
            "boot": self.context.boot,
            "monotonic_ms": int(passed_s * 1000),
            "policy": None if rules is None else f"rules-{rules.version}",
            "keystore": self.context.keystore,
        }

    def _pseudonym(self, uid: str | None) -> uuid.UUID | None:
        return pseudonym(self.context.pseudonym_key, uid) if uid else None


def log_risk_at(rules: Rules | None, door_name: str) -> Risk:
    """Whether a full audit log keeps a door locked: always, unless its risk class says otherwise."""
    door = rules.doors.get(door_name) if rules is not None else None
    risk = rules.risks.get(door.risk) if rules is not None and door is not None else None
    return "low" if risk is not None and risk.opens_with_full_log else "high"


def _more(evidence: Evidence, decision: Decision) -> tuple[tuple[str, float], ...]:
    """What else was found, by the names of the event's vocabulary: scores and measures, nothing personal."""
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
