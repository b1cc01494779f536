"""What one request asks of the judge and the vault, as JSON types. Runs on the one judge thread, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from device.access.challenge import Challenge, code_sentence
from device.access.decision import Decision
from device.access.rules import Rules
from device.access.voices import claimed, is_enrolled
from device.api.bodies import RegisterRequest, VerifyRequest
from device.api.errors import NO_DOOR, NO_PERSON, UNREADABLE, ProblemError
from device.api.results import Results, Transaction
from device.audio import QualityError, load_utterance
from device.audio.recording import read_recording
from device.audio.utterance import wipe
from device.evidence.judge import Evidence
from device.evidence.listener import judge_file
from device.unit.assembly import NoSuchDoorError, Tools
from device.unit.enrolment import EnrolmentError, enrol, forget
from device.unit.recordings import decide_heard, rules_with
from device.unit.reports import evidence_report, report

PEOPLE_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Checks:
    """The parts a check needs."""

    tools: Tools
    results: Results

    def door_rules(self, door: str) -> Rules:
        """The rules in force; raises ProblemError for a door that they do not have."""
        try:
            return rules_with(self.tools, door)
        except NoSuchDoorError as err:
            raise ProblemError(NO_DOOR, "the rules of this unit have no door of this name") from err

    def readable(self, recordings: Sequence[bytes]) -> None:
        """Raises ProblemError (422) for a file whose samples cannot be read. No model hears anything here."""
        for number, content in enumerate(recordings, start=1):
            try:
                wipe(read_recording(content, self.tools.settings.audio.file))
            except QualityError as err:
                which = f"number {number} of {len(recordings)}: " if len(recordings) > 1 else ""
                raise ProblemError(UNREADABLE, f"{which}{err}") from None

    def people(self, after: str) -> dict[str, Any]:
        """Who is enrolled, in the order of their ids; `more` says whether there are others after them."""
        now = self.tools.clock().wall
        found = [one for one in self.tools.store.vault.enrolments() if one.uid > after]
        return {
            "people": [
                {
                    "uid": one.uid,
                    "record": str(one.record_id),
                    "until": one.consent.retain_until.isoformat(),
                    "ended": one.consent.expired(now),
                }
                for one in found[:PEOPLE_AT_ONCE]
            ],
            "more": len(found) > PEOPLE_AT_ONCE,
        }

    def forget(self, uid: str) -> dict[str, Any]:
        """Erase a person. Raises ProblemError (404), or DeviceError for a fault."""
        tools = self.tools
        if not is_enrolled(tools.store.vault, uid):
            raise ProblemError(NO_PERSON, "nobody is enrolled under this id")
        receipt = forget(tools.store, tools.settings, tools.state, uid, tools.clock)
        return {
            "uid": uid,
            "record": str(receipt.record_id),
            "forgotten_at": receipt.forgotten_at.isoformat(),
            "receipt": receipt.to_bytes().hex(),
        }

    def verify(self, request: VerifyRequest, challenge: Challenge | None) -> dict[str, Any]:
        """Evidence on one recording, and what a door's rule makes of it when one was asked for.

        Raises DeviceError when the unit, not the recording, is at fault.
        """
        phrase = code_sentence(request.tid, request.code)[0] if challenge is None else challenge.phrase
        audio, tools = request.audio, self.tools
        with claimed(tools.store.vault, request.uid, tools.judge.generations) as template:
            enrolled = template is not None
            heard = judge_file(
                lambda: load_utterance(audio, tools.settings.audio), tools.judge, phrase, template
            )
        if not isinstance(heard, Evidence | QualityError):
            raise heard
        evidence = heard if isinstance(heard, Evidence) else None
        decision = None
        if request.door:
            rules = self.door_rules(request.door)
            decision = decide_heard(tools, heard, rules, door=request.door, uid=request.uid, phrase=phrase)
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

        Nobody stands beside the person here, so a doubtful recording is refused, and so is anybody who is
        enrolled already: forgetting them first is an administrator's act. Raises DeviceError for a fault of
        the unit.
        """
        tools = self.tools
        if is_enrolled(tools.store.vault, request.uid) and not self.results.began_enrolment(asked):
            return self._registered("refused", code="ALREADY_ENROLLED", detail="forget this person first")
        recordings = {f"recording {number}": audio for number, audio in enumerate(request.audio, start=1)}
        try:
            found = enrol(
                tools,
                request.uid,
                recordings,
                reason="on_request",
                consent_to=request.consent_to,
                must_sound_live=True,
                begins=lambda: self.results.begin_enrolment(asked),
            )
        except EnrolmentError as err:
            outcome = "refused" if err.code in _REFUSALS else "unusable"
            scores = err.spoof_llrs if err.code in _REFUSALS else ()
            return self._registered(outcome, scores, code=err.code, detail=str(err))
        return self._registered("registered", found.spoof_llrs, record=str(found.record))

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
            "model_versions": [self.tools.judge.speaker.version, self.tools.judge.spoof.version],
        }


_REFUSALS = frozenset({"NOT_LIVE", "VOICES_DIFFER", "SAME_RECORDING", "ID_TAKEN", "CONSENT"})
"""Of recordings that could all be judged."""

Job = Callable[[], dict[str, Any]]


def _reason(error: QualityError) -> dict[str, str]:
    return {"code": error.code, "detail": str(error)}


def _decision_report(decision: Decision) -> dict[str, Any]:
    """Without the evidence, which stands beside it."""
    shown = report(decision, None)
    del shown["evidence"], shown["identified"]  # a caller always names the person
    return shown
