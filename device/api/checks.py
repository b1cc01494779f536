"""Answers one request from judge and vault, as JSON types. Runs on the one judge thread, in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from device.access.challenge import Challenge, code_sentence
from device.access.decision import Decision, Outcome
from device.access.rules import Rules
from device.access.voices import claimed, is_enrolled
from device.api.bodies import RegisterRequest, VerifyRequest
from device.api.errors import NO_DOOR, NO_PERSON, UNREADABLE, ProblemError
from device.api.results import Results, Transaction
from device.audio import QualityError, load_utterance
from device.audio.recording import read_recording
from device.audio.utterance import wipe
from device.clock import Now
from device.evidence.judge import Evidence
from device.evidence.listener import judge_file
from device.evidence.vocabulary import Language
from device.unit.assembly import NoSuchDoorError, Tools
from device.unit.enrolment import EnrolmentError, enrol, forget
from device.unit.recordings import decide_heard, rules_with
from device.unit.reports import enrolled_report, evidence_report, forgotten_report, report

PEOPLE_AT_ONCE = 1_000
SECOND_WITHIN_S = 180.0
"""A door gives 60 s; here another /otp, another recording and the queue lie between."""


class SecondPhrases:
    """Which callers were asked for one more phrase of whom. Belongs to the judge thread.

    As at a door, a second phrase is no longer doubted, and leads to no third. The words of two do not add up:
    a caller may bring words of its own.
    """

    def __init__(self) -> None:
        self._until_s: dict[tuple[str, str, str], float] = {}

    def note(self, client: str, door: str, uid: str, now: Now) -> None:
        self._until_s = {key: until_s for key, until_s in self._until_s.items() if until_s >= now.monotonic_s}
        self._until_s[client, door, uid] = now.monotonic_s + SECOND_WITHIN_S

    def take(self, client: str, door: str, uid: str, now: Now) -> float | None:
        """What the first phrase adds to this one, 0; None where this is the first. Taken once."""
        until_s = self._until_s.pop((client, door, uid), -math.inf)
        return 0.0 if now.monotonic_s <= until_s else None

    def forget(self, uid: str) -> None:
        self._until_s = {key: until_s for key, until_s in self._until_s.items() if key[2] != uid}


@dataclass(frozen=True, slots=True)
class Checks:
    """The parts a check needs."""

    tools: Tools
    results: Results
    second_phrases: SecondPhrases = field(default_factory=SecondPhrases)

    @property
    def usual_language(self) -> Language:
        """Of phrases, where a caller names none."""
        return self.tools.settings.door.phrases

    def hears(self, language: Language) -> bool:
        """Whether this unit can hear an answer in `language`; if so, it makes ready to."""
        self.tools.judge.open_soon(language)
        return self.tools.judge.hears(language)

    def door_rules(self, door: str) -> Rules:
        """The rules in force. Raises ProblemError for a door that they do not have."""
        try:
            return rules_with(self.tools, door)
        except NoSuchDoorError as err:
            raise ProblemError(NO_DOOR, "the rules of this unit have no door of this name") from err

    def readable(self, recordings: Sequence[bytes]) -> None:
        """Raises ProblemError (422) for a file whose samples cannot be read."""
        for number, content in enumerate(recordings, start=1):
            try:
                wipe(read_recording(content, self.tools.settings.audio.file))
            except QualityError as err:
                which = f"number {number} of {len(recordings)}: " if len(recordings) > 1 else ""
                raise ProblemError(UNREADABLE, f"{which}{err}") from None

    def people(self, after: str) -> dict[str, Any]:
        """Who is enrolled, by id; `more` says whether others follow."""
        now = self.tools.clock().wall
        found = [one for one in self.tools.store.vault.enrolments() if one.uid > after]
        return {
            "people": [enrolled_report(one, now) for one in found[:PEOPLE_AT_ONCE]],
            "more": len(found) > PEOPLE_AT_ONCE,
        }

    def forget(self, uid: str) -> dict[str, Any]:
        """Erase a person. Raises ProblemError (404), or DeviceError for a fault."""
        tools = self.tools
        if not is_enrolled(tools.store.vault, uid):
            raise ProblemError(NO_PERSON, "nobody is enrolled under this id")
        self.second_phrases.forget(uid)
        receipt = forget(tools.store, tools.settings, tools.state, uid, tools.clock)
        return {"uid": uid, **forgotten_report(receipt)}

    def verify(self, request: VerifyRequest, challenge: Challenge | None, client: str) -> dict[str, Any]:
        """Evidence on one recording, and a door's decision on it when asked for.

        Raises DeviceError when the unit, not the recording, is at fault.
        """
        phrase = code_sentence(request.tid, request.code)[0] if challenge is None else challenge.phrase
        language = Language.ENGLISH if challenge is None else challenge.language
        audio, tools = request.audio, self.tools
        with claimed(tools.store.vault, request.uid, tools.judge.generations) as template:
            enrolled = template is not None
            heard = judge_file(
                lambda: load_utterance(audio, tools.settings.audio), tools.judge, phrase, template, language
            )
        if not isinstance(heard, Evidence | QualityError):
            raise heard
        evidence = heard if isinstance(heard, Evidence) else None
        decision = None
        if request.door:
            rules = self.door_rules(request.door)
            decision = decide_heard(
                tools,
                heard,
                rules,
                door=request.door,
                uid=request.uid,
                phrase=phrase,
                before_llr=self.second_phrases.take(client, request.door, request.uid, tools.clock()),
                language=language,
            )
            if decision.outcome is Outcome.STEP_UP:
                self.second_phrases.note(client, request.door, request.uid, tools.clock())
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

        Nobody stands beside the person, so doubtful recordings are refused, and so is anybody who is enrolled
        already: an administrator forgets them first. Raises DeviceError for a fault of the unit.
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
