"""Checks that a door would still open after a change, on a recorded attempt and by the rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from device.access.policy import decide
from device.access.rules import Rules
from device.access.rules.permissions import may_ever_pass, refusal
from device.audio import load_utterance
from device.audio.settings import AudioSettings
from device.errors import DeviceError
from device.evidence.judge import Evidence, Judge, JudgeError
from device.model_store.answers import Answers
from device.model_store.bundle import Bundle
from device.models.self_test import RECORDINGS, answers_of, recordings_of

WEEK_H = 7 * 24


class RehearsalError(DeviceError):
    """The door would open for nobody, or that cannot be told. `why` is a word for the registry."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded attempt of one speaker who is enrolled from other recordings."""

    enrolled: tuple[str, ...]
    recording: str
    phrase: str


def clearest(answers: Answers) -> Recorded:
    """Of a release's recorded attempts the one that passes by most. Raises RehearsalError."""
    live = {one.recording: one.llrs["llr"] for one in answers.live}
    phrases = {one.recording: one for one in sorted(answers.words, key=lambda one: one.llr)}
    found = [
        (min(voice.llr, phrases[voice.recording].llr, live[voice.recording]), voice)
        for voice in answers.voice
        if voice.recording in phrases and voice.recording in live and voice.recording.endswith(".wav")
    ]
    if not found:
        raise RehearsalError("not_confirmed", "the bundle's self-test has no whole attempt to rehearse")
    _, best = max(found, key=lambda each: each[0])
    return Recorded(best.enrolled, best.recording, phrases[best.recording].phrase)


def evidence_of_recorded(
    judge: Judge, bundle: Bundle, audio: AudioSettings, folder: Path = RECORDINGS
) -> Evidence:
    """The evidence of the recorded attempt by this unit's judge. Raises DeviceError."""
    answers = answers_of(bundle)
    waves = recordings_of(answers.recordings, folder)  # each is the very recording that it should be
    asked = clearest(answers)
    template = judge.speaker.template([judge.speaker.embed(waves[name]) for name in asked.enrolled])
    utterance = load_utterance(folder / asked.recording, audio)
    try:
        return judge(utterance, asked.phrase, template)
    except JudgeError as err:
        raise RehearsalError("not_confirmed", f"the recorded attempt cannot be judged: {err}") from err
    finally:
        utterance.wipe()
        template[:] = 0.0


def rehearse(rules: Rules, door_name: str, heard: Evidence) -> None:
    """Raises RehearsalError unless `rules` open the door on the recorded attempt."""
    risk = rules.risks[rules.doors[door_name].risk]
    decision = decide(heard, risk.thresholds, required=risk.factors, claimed=True, quality=risk.quality)
    if not decision.opens:
        raise RehearsalError(
            "not_confirmed", f"a recorded attempt that is clear would be refused: {decision.reason}"
        )


def somebody_passes(rules: Rules, door_name: str, uids: Iterable[str], now: datetime) -> bool:
    """Whether one of `uids` may pass the door at some full hour of the coming week."""
    door = rules.doors[door_name]
    return any(
        may_ever_pass(rules, door, uid)
        and any(refusal(rules, door, uid, now + timedelta(hours=h)) is None for h in range(WEEK_H))
        for uid in uids
    )


def check_rules(
    rules: Rules, present: Rules, door_name: str, uids: tuple[str, ...], heard: Evidence, now: datetime
) -> None:
    """Raises RehearsalError unless `rules` may replace `present`: they open the door, and lock not all of
    `uids` out who could pass before.
    """
    if door_name not in rules.doors:
        raise RehearsalError("rules_refused", f"the rules have no door {door_name}, which is this unit's")
    rehearse(rules, door_name, heard)
    could = door_name in present.doors and somebody_passes(present, door_name, uids, now)
    if could and not somebody_passes(rules, door_name, uids, now):
        raise RehearsalError(
            "locks_everybody_out", f"nobody who is enrolled here could pass {door_name} in the coming week"
        )
