"""Why people were not in after one phrase: which checks refused, alone or together, and what each went by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import numpy as np

from device.access.decision import Decision, Factor, Finding, Outcome
from device.audio.utterance import Quality
from device.evidence.judge import Evidence
from device.evidence.phrase import REDACTED, Tokens, normalise
from device.evidence.voice import in_noise
from device.evidence.voice.at_the_door import LIVELY_DB_S

IN = "in"
JOINS = "joins"
NEVER_JUDGED = "not judged: "
SHORT_BY_LLR = (1.0, 2.0, 4.0)
"""Where the classes of how much was lacking end."""
SUBSTITUTED, DELETED, INSERTED = "substituted", "deleted", "inserted"
WORDS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Knocked:
    """One first phrase: who said what, and what was decided."""

    speaker: str
    group: str
    text: str
    heard: Evidence | None
    """None where the audio checks turned it away."""
    decision: Decision


@dataclass(frozen=True, slots=True)
class Checked:
    """One check's refusals."""

    refused: int = 0
    alone: int = 0
    """Refused by it and by no other check."""
    people: int = 0
    """How many people these were."""
    short_by: dict[str, int] = field(default_factory=dict)
    """By how much of an LLR was lacking."""
    groups: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """What was measured of first phrases: lower quartile, median and upper quartile."""

    llr: tuple[float, float, float]
    snr_db: tuple[float, float, float]
    speech_s: tuple[float, float, float]
    decay_db_s: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Causes:
    """Of all first phrases of everybody under one condition."""

    phrases: int
    together: dict[str, int]
    """How many were in, were not judged, or were refused by exactly these checks."""
    checks: dict[str, Checked]
    """By factor."""
    edits: dict[str, dict[str, int]]
    """Where words were refused: by group, words of the phrase that were heard as others or not at all, and
    words beside it."""
    words: dict[str, int]
    """The phrase's own words that this happened to, the most frequent ones."""
    voice: dict[str, Spread]
    """Of the voice check, `passed` and `refused`."""
    voice_heard: dict[str, tuple[int, int]]
    """By what it was held against or heard of: as enrolled, lively (the door vector), in noise (what stands
    out): (refused, of how many)."""
    voice_by_speech: dict[str, tuple[int, int]]
    """By seconds of speech: (refused by voice, of how many)."""
    live_kinds: dict[str, int]
    """Where the live check refused: the kind of evidence that spoke most against a person."""


def causes(knocked: Sequence[Knocked], version: str) -> Causes:
    """`version` is that of the speaker model."""
    together = Counter(_cause(one.decision) for one in knocked)
    judged = [(one, one.heard) for one in knocked if one.heard is not None and one.decision.findings]
    refused = {
        factor: [pair for pair in judged if factor in _factors(pair[0].decision)]
        for factor in (Factor.PHRASE, Factor.VOICE, Factor.LIVE)
    }
    sides: dict[str, list[Evidence]] = {"passed": [], "refused": []}
    heard_of: dict[str, list[bool]] = {}
    by_speech: dict[str, list[bool]] = {name: [] for name in _SPEECH}
    for one, heard in judged:
        wrong = Factor.VOICE in _factors(one.decision)
        sides["refused" if wrong else "passed"].append(heard)
        heard_of.setdefault(_heard_of(heard.quality, version), []).append(wrong)
        by_speech[_speech(heard.quality)].append(wrong)
    edits: dict[str, Counter[str]] = {}
    words: Counter[str] = Counter()
    for one, heard in refused[Factor.PHRASE]:
        kinds, hit = edited(one.text, heard.transcript)
        edits.setdefault(one.group, Counter()).update(kinds)
        words.update(hit)
    kinds_of = [
        heard.live_kinds
        for one, heard in refused[Factor.LIVE]
        if heard.live_kinds and Factor.LIVE.value in checks_that_failed(one.decision)
    ]
    return Causes(
        phrases=len(knocked),
        together=dict(together.most_common()),
        checks={
            factor.value: _checked(factor, [one for one, _ in found]) for factor, found in refused.items()
        },
        edits={group: dict(kinds) for group, kinds in sorted(edits.items())},
        words=dict(words.most_common(WORDS_SHOWN)),
        voice={name: _spread(side) for name, side in sides.items() if side},
        voice_heard={name: (sum(found), len(found)) for name, found in sorted(heard_of.items())},
        voice_by_speech={name: (sum(found), len(found)) for name, found in by_speech.items() if found},
        live_kinds=dict(Counter(min(kinds, key=kinds.__getitem__) for kinds in kinds_of)),
    )


def edited(text: str, transcript: str) -> tuple[Counter[str], list[str]]:
    """What it takes to make `transcript`, redacted, of `text`: how often each kind of edit, and the words of
    `text` that were hit. A mark stands for as many words as lie across from it, or for one beside them."""
    meant, heard = normalise(text), _marked(transcript)
    kinds: Counter[str] = Counter()
    hit: list[str] = []
    for op, a, b, c, d in SequenceMatcher(None, meant, heard, autojunk=False).get_opcodes():
        across = 0 if op == "equal" else min(b - a, b - a if REDACTED in heard[c:d] else d - c)
        if op != "equal":
            kinds.update({SUBSTITUTED: across, DELETED: b - a - across, INSERTED: max(0, d - c - across)})
            hit += meant[a:b]
    return +kinds, hit


