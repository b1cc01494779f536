"""Whole attempts: words, voice and live together, decided by the very code that decides at a door.

A person says one phrase; anybody who is asked for one more, or is refused, says a second. Strangers know the
right words and claim somebody else's badge. An attack is a perfect clone: it has the words and the voice of
somebody enrolled, as that person's own recordings have them, and only the live check stands in its way. A
replay is a person's own right phrase through a loudspeaker, with all three checks of its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from device.access.decision import Decision, Factor, Outcome
from device.access.policy import counts_on
from device.access.rules import RiskClass
from device.access.weigh import weigh
from device.evidence.judge import Evidence
from device.evidence.phrase import said_in_full
from device.evidence.voice.held import Voice
from quantize.evaluate.checks.phrase import Rate, rate
from quantize.evaluate.door.cast import RISK, Cast
from quantize.evaluate.door.causes import JOINS, Causes, Knocked, causes, checks_that_failed
from quantize.evaluate.door.evidence import Heard, enrolled_as_at_a_door, evidence_of, voice_llr
from quantize.evaluate.door.heard import CONDITIONS, Condition
from quantize.evaluate.door.measure import Ask, Checks, Measured
from quantize.evaluate.recordings.manifest import Recording

COMPLETE_WAIT_S, END_WAIT_S = 0.2, 0.7
"""Silence before an answer that is complete opens, and before any other is decided on."""

ALL = "all"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of one kind of attempt: shares of those in after one and after two phrases."""

    one: Rate
    two: Rate


@dataclass(frozen=True, slots=True)
class People(Outcomes):
    """Of people with their own phrase and badge."""

    asked: Rate
    """In after two phrases at most, where the door itself asked for the second."""
    repeated: Rate
    """Of first phrases: not judged, asked again, not counted as a failure."""
    failed: dict[str, float]
    """Of first phrases that were judged: the share that each check alone would refuse."""
    seconds: tuple[float, float]
    """From the first sound to the decision, median and 95th percentile, of those who got in."""


@dataclass(frozen=True, slots=True)
class Attack(Outcomes):
    """Of attacks."""

    live: Rate
    """That pass the live check, whatever words and voice."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything found under one condition."""

    enrolled: tuple[int, int] = (0, 0)
    """People who could be enrolled, of how many; whose recordings differ too much are asked for others."""
    people: dict[str, People] = field(default_factory=dict)
    """By view: all, and each group."""
    strangers: Outcomes | None = None
    replays: Outcomes | None = None
    attacks: dict[str, Attack] = field(default_factory=dict)
    """By system, and ALL pooled."""
    causes: Causes | None = None
    """Why people were not in after one phrase."""

    def summary(self) -> dict[str, Any]:
        """The few figures most readers want: [in, of how many] after one phrase and after two."""
        kinds: dict[str, Outcomes] = {f"people, {view}": found for view, found in self.people.items()}
        kinds |= {"attacks": self.attacks[ALL]} if ALL in self.attacks else {}
        kinds |= {n: f for n, f in (("strangers", self.strangers), ("replays", self.replays)) if f}
        return {
            name: {
                "one": [found.one.accepted, found.one.trials],
                "two": [found.two.accepted, found.two.trials],
            }
            for name, found in kinds.items()
        }


