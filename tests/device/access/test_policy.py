"""From evidence to a decision: what opens, what does not, and what is told to whom."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.access.decision import (
    DEFAULT_FACTORS,
    Factor,
    Notice,
    Outcome,
    Reason,
    RefusalError,
    poor_audio,
    refusal_for,
)
from device.access.policy import Thresholds, counts_on, decide
from device.audio.errors import Flaw, QualityError
from device.audio.utterance import Quality
from device.evidence.judge import Evidence, JudgeError, Timings
from device.liveness.threats.known import Match

GOOD = Quality(speech_s=3.0, snr_db=25.0, clipped_fraction=0.0, level_dbfs=-20.0, bandwidth_hz=7_000.0)


def evidence(
    phrase: float = 8.0, voice: float | None = 8.0, live: float = 4.0, quality: Quality = GOOD
) -> Evidence:
    return Evidence(phrase, voice, live, "", quality, Timings(1.0, 1.0, 1.0, 1.0), ("w1", "s1", "p1"))


def test_the_right_person_with_the_right_words_is_let_in():
    decision = decide(evidence())
    assert decision.opens
    assert (decision.outcome, decision.notice) == (Outcome.GRANTED, Notice.WELCOME)


@pytest.mark.parametrize(
    ("heard", "outcome"),
    [
        (evidence(phrase=-3.0), Outcome.DENIED_PHRASE),
        (evidence(voice=-3.0), Outcome.DENIED_VOICE),
        (evidence(live=-3.0), Outcome.DENIED_SPOOF),
        (evidence(voice=None), Outcome.DENIED_UNKNOWN),
        (None, Outcome.DENIED_FAULT),
    ],
)
def test_one_factor_that_fails_keeps_the_door_locked(heard, outcome):
    decision = decide(heard)
    assert not decision.opens
    assert decision.outcome is outcome
    assert decision.reason


@pytest.mark.parametrize("field", ["phrase", "voice", "live"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_a_finite_number_is_a_fault_and_not_a_pass(field, value):
    decision = decide(evidence(**{field: value}))
    assert (decision.outcome, decision.code) == (Outcome.DENIED_FAULT, Reason.INVALID_EVIDENCE)


@pytest.mark.parametrize("field", ["speech_s", "snr_db", "clipped_fraction", "bandwidth_hz"])
def test_a_quality_that_is_not_a_number_is_refused(field):
    assert not decide(evidence(quality=replace(GOOD, **{field: math.nan}))).opens


@pytest.mark.parametrize(
    ("change", "code", "notice"),
    [
        ({"speech_s": 0.2}, Reason.TOO_LITTLE_SPEECH, Notice.ALL_WORDS),
        ({"snr_db": -2.0}, Reason.TOO_NOISY, Notice.COME_CLOSER),
        ({"clipped_fraction": 0.3}, Reason.CLIPPED, Notice.STEP_BACK),
    ],
)
def test_speech_that_cannot_be_judged_is_asked_again_with_advice_and_counts_as_no_failure(
    change, code, notice
):
    decision = decide(evidence(quality=replace(GOOD, **change)))
    assert (decision.outcome, decision.code, decision.notice) == (Outcome.DENIED_QUALITY, code, notice)
    assert not decision.counts_as_failure


def test_the_log_names_the_gravest_failure_first():
    assert decide(evidence(-1.0, -1.0, -1.0)).outcome is Outcome.DENIED_SPOOF
    assert decide(evidence(-1.0, -1.0, 4.0)).outcome is Outcome.DENIED_VOICE


def test_the_person_at_the_door_cannot_tell_a_failed_voice_from_a_failed_liveness_check():
    assert decide(evidence(voice=-5.0)).notice is decide(evidence(live=-5.0)).notice is Notice.REFUSED


def test_wrong_words_are_told_the_same_way_whatever_else_failed():
    notices = {decide(evidence(-5.0, voice, live)).notice for voice in (8.0, -5.0) for live in (4.0, -5.0)}
    assert notices == {Notice.ALL_WORDS}


def test_a_rule_that_asks_for_nothing_keeps_the_door_locked():
    for nothing in (frozenset(), frozenset({Factor.CLAIM})):
        assert decide(evidence(), required=nothing).code is Reason.EMPTY_RULE


def test_a_door_that_wants_a_claim_refuses_a_stranger_who_shows_none():
    decision = decide(evidence(), claimed=False)
    assert (decision.outcome, decision.code) == (Outcome.DENIED_UNKNOWN, Reason.NO_CLAIM)


def test_a_weak_score_asks_for_one_more_phrase_and_only_once():
    limits = Thresholds(step_up_margin_llr=1.5)
    weak = evidence(voice=2.0)
    assert decide(weak, limits).outcome is Outcome.STEP_UP
    assert decide(weak, limits, before_llr=0.0).outcome is Outcome.DENIED_VOICE
    assert decide(evidence(voice=1.0), limits).outcome is Outcome.DENIED_VOICE
    assert decide(weak).outcome is Outcome.DENIED_VOICE


def test_the_words_of_two_fresh_phrases_add_up_when_only_the_words_of_the_first_fell_short():
    limits = Thresholds(step_up_margin_llr=2.0)
    first = decide(evidence(phrase=1.25), limits)
    assert (first.outcome, counts_on(first)) == (Outcome.STEP_UP, 1.25)
    passed = decide(evidence(phrase=0.75), limits, before_llr=counts_on(first))
    assert passed.opens
    words = next(finding for finding in passed.findings if finding.factor is Factor.PHRASE)
    assert (words.llr, words.before_llr) == (2.0, 1.25)
    assert decide(evidence(phrase=0.5), limits, before_llr=1.25).outcome is Outcome.DENIED_PHRASE
    assert decide(evidence(phrase=1.9), limits).outcome is Outcome.STEP_UP  # alone it is still too little


def test_a_second_phrase_must_be_of_the_right_voice_and_live_by_itself():
    limits = Thresholds(step_up_margin_llr=2.0)
    for second in (evidence(phrase=1.9, voice=2.9), evidence(phrase=1.9, live=-0.1)):
        assert not decide(second, limits, before_llr=1.9).opens


@pytest.mark.parametrize(
    "first",
    [evidence(phrase=1.0, voice=2.0), evidence(phrase=1.0, live=-0.5), evidence(phrase=9.0, voice=2.0)],
)
def test_words_of_a_voice_or_a_source_in_doubt_count_nothing_later(first):
    asked = decide(first, Thresholds(step_up_margin_llr=2.0))
    assert (asked.outcome, counts_on(asked)) == (Outcome.STEP_UP, 0.0)


def test_evidence_against_the_words_of_the_first_phrase_is_not_forgotten():
    limits = Thresholds(step_up_margin_llr=4.0)
    asked = decide(evidence(phrase=-1.5), limits)
    assert asked.outcome is Outcome.STEP_UP
    assert not decide(evidence(phrase=3.4), limits, before_llr=counts_on(asked)).opens
    assert decide(evidence(phrase=3.5), limits, before_llr=counts_on(asked)).opens


def test_no_sum_makes_a_number_of_what_is_none():
    for broken in (math.nan, math.inf, -math.inf):
        decision = decide(evidence(phrase=broken), before_llr=1.9)
        assert decision.code is Reason.INVALID_EVIDENCE


def test_a_person_who_does_not_say_the_phrases_gains_no_more_from_two_than_one_could_give():
    """Calibrated LLRs of wrong phrases, drawn at random: Wald's bound holds for the whole of an attempt."""
    dice, limits = random.Random(5), Thresholds(step_up_margin_llr=6.0)
    # Gaussian scores with mean -d/2 and variance d are calibrated LLRs of what is not so.
    opened, tries = 0, 20_000
    for _ in range(tries):
        first = decide(evidence(phrase=dice.gauss(-2.0, 2.0)), limits)
        if first.outcome is Outcome.STEP_UP:
            second = evidence(phrase=dice.gauss(-2.0, 2.0))
            opened += decide(second, limits, before_llr=counts_on(first)).opens
        opened += first.opens
    assert opened / tries < math.exp(-limits.phrase_llr)


