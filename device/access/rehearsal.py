"""Says what the door would decide now on this evidence, from another process: charges and writes nothing.

It reads what the door process last wrote, and decides by the door's own path (`passage.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from device.access.controller import subject_of, unlock_s
from device.access.decision import Decision, Reason, RefusalError, fault, refusal_for
from device.access.memory.history import HistoryError, present_boot
from device.access.memory.remembered import AttemptLimits, Remembered, Standing
from device.access.orders import rule_of
from device.access.passage import Known, before_hearing, conclude
from device.access.rules import Rules
from device.clock import Now
from device.evidence.judge import Evidence
from device.evidence.vocabulary import Language
from device.secure_store.signing import Mac


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The door's knowledge without the door. `recall` reads the history; raises HistoryError."""

    rules: Rules
    recall: Callable[[], Remembered]
    mac: Mac
    enrolled: Callable[[str], bool]
    same_voice_llr: Callable[[str, str], float] | None = None
    pseudonym: Callable[[str], str] = lambda uid: ""

    def decide(
        self,
        door: str,
        uid: str,
        heard: Evidence | BaseException,
        phrase: str,
        now: Now,
        before_llr: float | None = None,
        language: Language = Language.ENGLISH,
    ) -> Decision:
        """The decision on an answer to `phrase`, said in `language`. Whatever is raised inside is a denial,
        as at the door. `before_llr`: as for `policy.decide`."""
        try:
            known = self._known(door, now)
            decision = before_hearing(known, uid)
            if decision is None:
                decision, _ = conclude(known, uid, heard, phrase, before_llr, language)
                if decision.opens:
                    pair = [decision.person or uid, *([known.first.uid] if known.first else [])]
                    decision = replace(decision, unlock_s=unlock_s(self.rules, pair))
        except RefusalError as err:
            decision = err.decision
        except HistoryError as err:
            decision = fault(Reason.HISTORY_FAULT, str(err))
        except Exception as err:  # noqa: BLE001 - as at the door: nothing that fails may say yes
            decision = refusal_for(err)
        return replace(decision, door=door, person=decision.person or uid or None)

    def _known(self, door_name: str, now: Now) -> Known:
        door, risk = rule_of(self.rules, door_name)
        remembered, boot = self.recall(), present_boot()

        def standing(uid: str) -> Standing:
            subject = subject_of(self.rules, self.enrolled, door_name, uid)
            limits: AttemptLimits = risk.attempts
            return remembered.standing(subject, limits, now.monotonic_s, boot)

        return Known(
            rules=self.rules,
            door=door,
            risk=risk,
            at=remembered.time.time(now.wall),
            clock_behind=remembered.time.behind(now.wall),
            locked_down=remembered.is_locked_down(door_name),
            first=remembered.waiting(door_name, now.monotonic_s, boot),
            position=remembered.positions.get,
            standing=standing,
            mac=self.mac,
            same_voice_llr=self.same_voice_llr,
            visit=lambda uid: remembered.visits.get(self.pseudonym(uid)),
        )