def play(cast: Cast, found: Mapping[Ask, Measured], checks: Checks, condition: Condition) -> Findings:
    """Every attempt under one condition."""
    templates = enrolled_as_at_a_door(cast.enrolments, found, checks)
    enrolled = len(templates), len(cast.enrolments)
    own = {
        who: [evidence_of(found[Ask(r, condition, words=True)], checks, templates[who]) for r in files]
        for who, files in cast.probes.items()
        if who in templates and (condition.people or condition.loudspeaker)
    }
    clean = {
        who: [evidence_of(found[Ask(r, CONDITIONS[0], words=True)], checks, templates[who]) for r in files]
        for who, files in cast.probes.items()
        if who in templates
    }
    attacks = _attacks(cast, found, checks, condition, own if condition.people else clean)
    if not condition.people:
        return Findings(enrolled, replays=_outcomes(_tries(own, cast.risk)) if own else None, attacks=attacks)
    strangers = _strangers(cast, found, checks, condition, templates)
    views: dict[str, set[str]] = {ALL: set(own)}
    for who in own:
        first = cast.probes[who][0]
        views.setdefault(first.group or first.folder, set()).add(who)
    people = {
        view: _people({who: own[who] for who in own if who in members}, cast, found, condition)
        for view, members in views.items()
    }
    knocked = [
        Knocked(
            who,
            r.group or r.folder,
            r.text,
            heard if isinstance(heard, Evidence) else None,
            weigh(heard, cast.risk, claimed=True),
        )
        for who, files in own.items()
        for r, heard in zip(cast.probes[who], files, strict=True)
    ]
    return Findings(enrolled, people, strangers, None, attacks, causes(knocked, checks.speaker.version))


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt: what was decided on the first phrase and, where there was one, on the second."""

    unit: str
    first: Decision
    second: Decision | None

    @property
    def opened(self) -> bool:
        return self.first.opens or (self.second is not None and self.second.opens)


def decide_two(unit: str, first: Heard, second: Heard, risk: RiskClass = RISK) -> Try:
    """Who is asked for one more phrase, or is refused, says another: in the same attempt or in a new one."""
    one = weigh(first, risk, claimed=True)
    if one.opens:
        return Try(unit, one, None)
    before = counts_on(one) if one.outcome is Outcome.STEP_UP else None
    return Try(unit, one, weigh(second, risk, claimed=True, before_llr=before))


def _tries(own: Mapping[str, Sequence[Heard]], risk: RiskClass) -> list[Try]:
    """Every ordered pair of two phrases of one person."""
    return [
        decide_two(who, one, other, risk)
        for who, heard in own.items()
        for at, one in enumerate(heard)
        for place, other in enumerate(heard)
        if place != at
    ]


def _outcomes(tries: Sequence[Try]) -> Outcomes:
    return Outcomes(
        _rate([(one.unit, one.first.opens) for one in tries]),
        _rate([(one.unit, one.opened) for one in tries]),
    )


def _rate(results: Sequence[tuple[str, bool]]) -> Rate:
    groups: dict[str, list[bool]] = defaultdict(list)
    for unit, yes in results:
        groups[unit].append(yes)
    return rate(list(groups), list(groups.values()))


def _people(
    own: Mapping[str, Sequence[Heard]], cast: Cast, found: Mapping[Ask, Measured], condition: Condition
) -> People:
    tries = _tries(own, cast.risk)
    both = _outcomes(tries)
    asked = [
        (one.unit, one.first.opens or (one.first.outcome is Outcome.STEP_UP and one.opened)) for one in tries
    ]
    repeated, took, failed, judged = [], [], Counter[str](), 0
    for who, heard in own.items():
        waits = [
            found[Ask(r, condition, words=True)].said_s + _wait_s(r, evidence, cast.risk)
            for r, evidence in zip(cast.probes[who], heard, strict=True)
        ]
        for at, evidence in enumerate(heard):
            first = weigh(evidence, cast.risk, claimed=True)
            uncounted = first.outcome is Outcome.DENIED_QUALITY and not first.counts_as_failure
            repeated.append((who, uncounted))
            if not uncounted:
                judged += 1
                failed.update(checks_that_failed(first))
                if first.outcome is Outcome.DENIED_QUALITY:
                    failed["asked again, counted"] += 1
            if first.opens:
                took.append(waits[at])
                continue
            for place, other in enumerate(heard):
                if place != at and decide_two(who, evidence, other, cast.risk).opened:
                    took.append(waits[at] + waits[place])
    shares = {name: failed[name] / max(1, judged) for name in (*_FACTORS, JOINS, "asked again, counted")}
    middle, late = np.percentile(took, [50, 95]) if took else (float("nan"), float("nan"))
    return People(both.one, both.two, _rate(asked), _rate(repeated), shares, (float(middle), float(late)))


_FACTORS = (Factor.PHRASE.value, Factor.VOICE.value, Factor.LIVE.value)


def _wait_s(recording: Recording, heard: Heard, risk: RiskClass) -> float:
    """Silence before the decision: the door opens at the first pause when the answer is complete."""
    if not isinstance(heard, Evidence):
        return END_WAIT_S
    done = weigh(heard, risk, claimed=True).opens and said_in_full(heard.transcript, recording.text)
    return COMPLETE_WAIT_S if done else END_WAIT_S


def _strangers(
    cast: Cast,
    found: Mapping[Ask, Measured],
    checks: Checks,
    condition: Condition,
    templates: Mapping[str, Voice],
) -> Outcomes:
    """Everybody at the doors of everybody else of their corpus, with the right words."""
    tries = []
    for who, files in cast.probes.items():
        heard = [
            (measured, evidence_of(measured, checks, None))
            for measured in (found[Ask(r, condition, words=True)] for r in files)
        ]
        for victim, template in templates.items():
            if victim == who or cast.probes[victim][0].folder != files[0].folder:
                continue
            said = [
                replace(evidence, speaker_llr=voice_llr(measured, evidence.quality, checks, template))
                if isinstance(evidence, Evidence)
                else evidence
                for measured, evidence in heard
            ]
            tries += [
                decide_two(who, one, said[(at + 1) % len(said)], cast.risk) for at, one in enumerate(said)
            ]
    return _outcomes(tries)


def _attacks(
    cast: Cast,
    found: Mapping[Ask, Measured],
    checks: Checks,
    condition: Condition,
    own: Mapping[str, Sequence[Heard]],
) -> dict[str, Attack]:
    """Each file with the words and the voice of somebody enrolled, as heard under this condition."""
    people = [who for who, heard in sorted(own.items()) if any(isinstance(one, Evidence) for one in heard)]
    if not people or not cast.attacks:
        return {}
    pooled: list[Try] = []
    outcomes = {}
    for system, files in cast.attacks.items():
        clones = []
        for recording in files:
            live = evidence_of(found[Ask(recording, condition, voice=False)], checks, None)
            voices = [one for one in own[_partner(recording.path, people)] if isinstance(one, Evidence)]
            clones.append(_clone(live, voices[0]))
        tries = [
            decide_two(files[at].path, one, clones[(at + 1) % len(clones)], cast.risk)
            for at, one in enumerate(clones)
        ]
        outcomes[system] = _attack(tries)
        pooled += [replace(one, unit=system) for one in tries]
    return {ALL: _attack(pooled), **outcomes}


def _attack(tries: Sequence[Try]) -> Attack:
    both = _outcomes(tries)
    return Attack(both.one, both.two, _rate([(one.unit, _sounds_live(one.first)) for one in tries]))


def _sounds_live(decision: Decision) -> bool:
    judged = [finding for finding in decision.findings if finding.factor is Factor.LIVE]
    return bool(judged) and all(finding.passed for finding in judged)


def _clone(live: Heard, voice: Evidence) -> Heard:
    if not isinstance(live, Evidence):
        return live
    return replace(
        live, phrase_llr=voice.phrase_llr, speaker_llr=voice.speaker_llr, transcript=voice.transcript
    )


def _partner(path: str, people: Sequence[str]) -> str:
    return people[int(hashlib.sha256(path.encode()).hexdigest(), 16) % len(people)]