def test_whatever_goes_wrong_in_the_judge_is_a_denial_with_a_reason():
    for error in (JudgeError("a check failed"), RuntimeError("boom"), MemoryError(), KeyError("x")):
        decision = refusal_for(error)
        assert decision.outcome is Outcome.DENIED_FAULT
        assert not decision.opens
        assert decision.reason


@pytest.mark.parametrize("flaw", [Flaw.SILENCE, Flaw.TOO_SHORT, Flaw.CLIPPED, Flaw.TOO_NOISY])
def test_what_the_ears_refuse_is_told_with_advice_and_counts_as_no_failure(flaw):
    decision = refusal_for(QualityError(flaw, "say it again"))
    assert decision.outcome is Outcome.DENIED_QUALITY
    assert decision.notice in {Notice.COME_CLOSER, Notice.ALL_WORDS, Notice.STEP_BACK, Notice.TOO_NOISY}
    assert not decision.counts_as_failure


def test_lost_sound_is_nobodys_fault_at_the_door_and_has_a_word_of_its_own_in_the_log():
    decision = refusal_for(QualityError(Flaw.GAP, "part of that was lost"))
    assert (decision.outcome, decision.code) == (Outcome.DENIED_QUALITY, Reason.SOUND_LOST)
    assert decision.notice is Notice.PART_LOST  # not "say all the words": they did
    assert not decision.counts_as_failure


