"""Which checks are named as the cause of a refusal, and what is said of each."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from device.access.rules.levels import LEVELS
from device.access.weigh import weigh
from device.audio import Flaw, QualityError
from device.audio.utterance import Quality
from device.evidence.judge import Evidence, Timings
from device.evidence.voice.in_noise import FITTED_ON
from device.liveness import ContextEvidence
from quantize.evaluate.door.causes import (
    DELETED,
    INSERTED,
    SUBSTITUTED,
    Causes,
    Knocked,
    cause_lines,
    causes,
    edited,
)

QUIET = Quality(2.0, 30.0, 0.0, -20.0, 7_500.0)
LIVELY = Quality(2.0, 30.0, 0.0, -20.0, 7_500.0, decay_db_s=120.0)
NOISY = Quality(2.0, 12.0, 0.0, -20.0, 7_500.0)


def knocked(
    words: float = 5.0,
    voice: float = 8.0,
    live: float = 4.0,
    *,
    who: str = "ann",
    group: str = "native",
    transcript: str = "one two three",
    quality: Quality = QUIET,
) -> Knocked:
    heard = Evidence(
        phrase_llr=words,
        speaker_llr=voice,
        spoof_llr=live,
        transcript=transcript,
        quality=quality,
        timings=Timings(0.0, 0.0, 0.0, 0.0),
        live_kinds={"synthetic_llr": live, "loudspeaker_llr": live + 1.0},
    )
    return Knocked(who, group, "one two three", heard, weigh(heard, LEVELS["standard"], claimed=True))


def in_doubt(joins: float, live: float = 4.0) -> Knocked:
    one = knocked(live=live)
    assert one.heard is not None
    heard = replace(one.heard, context=ContextEvidence(joins_llr=joins))
    return replace(one, heard=heard, decision=weigh(heard, LEVELS["standard"], claimed=True))


def turned_away() -> Knocked:
    refusal = QualityError(Flaw.TOO_NOISY, "too noisy")
    return Knocked("ann", "native", "one two three", None, weigh(refusal, LEVELS["standard"], claimed=True))


@pytest.fixture
def found() -> Causes:
    return causes(
        [
            knocked(),
            knocked(words=1.5, transcript="one … three"),
            knocked(voice=0.5, who="bob", quality=LIVELY),
            knocked(words=-6.0, voice=-2.0, group="accented", transcript="one …"),
            knocked(live=-3.0, quality=NOISY),
            turned_away(),
        ],
        FITTED_ON,
    )


def test_every_first_phrase_has_one_cause_and_those_that_failed_together_are_named_together(
    found: Causes,
) -> None:
    assert found.phrases == sum(found.together.values()) == 6
    assert found.together["in"] == 1
    assert found.together["phrase"] == found.together["voice"] == found.together["live"] == 1
    assert found.together["voice + phrase"] == 1
    assert found.together["not judged: too_noisy"] == 1


def test_a_phrase_that_was_asked_again_though_no_check_refused_is_named_by_the_reason_alone() -> None:
    short = replace(QUIET, snr_db=5.0)
    assert [*causes([knocked(quality=short)], FITTED_ON).together] == ["asked again: unknown_condition"]


def test_a_check_counts_its_refusals_alone_and_by_how_much_they_fell_short(found: Causes) -> None:
    phrase = found.checks["phrase"]
    assert (phrase.refused, phrase.alone, phrase.people) == (2, 1, 1)
    assert phrase.short_by == {"up to 1": 1, "over 4": 1}
    assert phrase.groups == {"native": 1, "accented": 1}
    assert found.checks["voice"].short_by == {"up to 4": 1, "over 4": 1}
    assert found.live_kinds == {"synthetic_llr": 1}


def test_words_are_told_by_group_as_heard_otherwise_missing_or_beside_the_phrase(found: Causes) -> None:
    assert found.edits == {"accented": {SUBSTITUTED: 2}, "native": {SUBSTITUTED: 1}}
    assert found.words == {"2": 2, "3": 1}


def test_the_voice_is_told_by_what_was_heard_of_it(found: Causes) -> None:
    assert found.voice_heard == {"dry": (1, 3), "lively": (1, 1), "what stands out of noise": (0, 1)}
    assert found.voice_by_speech == {"1.8 to 2.5 s": (2, 5)}
    assert found.voice["refused"].llr[1] == pytest.approx(-0.75)
    assert found.voice["passed"].snr_db[1] == 30.0


@pytest.mark.parametrize(
    ("transcript", "kinds"),
    [
        ("one two three", {}),
        ("one three", {DELETED: 1}),
        ("one … three", {SUBSTITUTED: 1}),
        ("… one two three", {INSERTED: 1}),
        ("one two three four", {INSERTED: 1}),
        ("…", {SUBSTITUTED: 3}),
        ("", {DELETED: 3}),
    ],
)
def test_edits_of_a_redacted_transcript(transcript: str, kinds: dict[str, int]) -> None:
    assert edited("one two three", transcript)[0] == kinds


def test_the_lines_say_all_of_it_and_nothing_where_nobody_was_judged(found: Causes) -> None:
    lines = "\n".join(cause_lines("clean", found))
    for part in (
        "of 6 first phrases",
        "voice + phrase 1",
        "lively 1 of 1",
        "synthetic_llr 1",
        "substituted 2",
    ):
        assert part in lines
    bare = causes([turned_away()], FITTED_ON)
    assert [*cause_lines("clean", bare)] == ["clean: of 1 first phrases not judged: too_noisy 1"]
    assert not any(math.isnan(value) for spread in found.voice.values() for value in spread.llr)


def test_a_doubt_about_joins_is_named_apart_from_the_live_check_and_blames_no_kind_of_its_evidence() -> None:
    found = causes([in_doubt(-1.0), in_doubt(-1.0, live=-3.0), in_doubt(5.0)], FITTED_ON)
    assert found.together == {"joins": 1, "live + joins": 1, "in": 1}
    assert found.checks["live"].refused == 2
    assert found.live_kinds == {"synthetic_llr": 1}
