"""What one request asks of the judge and the vault, as JSON types. Runs on the one judge thread, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.access.challenge import Challenge, code_sentence
from device.access.decision import Decision
from device.access.policy import Thresholds
from device.access.rules import Rules
from device.access.voices import is_enrolled, voiceprint
from device.api.bodies import RegisterRequest, VerifyRequest
from device.api.errors import NO_DOOR, ProblemError
from device.api.results import Results, Transaction
from device.audio import QualityError, load_utterance
from device.clock import Clock
from device.evidence.judge import Evidence, Judge
from device.evidence.listener import judge_file
from device.models.features import WaveError
from device.models.speaker import InconsistentEnrolmentError
from device.secure_store import ConsentError, Store, Template
from device.settings import Settings
from device.unit.assembly import rules_of
from device.unit.enrolment import consent_now
from device.unit.notes import note_person
from device.unit.rehearse import check_clock, rehearse
from device.unit.reports import evidence_report, report


@dataclass(frozen=True, slots=True)
class Checks:
    """The parts a check needs."""

    judge: Judge
    store: Store
    results: Results
    settings: Settings
    state: Path
    clock: Clock

    def door_rules(self, door: str) -> Rules:
        """The rules in force, read anew so that a changed file counts; raises ProblemError for another
        door."""
        rules = rules_of(self.state, self.settings.door.name)
        if door not in rules.doors:
            raise ProblemError(NO_DOOR, "the rules of this unit have no door of this name")
        return rules

    def verify(self, request: VerifyRequest, challenge: Challenge | None) -> dict[str, Any]:
        """Evidence on one recording, and what a door's rule makes of it when one was asked for.

        Raises DeviceError when the unit, not the recording, is at fault.
        """
        phrase = code_sentence(request.tid, request.code)[0] if challenge is None else challenge.phrase
        audio = request.audio
        with voiceprint(self.store.vault, request.uid, self.judge.speaker.version) as template:
            enrolled = template is not None
            heard = judge_file(
                lambda: load_utterance(audio, self.settings.audio), self.judge, phrase, template
            )
        if not isinstance(heard, Evidence | QualityError):
            raise heard
        evidence = heard if isinstance(heard, Evidence) else None
        decision = self._ruled(request, heard, phrase) if request.door else None
        return {
            "kind": "verify",
            "outcome": "judged" if evidence is not None else "unusable",
            "reason": _reason(heard) if isinstance(heard, QualityError) else None,
            "phrase_from": "caller" if challenge is None else "otp",
            "enrolled": enrolled,
            "evidence": None if evidence is None else evidence_report(evidence),
            "decision": None if decision is None else _decision_report(decision),
        }

    def register(self, request: RegisterRequest, asked: Transaction) -> dict[str, Any]:
        """Enrol a person when every recording can be judged, sounds live, and all are one voice.

        Nobody stands beside the person here, so a doubtful recording is refused, and so is whoever is
        enrolled already: forgetting them first is an administrator's act. Raises DeviceError for a fault of
        the unit.
        """
        if is_enrolled(self.store.vault, request.uid) and not self.results.began_enrolment(asked):
            return self._registered("refused", code="ALREADY_ENROLLED", detail="forget this person first")
        embeddings: list[npt.NDArray[np.float32]] = []
        scores: list[float] = []
        with ExitStack() as heard:
            for number, content in enumerate(request.audio, start=1):
                try:
                    utterance = load_utterance(content, self.settings.audio)
                    heard.callback(utterance.wipe)
                    wave = utterance.wave()
                    heard.callback(wave.fill, 0.0)
                    embeddings.append(self.judge.speaker.embed(wave))
                    scores.append(self.judge.spoof.evidence(wave).llr)
                except QualityError as err:
                    return self._registered("unusable", code=err.code, detail=f"recording {number}: {err}")
                except WaveError as err:
                    return self._registered(
                        "unusable", code="UNREADABLE", detail=f"recording {number}: {err}"
                    )
        live_llr = Thresholds().live_llr
        doubtful = [number for number, llr in enumerate(scores, start=1) if not llr >= live_llr]
        if doubtful:
            which = ", ".join(map(str, doubtful))
            return self._registered(
                "refused", scores, code="NOT_LIVE", detail=f"not a live human: recording {which}"
            )
        try:
            vector = self.judge.speaker.template(embeddings)
        except InconsistentEnrolmentError as err:
            return self._registered("refused", scores, code="VOICES_DIFFER", detail=str(err))
        return self._enrolled(request, asked, vector, scores)

    def _enrolled(
        self,
        request: RegisterRequest,
        asked: Transaction,
        vector: npt.NDArray[np.float32],
        scores: Sequence[float],
    ) -> dict[str, Any]:
        settings = self.settings.store
        check_clock(self.store, self.state, self.clock)
        consent = consent_now(settings, request.consent_to) if request.consent_to else None
        template = Template(self.judge.speaker.version, vector, len(request.audio))
        self.results.begin_enrolment(asked)
        note = partial(
            note_person,
            self.store,
            self.settings,
            self.state,
            self.clock,
            reason="on_request",
            uid=request.uid,
            count=len(request.audio),
        )
        try:
            note("ENROLMENT_BEGUN")  # a power cut enrols nobody of whom the log knows nothing
            record = self.store.vault.enrol(request.uid, template, consent)
        except ConsentError as err:
            return self._registered("refused", scores, code="CONSENT", detail=str(err))
        finally:
            template.wipe()
        note("ENROLLED", record=record)
        return self._registered("registered", scores, record=str(record))

    def _registered(
        self,
        outcome: str,
        scores: Sequence[float] = (),
        *,
        code: str = "",
        detail: str = "",
        record: str = "",
    ) -> dict[str, Any]:
        return {
            "kind": "register",
            "outcome": outcome,
            "reason": {"code": code, "detail": detail} if code else None,
            "record": record or None,
            "spoof_llrs": [round(float(llr), 4) for llr in scores],
            "model_versions": [self.judge.speaker.version, self.judge.spoof.version],
        }

    def _ruled(self, request: VerifyRequest, heard: Evidence | QualityError, phrase: str) -> Decision:
        """What the door would do now, in the audit log before the caller hears of it.

        By the door's own path, on what the door process last wrote down: lock-down, waits, where people are
        and who waits for a second person count. No strike moves and no attempt is charged.
        """
        return rehearse(
            self.judge,
            self.store,
            self.settings,
            self.state,
            self.door_rules(request.door),
            door=request.door,
            uid=request.uid,
            heard=heard,
            phrase=phrase,
            clock=self.clock,
        )


Job = Callable[[], dict[str, Any]]


def _reason(error: QualityError) -> dict[str, str]:
    return {"code": error.code, "detail": str(error)}


def _decision_report(decision: Decision) -> dict[str, Any]:
    """Without the evidence, which stands beside it."""
    shown = report(decision, None)
    del shown["evidence"], shown["identified"]  # a caller always names the person
    return shown
