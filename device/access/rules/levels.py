"""Security levels by name, from which risk classes start, so that nobody has to choose log-likelihood ratios.

`docs/evaluation/attempts.md` says what each costs the right people and lets in.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from device.access.challenge import ChallengeSettings
from device.access.memory.remembered import LIMITS_WITH_LIVENESS, AttemptLimits
from device.access.policy import Thresholds
from device.access.rules.model import RiskClass

LEVELS: Mapping[str, RiskClass] = MappingProxyType(
    {
        "standard": RiskClass(
            "standard",
            thresholds=Thresholds(live_llr=0.8, step_up_margin_llr=2.0),
            attempts=LIMITS_WITH_LIVENESS,
        ),
        "drugs": RiskClass(
            "drugs",
            thresholds=Thresholds(phrase_llr=3.0, voice_llr=4.6, live_llr=1.2, step_up_margin_llr=2.0),
            attempts=AttemptLimits(free_failures=3, first_wait_s=60.0, disable_after=20),
            challenge=ChallengeSettings(words=6, lifetime_s=15.0),
            voices_follow=False,
        ),
        "max": RiskClass(
            "max",
            thresholds=Thresholds(phrase_llr=4.0, voice_llr=6.0, live_llr=2.3, step_up_margin_llr=2.0),
            attempts=AttemptLimits(free_failures=2, first_wait_s=120.0, disable_after=10),
            challenge=ChallengeSettings(words=7, lifetime_s=15.0),
            identify_margin_llr=4.0,
            voices_follow=False,
        ),
    }
)
"""All ask for claim, phrase, voice and live."""

MEANT_FOR: Mapping[str, str] = MappingProxyType(
    {
        "standard": "wards, changing rooms, stores: people come often and with their hands full",
        "drugs": "medicine rooms and records: a second phrase now and then is accepted",
        "max": "controlled drugs, server rooms: few people, no hurry, another person beside them if possible",
    }
)

COSTS: Mapping[str, str] = MappingProxyType(
    {
        "standard": "about 1 right person in 7 says a second phrase",
        "drugs": "about 1 right person in 6 says a second phrase",
        "max": "about 2 right people in 5 say a second phrase, and 1 in 7 is not in after two",
    }
)
"""Measured on read speech in quiet: docs/evaluation/attempts.md has the counts."""


def asked(risk: RiskClass) -> dict[str, Any]:
    """What a risk class asks for, for a program to read."""
    limits, phrase, tries = risk.thresholds, risk.challenge, risk.attempts
    return {
        "factors": sorted(str(factor) for factor in risk.factors),
        "phrase_llr": limits.phrase_llr,
        "voice_llr": limits.voice_llr,
        "live_llr": limits.live_llr,
        "words": phrase.words,
        "answer_within_s": phrase.lifetime_s,
        "free_failures": tries.free_failures,
        "first_wait_s": tries.first_wait_s,
        "disable_after": tries.disable_after,
    }


def told(risk: RiskClass) -> str:
    """What `asked` says, in one sentence."""
    facts = asked(risk)
    return (
        "{words} fresh words within {answer_within_s:g} s; LLR of at least {phrase_llr:g} for the words, "
        "{voice_llr:g} for the voice, {live_llr:g} for a live person; after {free_failures} failures a "
        "wait of {first_wait_s:g} s, after {disable_after} only an admin helps"
    ).format(**facts)
