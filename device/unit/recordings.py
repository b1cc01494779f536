"""Decides one recording as the door would now, on the memory that the door process last kept. Moves no
strike.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from device.access.decision import Decision, Factor
from device.access.rehearsal import Rehearsal
from device.access.rules import Rules
from device.access.voices import alike, claimed, gallery, is_enrolled
from device.audio import load_utterance
from device.evidence.judge import Evidence
from device.evidence.listener import Heard, judge_file
from device.evidence.vocabulary import Language
from device.settings import Settings
from device.unit.assembly import NoSuchDoorError, Tools, rules_of
from sync.events import pseudonym


def rules_with(tools: Tools, door: str) -> Rules:
    """The rules in the file as it is now. Raises NoSuchDoorError."""
    rules = rules_of(tools.state, tools.settings.door.name)
    if door not in rules.doors:
        raise NoSuchDoorError(f"the rules have no door {door!r}; they have {', '.join(sorted(rules.doors))}")
    return rules


def decide_recording(
    tools: Tools,
    recording: Path | bytes,
    *,
    door: str,
    uid: str,
    phrase: str,
    language: Language | None = None,
) -> tuple[Decision, Evidence | None]:
    """The decision on one recording, already in the audit log, and its evidence if any.

    With an empty `uid`, where the door's rule asks for no claim, the voice is searched for. `language` is
    that of the phrase; None is the one in which this unit asks this person.
    """
    rules = rules_with(tools, door)
    language = language or asked_in(tools.settings, rules, uid)
    vault, models = tools.store.vault, tools.judge.generations
    risk = rules.risk_at(door)
    asked = bool(uid) or risk is None or Factor.CLAIM in risk.factors
    voices = claimed(vault, uid, models) if asked else gallery(vault, rules, door, models)
    with voices as voice:
        heard = judge_file(
            lambda: load_utterance(recording, tools.settings.audio), tools.judge, phrase, voice, language
        )
    decision = decide_heard(tools, heard, rules, door=door, uid=uid, phrase=phrase, language=language)
    return decision, heard if isinstance(heard, Evidence) else None


def asked_in(settings: Settings, rules: Rules, uid: str) -> Language:
    """In which language this unit asks `uid`."""
    return rules.phrases(uid, settings.door.phrases)


def decide_heard(
    tools: Tools,
    heard: Heard,
    rules: Rules,
    *,
    door: str,
    uid: str,
    phrase: str,
    before_llr: float | None = None,
    language: Language = Language.ENGLISH,
) -> Decision:
    """The door's decision now on what was heard, already in the audit log.

    Charges nothing, and notes nobody as inside or as first of two. `before_llr`: as for `policy.decide`.
    """
    vault, key = tools.store.vault, tools.store.pseudonym_key()
    rehearsal = Rehearsal(
        rules,
        tools.recalled,
        tools.store.mac,
        enrolled=partial(is_enrolled, vault),
        same_voice_llr=partial(alike, vault, tools.judge),
        pseudonym=lambda uid: str(pseudonym(key, uid)),
    )
    decision = rehearsal.decide(door, uid, heard, phrase, tools.clock(), before_llr, language)
    with tools.trail() as trail:
        trail.decided(decision, heard if isinstance(heard, Evidence) else None)
    return decision