def _marked(transcript: str) -> Tokens:
    """Its words; REDACTED stays where it stands."""
    words: list[str] = []
    for at, part in enumerate(transcript.split(REDACTED)):
        words += ([REDACTED] if at else []) + list(normalise(part))
    return tuple(words)


def _cause(decision: Decision) -> str:
    if decision.opens:
        return IN
    if not decision.findings:
        return f"{NEVER_JUDGED}{decision.code}"
    named = " + ".join(checks_that_failed(decision))
    asked = f"asked again: {decision.code}" if decision.outcome is Outcome.DENIED_QUALITY else ""
    return ", ".join(part for part in (named, asked) if part)


def checks_that_failed(decision: Decision) -> tuple[str, ...]:
    """By name, each once; the evidence for joins, which mostly asks for one more phrase, is named apart from
    the live check that it is a part of."""
    failed = [one for one in decision.findings if not one.passed]
    return tuple(dict.fromkeys(JOINS if one.part == "joins_llr" else one.factor.value for one in failed))


def _factors(decision: Decision) -> tuple[Factor, ...]:
    """The factors that failed, each once."""
    return tuple(dict.fromkeys(finding.factor for finding in decision.findings if not finding.passed))


def _checked(factor: Factor, found: Sequence[Knocked]) -> Checked:
    short = [_short(one.decision.findings, factor) for one in found]
    return Checked(
        refused=len(found),
        alone=sum(_factors(one.decision) == (factor,) for one in found),
        people=len({one.speaker for one in found}),
        short_by=dict(Counter(_class(llr) for llr in sorted(short))),
        groups=dict(Counter(one.group for one in found).most_common()),
    )


def _short(findings: Sequence[Finding], factor: Factor) -> float:
    return max(f.threshold_llr - f.llr for f in findings if f.factor is factor and not f.passed)


def _class(llr: float) -> str:
    end = next((end for end in SHORT_BY_LLR if llr <= end), None)
    return f"over {SHORT_BY_LLR[-1]:g}" if end is None else f"up to {end:g}"


def _spread(side: Sequence[Evidence]) -> Spread:
    of: list[Callable[[Evidence], float]] = [
        lambda one: math.nan if one.speaker_llr is None else one.speaker_llr,
        lambda one: one.quality.snr_db,
        lambda one: one.quality.speech_s,
        lambda one: one.quality.decay_db_s,
    ]
    quartiles = [np.nanpercentile([value(one) for one in side], [25, 50, 75]).tolist() for value in of]
    return Spread(*((low, middle, high) for low, middle, high in quartiles))


def _heard_of(quality: Quality, version: str) -> str:
    if version == in_noise.FITTED_ON and quality.snr_db < in_noise.NOISY_SNR_DB:
        return "what stands out of noise"
    return "lively" if quality.decay_db_s < LIVELY_DB_S else "dry"


_SPEECH = ("under 1.8 s", "1.8 to 2.5 s", "2.5 s and more")


def _speech(quality: Quality) -> str:
    return _SPEECH[(quality.speech_s >= 1.8) + (quality.speech_s >= 2.5)]


def cause_lines(condition: str, found: Causes) -> Iterator[str]:
    """As text, for a person who asks where the refusals come from."""
    yield f"{condition}: of {found.phrases} first phrases {_counts(found.together)}"
    for name, one in found.checks.items():
        if one.refused:
            yield (
                f"  {name} refused {one.refused} ({one.alone} alone) of {one.people} people; short by LLR: "
                f"{_counts(one.short_by)}; {_counts(one.groups)}"
            )
    for group, kinds in found.edits.items():
        yield f"  words of {group}: {_counts(kinds)}"
    if found.words:
        yield f"  most often not heard as meant: {_counts(found.words)}"
    for name, spread in found.voice.items():
        yield (
            f"  voice {name}: LLR {_quartiles(spread.llr)}, SNR {_quartiles(spread.snr_db)} dB, speech "
            f"{_quartiles(spread.speech_s)} s, dies away {_quartiles(spread.decay_db_s)} dB/s"
        )
    if found.voice_heard:
        shares = (f"{name} {refused} of {of}" for name, (refused, of) in found.voice_heard.items())
        yield f"  voice refused where it was {', '.join(shares)}"
    if found.voice_by_speech:
        shares = (f"{name} {refused} of {of}" for name, (refused, of) in found.voice_by_speech.items())
        yield f"  voice refused by seconds of speech: {', '.join(shares)}"
    if found.live_kinds:
        yield f"  live refused by {_counts(found.live_kinds)}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _quartiles(values: tuple[float, float, float]) -> str:
    low, middle, high = values
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"
