"""Whole attempts: words, voice and live together, decided by the very code that decides at a door.

A person says one phrase; anybody who is asked for one more, or is refused, says a second. Strangers know the
right words and claim somebody else's badge. An attack is a perfect clone: it has the words and the voice of
somebody enrolled, as that person's own recordings have them, and only the live check stands in its way. A
replay is a person's own right phrase through a loudspeaker, with all three checks of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from device.access.decision import Decision, Factor, Outcome
from device.access.policy import counts_on
from device.access.rules import RiskClass
from device.access.rules.levels import LEVELS
from device.access.weigh import weigh
from device.audio import QualityError
from device.evidence import conditioned, voice_in_noise
from device.evidence.judge import Evidence, Timings
from device.evidence.phrase import said_in_full
from device.evidence.second_hearing import asked, both
from device.models.speaker import InconsistentEnrolmentError
from quantize.evaluate.checks.phrase import Rate, rate
from quantize.evaluate.door.heard import CONDITIONS, Condition
from quantize.evaluate.door.measure import Ask, Checks, Embedding, Measured
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import ENROLMENT_FILES, SpeakerPlan, speaker_plan

RISK = LEVELS["standard"]
LEAST_WORDS = 3
"""No door shows a single word."""
MOST_PROBES = 3
MOST_OF_SYSTEM = 3
"""Of one person and one system: more of the same say little more."""
COMPLETE_WAIT_S, END_WAIT_S = 0.2, 0.7
"""Silence before an answer that is complete opens, and before any other is decided on."""
_ERRORS = {error.code: error for error in QualityError.__subclasses__()}

Heard = Evidence | Exception
ALL = "all"


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part: people with three recordings to enrol and phrases to say, and attacks."""

    enrolments: Mapping[str, tuple[Recording, ...]]
    probes: Mapping[str, tuple[Recording, ...]]
    attacks: Mapping[str, tuple[Recording, ...]]
    """By system."""
    risk: RiskClass = RISK
    """What the door asks for."""

    def asks(self, conditions: Sequence[Condition]) -> Iterator[Ask]:
        """Everything that must be measured."""
        clean = CONDITIONS[0]
        for files in self.enrolments.values():
            yield from (Ask(r, clean, live=False) for r in files)
        for condition in (clean, *(one for one in conditions if one != clean)):
            if condition.people or condition.loudspeaker:
                for files in self.probes.values():
                    yield from (Ask(r, condition, words=True) for r in files)
            for files in self.attacks.values():
                yield from (Ask(r, condition, voice=False) for r in files)


def cast(recordings: Sequence[Recording], taught: Collection[str] = ()) -> Cast:
    """People that no calibration was fitted on, spread evenly over their recordings; attacks likewise.

    `taught` names the folders whose attacks trained the live check: those are left out.
    """
    plan: SpeakerPlan = speaker_plan(recordings)
    probes: dict[str, list[Recording]] = defaultdict(list)
    for probe in plan.probes:
        if len(probe.text.split()) >= LEAST_WORDS and not fits(probe.speaker):
            probes[probe.speaker].append(probe)
    chosen = {who: _spread(files, MOST_PROBES) for who, files in probes.items() if len(files) >= 2}
    systems: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        if recording.label == "spoof" and recording.folder not in taught:
            systems[f"{recording.folder}: {recording.system}"].append(recording)
    return Cast(
        enrolments={who: plan.enrolments[who][:ENROLMENT_FILES] for who in chosen},
        probes=chosen,
        attacks={name: _spread(files, MOST_OF_SYSTEM) for name, files in sorted(systems.items())},
    )


def _spread(files: Sequence[Recording], most: int) -> tuple[Recording, ...]:
    if len(files) <= most:
        return tuple(files)
    return tuple(files[round(at)] for at in np.linspace(0, len(files) - 1, most))


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
    templates = _templates(cast, found, checks)
    enrolled = len(templates), len(cast.enrolments)
    own = {
        who: [_evidence(found[Ask(r, condition, words=True)], checks, templates[who]) for r in files]
        for who, files in cast.probes.items()
        if who in templates and (condition.people or condition.loudspeaker)
    }
    clean = {
        who: [_evidence(found[Ask(r, CONDITIONS[0], words=True)], checks, templates[who]) for r in files]
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
    return Findings(enrolled, people, strangers, None, attacks)


def _templates(cast: Cast, found: Mapping[Ask, Measured], checks: Checks) -> dict[str, Embedding]:
    templates = {}
    for who, files in cast.enrolments.items():
        heard = [found[Ask(r, CONDITIONS[0], live=False)].embedding for r in files]
        embeddings = [one for one in heard if one is not None]
        if len(embeddings) >= ENROLMENT_FILES:
            with suppress(InconsistentEnrolmentError):  # asked to record again; they take no part
                templates[who] = checks.speaker.template(embeddings)
    return templates


def _evidence(measured: Measured, checks: Checks, template: Embedding | None) -> Heard:
    if measured.refused or measured.quality is None:
        return _ERRORS.get(measured.refused, QualityError)(measured.complaint)
    embedding, phrase = measured.embedding, measured.phrase
    voice = None
    if embedding is not None and template is not None:
        voice = voice_in_noise.llr(checks.speaker, measured.quality, embedding, template)
    live = checks.spoof.weighed(measured.live) if measured.live else None
    place = conditioned.shipped()
    live_llr = math.nan if live is None else place.llr(checks.spoof.version, live.llr, measured.quality)
    if phrase is not None and measured.again is not None and asked(phrase.llr):
        phrase = both(phrase, measured.again)
    return Evidence(
        phrase_llr=math.nan if phrase is None else phrase.llr,
        speaker_llr=voice,
        spoof_llr=live_llr,
        transcript="" if phrase is None else phrase.transcript,
        quality=measured.quality,
        timings=Timings(0.0, 0.0, 0.0, 0.0),
        live_kinds={} if live is None else live.kinds(),
        operating_points=place.points(checks.spoof.version, checks.spoof.operating_points),
    )


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
                failed.update({finding.factor.value for finding in first.findings if not finding.passed})
                if first.outcome is Outcome.DENIED_QUALITY:
                    failed["asked again, counted"] += 1
            if first.opens:
                took.append(waits[at])
                continue
            for place, other in enumerate(heard):
                if place != at and decide_two(who, evidence, other, cast.risk).opened:
                    took.append(waits[at] + waits[place])
    shares = {name: failed[name] / max(1, judged) for name in (*_FACTORS, "asked again, counted")}
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
    templates: Mapping[str, Embedding],
) -> Outcomes:
    """Everybody at the doors of everybody else of their corpus, with the right words."""
    tries = []
    for who, files in cast.probes.items():
        heard = [
            (measured, _evidence(measured, checks, None))
            for measured in (found[Ask(r, condition, words=True)] for r in files)
        ]
        for victim, template in templates.items():
            if victim == who or cast.probes[victim][0].folder != files[0].folder:
                continue
            said = [
                replace(
                    evidence,
                    speaker_llr=voice_in_noise.llr(
                        checks.speaker, evidence.quality, measured.embedding, template
                    ),
                )
                if isinstance(evidence, Evidence) and measured.embedding is not None
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
            live = _evidence(found[Ask(recording, condition, voice=False)], checks, None)
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