def test_an_unexpected_exception_does_not_carry_its_text_into_the_log():
    assert "sesame" not in refusal_for(RuntimeError("heard sesame")).reason


def test_a_refusal_that_knows_its_decision_keeps_it():
    decision = poor_audio(Reason.UNUSABLE_AUDIO, "silence")
    assert refusal_for(RefusalError(decision)) is decision


@pytest.mark.parametrize(
    "wrong", [{"voice_llr": math.nan}, {"live_llr": -math.inf}, {"step_up_margin_llr": -1.0}]
)
def test_thresholds_that_would_pass_everything_are_refused(wrong):
    with pytest.raises(ValueError):
        Thresholds(**wrong)


any_score = st.floats(allow_nan=True, allow_infinity=True)


@given(
    any_score,
    st.none() | any_score,
    any_score,
    st.frozensets(st.sampled_from(sorted(Factor))),
    st.booleans(),
    st.builds(Quality, any_score, any_score, any_score, any_score, any_score),
)
def test_no_evidence_whatever_opens_a_door_unless_every_required_factor_passed(
    phrase, voice, live, required, claimed, quality
):
    limits = Thresholds()
    decision = decide(evidence(phrase, voice, live, quality), limits, required=required, claimed=claimed)
    if not decision.opens:
        return
    assert required - {Factor.CLAIM}
    assert claimed or Factor.CLAIM not in required
    assert Factor.PHRASE not in required or limits.phrase_llr <= phrase < math.inf
    assert Factor.VOICE not in required or (voice is not None and limits.voice_llr <= voice < math.inf)
    assert Factor.LIVE not in required or limits.live_llr <= live < math.inf


def test_every_factor_is_required_unless_a_rule_says_otherwise():
    assert frozenset(Factor) == DEFAULT_FACTORS


WARNED = Match(campaign=7, likeness=0.9)


def test_what_resembles_a_known_attack_is_asked_for_one_more_phrase_and_then_let_in():
    asked = decide(replace(evidence(), threat=WARNED))
    assert (asked.outcome, asked.code) == (Outcome.STEP_UP, Reason.KNOWN_ATTACK)
    assert not asked.counts_as_failure
    assert counts_on(asked) == 0.0
    assert decide(replace(evidence(), threat=WARNED), before_llr=0.0).opens
    assert decide(evidence(), before_llr=0.0).opens


def test_it_has_to_be_surer_of_a_live_person_by_no_more_than_one():
    just = replace(evidence(live=0.5), threat=WARNED)
    assert decide(just).outcome is Outcome.STEP_UP
    assert decide(just, before_llr=0.0).outcome is Outcome.DENIED_SPOOF
    assert decide(replace(just, spoof_llr=1.0), before_llr=0.0).opens


def test_a_door_that_does_not_ask_for_a_live_person_is_not_warned():
    required = DEFAULT_FACTORS - {Factor.LIVE}
    assert decide(replace(evidence(), threat=WARNED), required=required).opens


@given(
    st.floats(-20, 20), st.floats(-20, 20), st.floats(-20, 20), st.sampled_from([None, 0.0]), st.floats(0, 3)
)
def test_a_warning_never_opens_a_door_and_never_denies_at_the_first_phrase(
    phrase, voice, live, before_llr, margin
):
    heard, limits = evidence(phrase, voice, live), Thresholds(step_up_margin_llr=margin)
    plain = decide(heard, limits, before_llr=before_llr)
    warned = decide(replace(heard, threat=WARNED), limits, before_llr=before_llr)
    assert plain.opens or not warned.opens
    if plain.opens and before_llr is None:
        assert warned.outcome is Outcome.STEP_UP
    if plain.opens and live >= 1.0 and before_llr is not None:
        assert warned.opens
