"""What the policy makes of the evidence beside the network, and of sound that no detector could judge."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from device.access.decision import Factor, Notice, Outcome, Reason
from device.access.policy import Thresholds, counts_on, decide
from device.access.rules.load import RulesError, parse_rules
from device.audio.utterance import Quality
from device.evidence.judge import Evidence
from device.liveness import ContextEvidence
from device.liveness.threats.known import Match
from tests.device.door_world import GOOD, evidence


def beside(**scores: float | None) -> Evidence:
    return replace(evidence(), context=ContextEvidence(**scores))  # type: ignore[arg-type]


def test_a_recording_that_was_heard_before_is_refused_whatever_else_is_right() -> None:
    decision = decide(beside(reuse_llr=-0.1))
    assert decision.outcome is Outcome.DENIED_REPLAY
    assert decision.code is Reason.HEARD_BEFORE
    assert decision.counts_as_failure
    assert not decision.opens


def test_a_playback_looks_like_any_other_failed_voice_at_the_door() -> None:
    assert decide(beside(reuse_llr=-9.0)).notice is decide(evidence(voice=-9.0)).notice


def test_a_playback_just_below_the_threshold_gets_no_second_phrase() -> None:
    limits = Thresholds(step_up_margin_llr=3.0)
    assert decide(beside(reuse_llr=-0.1), limits).outcome is Outcome.DENIED_REPLAY


def test_the_log_names_a_playback_before_anything_else() -> None:
    both = replace(evidence(live=-5.0, voice=-5.0), context=ContextEvidence(reuse_llr=-5.0))
    assert decide(both).code is Reason.HEARD_BEFORE


def test_a_new_utterance_passes_and_its_finding_has_a_name() -> None:
    decision = decide(beside(reuse_llr=4.0))
    assert decision.opens
    assert [finding.name for finding in decision.findings] == ["reuse_llr", "live", "voice", "phrase"]


def test_one_voice_throughout_counts_only_where_the_rules_ask_for_it() -> None:
    poor = beside(consistency_llr=-2.0)
    assert decide(poor).opens
    asked = decide(poor, Thresholds(consistency_llr=-1.0))
    assert (asked.outcome, asked.code) == (Outcome.DENIED_SPOOF, Reason.VOICE_CHANGES)
    assert decide(poor, Thresholds(consistency_llr=-3.0)).opens


def test_an_answer_pasted_from_pieces_is_refused_by_default_and_named() -> None:
    decision = decide(beside(joins_llr=Thresholds().joins_llr - 0.1))
    assert (decision.outcome, decision.code) == (Outcome.DENIED_SPOOF, Reason.PASTED)
    assert decision.counts_as_failure
    assert decision.notice is decide(evidence(voice=-9.0)).notice, "the door is no oracle"
    assert decide(beside(joins_llr=3.0)).opens
    assert decide(beside(joins_llr=-3.0), Thresholds(joins_llr=None)).opens


STEPPING = Thresholds(step_up_margin_llr=2.0)
BAR = STEPPING.joins_llr or 0.0
CLEAR = BAR + STEPPING.joins_doubt_llr


def test_an_answer_that_may_have_been_pasted_is_followed_by_one_more_which_is_doubted_no_longer() -> None:
    for doubtful in (BAR, CLEAR - 0.01):
        first = decide(beside(joins_llr=doubtful), STEPPING)
        assert (first.outcome, first.code, first.notice) == (
            Outcome.STEP_UP,
            Reason.WEAK_SCORE,
            Notice.ONE_MORE,
        )
        assert counts_on(first) == 0.0
        assert decide(beside(joins_llr=doubtful), STEPPING, before_llr=0.0).opens
    assert decide(beside(joins_llr=CLEAR), STEPPING).opens
    for before_llr in (None, 0.0):
        pasted = decide(beside(joins_llr=BAR - 0.01), STEPPING, before_llr=before_llr)
        assert (pasted.code, pasted.counts_as_failure) == (Reason.PASTED, True)


def test_where_no_second_phrase_is_asked_nobody_is_refused_for_a_doubt() -> None:
    assert decide(beside(joins_llr=BAR)).opens
    assert decide(beside(joins_llr=BAR), Thresholds(step_up_margin_llr=2.0, joins_doubt_llr=0.0)).opens
    assert decide(beside(joins_llr=-3.0), Thresholds(step_up_margin_llr=2.0, joins_llr=None)).opens


def test_another_voice_or_other_words_beside_a_doubt_are_named_and_no_paste() -> None:
    other = replace(beside(joins_llr=BAR), speaker_llr=-5.0)
    assert decide(other, STEPPING).code is Reason.OTHER_VOICE
    wrong = replace(beside(joins_llr=BAR), phrase_llr=-5.0)
    assert decide(wrong, STEPPING, before_llr=0.0).code is Reason.WRONG_WORDS
    assert decide(replace(beside(joins_llr=BAR - 0.01), phrase_llr=-5.0), STEPPING).code is Reason.PASTED


def test_a_doubt_refuses_nobody_who_would_have_passed_or_been_asked_once_more_without_it() -> None:
    hummed, breathy = replace(GOOD, steady_lines=20), replace(GOOD, whispered_s=2.0)
    clear, doubtful = beside(joins_llr=CLEAR), beside(joins_llr=BAR)
    for more in ({"quality": hummed}, {"quality": breathy}, {"coughs": 1}):
        assert decide(replace(clear, **more), STEPPING).opens
        assert decide(replace(doubtful, **more), STEPPING).code is Reason.WEAK_SCORE
    warned = {"spoof_llr": 0.1, "threat": Match(campaign=7, likeness=0.9)}
    small = replace(STEPPING, step_up_margin_llr=0.5)
    for one in (clear, doubtful):
        assert decide(replace(one, **warned), small).code is Reason.KNOWN_ATTACK


def test_the_log_says_what_a_pasted_answer_needed_to_be_asked_for_one_more() -> None:
    assert f"{BAR:+.1f} needed" in decide(beside(joins_llr=BAR - 1.0), STEPPING).reason


@pytest.mark.parametrize(("joins_llr", "doubt_llr"), [(0.1, 0.3), (-1.1, 2.2), (0.7, 0.1)])
def test_a_score_at_the_bar_itself_is_asked_once_more_whatever_rounding_does(
    joins_llr: float, doubt_llr: float
) -> None:
    limits = Thresholds(step_up_margin_llr=2.0, joins_llr=joins_llr, joins_doubt_llr=doubt_llr)
    assert decide(beside(joins_llr=joins_llr), limits).outcome is Outcome.STEP_UP


def test_evidence_that_could_not_be_looked_at_is_not_held_against_the_person() -> None:
    limits = Thresholds(consistency_llr=0.0)
    assert decide(beside(reuse_llr=3.0), limits).opens


def test_a_further_score_that_is_no_number_keeps_the_door_locked() -> None:
    sick = decide(beside(reuse_llr=math.nan))
    assert (sick.code, sick.reason) == (
        Reason.INVALID_EVIDENCE,
        "a check returned something that is not a number",
    )


def test_where_live_is_not_asked_nothing_beside_it_is() -> None:
    decision = decide(beside(reuse_llr=-9.0), required=frozenset({Factor.VOICE, Factor.PHRASE}))
    assert decision.opens


@pytest.mark.parametrize(
    ("change", "notice"),
    [
        ({"snr_db": 5.0}, Notice.COME_CLOSER),
        ({"bandwidth_hz": 2_500.0}, Notice.COME_CLOSER),
        ({"speech_s": 0.55}, Notice.ALL_WORDS),
    ],
)
def test_where_the_detector_cannot_know_the_door_asks_again_and_counts(
    change: dict[str, float], notice: Notice
) -> None:
    decision = decide(evidence(live=12.0, quality=replace(GOOD, **change)))  # type: ignore[arg-type]
    assert (decision.outcome, decision.code) == (Outcome.DENIED_QUALITY, Reason.UNKNOWN_CONDITION)
    assert decision.notice is notice
    assert decision.counts_as_failure
    assert {finding.factor for finding in decision.findings} == {Factor.PHRASE, Factor.VOICE, Factor.LIVE}


def test_what_the_detector_guesses_is_no_reason_to_accuse_anybody() -> None:
    noisy = replace(GOOD, snr_db=5.0)
    assert decide(evidence(live=-9.0, quality=noisy)).code is Reason.UNKNOWN_CONDITION
    assert decide(evidence(live=-9.0, voice=-9.0, quality=noisy)).code is Reason.OTHER_VOICE
    margin = Thresholds(step_up_margin_llr=6.0)
    assert decide(evidence(phrase=1.0, quality=noisy), margin).code is Reason.WRONG_WORDS


def test_a_playback_in_noise_is_still_called_a_playback() -> None:
    noisy = replace(beside(reuse_llr=-5.0), quality=replace(GOOD, snr_db=4.0))
    assert decide(noisy).code is Reason.HEARD_BEFORE


def test_an_operating_point_is_taken_by_name_from_the_detector_that_scored() -> None:
    heard = replace(evidence(live=1.5), operating_points={"bpcer_1": 1.0, "bpcer_3": 2.0})
    assert decide(heard, Thresholds(live_point="bpcer_1")).opens
    strict = decide(heard, Thresholds(live_point="bpcer_3"))
    assert strict.code is Reason.NOT_LIVE
    assert strict.findings[0].threshold_llr == 2.0


def test_an_operating_point_that_the_detector_does_not_have_keeps_the_door_locked() -> None:
    decision = decide(evidence(), Thresholds(live_point="bpcer_5"))
    assert decision.outcome is Outcome.DENIED_FAULT


RULES = """
version = 1
[risks.drugs]
thresholds = { %s }
[zones.pharmacy]
[doors.pharmacy]
zone = "pharmacy"
risk = "drugs"
[[allow]]
roles = ["enrolled"]
"""


def test_rules_name_operating_points_and_thresholds_beside_the_network() -> None:
    rules = parse_rules(RULES % 'live = "bpcer_3", reuse_llr = 2.0, consistency_llr = -1.0')
    limits = rules.risks["drugs"].thresholds
    assert (limits.live_point, limits.reuse_llr, limits.consistency_llr) == ("bpcer_3", 2.0, -1.0)
    assert Thresholds().consistency_llr is None


@pytest.mark.parametrize(
    "wrong", ['live = "bpcer_4"', 'live = "bpcer_3", live_llr = 1.0', "reuse_llr = 99.0"]
)
def test_rules_that_contradict_themselves_or_name_nothing_are_mistakes(wrong: str) -> None:
    with pytest.raises(RulesError) as caught:
        parse_rules(RULES % wrong)
    assert len(caught.value.mistakes) == 1


ALARMED = replace(GOOD, steady_lines=20)


def test_what_lay_over_the_speech_is_asked_again_and_is_nobody_s_attack() -> None:
    decision = decide(evidence(live=-5.0, quality=ALARMED))
    assert (decision.outcome, decision.code) == (Outcome.DENIED_QUALITY, Reason.DISTURBED)
    assert decision.notice is Notice.NOISE_OVER_WORDS
    assert not decision.counts_as_failure
    assert decision.excused


def test_a_noise_opens_nothing_and_refuses_nobody_who_passes() -> None:
    assert decide(evidence(quality=ALARMED)).opens
    for live, voice, phrase in ((-5.0, 8.0, 8.0), (4.0, -5.0, 8.0), (4.0, 8.0, -5.0), (-5.0, -5.0, -5.0)):
        assert not decide(evidence(live=live, voice=voice, phrase=phrase, quality=ALARMED)).opens


def test_another_voice_in_a_noise_counts_and_is_told_the_same() -> None:
    other = decide(evidence(live=-5.0, voice=-5.0, quality=ALARMED))
    assert (other.code, other.counts_as_failure) == (Reason.NOT_LIVE, True)
    assert other.notice is decide(evidence(live=-5.0, quality=ALARMED)).notice, "the door is no oracle"


@pytest.mark.parametrize("quality", [ALARMED, replace(GOOD, filled=True)], ids=["tones", "filled blocks"])
def test_what_lay_over_the_speech_never_tells_whether_voice_or_liveness_failed(quality: Quality) -> None:
    voice_alone = decide(evidence(voice=-5.0, quality=quality))
    assert (voice_alone.code, voice_alone.counts_as_failure) == (Reason.OTHER_VOICE, True)
    both = decide(evidence(live=-5.0, voice=-5.0, quality=quality))
    live_alone = decide(evidence(live=-5.0, quality=quality))
    assert voice_alone.notice is both.notice is live_alone.notice is Notice.NOISE_OVER_WORDS


def test_clicks_without_which_it_would_be_live_are_asked_again_and_open_nothing() -> None:
    clicking = replace(evidence(live=-5.0), unclicked_llr=1.0)
    decision = decide(clicking)
    assert (decision.outcome, decision.code) == (Outcome.DENIED_QUALITY, Reason.DISTURBED)
    assert decision.excused
    assert "clicks" in decision.reason


def test_lost_blocks_that_a_driver_filled_are_asked_again_and_open_nothing() -> None:
    filled = replace(GOOD, filled=True)
    assert decide(evidence(quality=filled)).opens
    decision = decide(evidence(live=-5.0, quality=filled))
    assert (decision.outcome, decision.code, decision.excused) == (
        Outcome.DENIED_QUALITY,
        Reason.DISTURBED,
        True,
    )
    assert decide(evidence(live=-5.0, voice=-5.0, quality=filled)).counts_as_failure
    assert decide(replace(beside(reuse_llr=-5.0), quality=filled)).code is Reason.HEARD_BEFORE


def test_clicks_excuse_nobody_who_is_not_live_without_them_either() -> None:
    for unclicked_llr in (-0.1, math.nan, None):
        refused = decide(replace(evidence(live=-5.0), unclicked_llr=unclicked_llr))
        assert (refused.code, refused.counts_as_failure) == (Reason.NOT_LIVE, True)
    pasted = replace(beside(joins_llr=-9.0), unclicked_llr=12.0)
    assert decide(pasted).code is Reason.PASTED
    heard = replace(beside(reuse_llr=-9.0), unclicked_llr=12.0)
    assert decide(heard).code is Reason.HEARD_BEFORE
    other = replace(evidence(live=-5.0, voice=-5.0), unclicked_llr=12.0)
    assert decide(other).counts_as_failure


def test_a_cough_that_is_taken_for_a_join_is_asked_again_with_a_hint_and_opens_nothing() -> None:
    coughing = beside(joins_llr=-6.0, uncoughed_llr=1.0)
    decision = decide(coughing)
    assert (decision.outcome, decision.code) == (Outcome.DENIED_QUALITY, Reason.DISTURBED)
    assert decision.notice is Notice.NOISE_OVER_WORDS
    assert decision.excused
    assert "a cough" in decision.reason
    assert decide(replace(coughing, phrase_llr=-5.0)).code is Reason.DISTURBED, "it covered words, too"
    bar = Thresholds().joins_llr
    assert decide(beside(joins_llr=-6.0, uncoughed_llr=bar)).code is Reason.DISTURBED


def test_a_cough_excuses_no_pasted_answer_no_machine_no_playback_and_no_other_voice() -> None:
    for uncoughed_llr in (-2.6, math.nan, None):
        refused = decide(beside(joins_llr=-6.0, uncoughed_llr=uncoughed_llr))
        assert (refused.code, refused.counts_as_failure) == (Reason.PASTED, True)
    coughing = beside(joins_llr=-6.0, uncoughed_llr=12.0)
    assert decide(replace(coughing, spoof_llr=-5.0)).code is Reason.NOT_LIVE
    assert decide(replace(coughing, speaker_llr=-5.0)).counts_as_failure
    played = beside(joins_llr=-6.0, uncoughed_llr=12.0, reuse_llr=-9.0)
    assert decide(played).code is Reason.HEARD_BEFORE


def test_words_that_a_cough_covered_are_asked_again_and_wrong_words_count() -> None:
    covered = replace(evidence(phrase=-5.0), coughs=1)
    assert decide(covered).code is Reason.DISTURBED
    assert not decide(covered).opens
    assert decide(evidence(phrase=-5.0)).code is Reason.WRONG_WORDS
    assert decide(replace(covered, speaker_llr=-5.0)).code is Reason.OTHER_VOICE
    assert decide(replace(covered, spoof_llr=-5.0)).code is Reason.NOT_LIVE
    assert decide(replace(evidence(), coughs=2)).opens


def test_a_steady_tone_covers_no_words() -> None:
    assert decide(evidence(phrase=-5.0, quality=ALARMED)).code is Reason.WRONG_WORDS


def test_a_playback_in_a_noise_is_still_a_playback() -> None:
    heard = replace(beside(reuse_llr=-5.0), quality=ALARMED)
    assert decide(heard).code is Reason.HEARD_BEFORE
    assert decide(heard).counts_as_failure


def test_a_whisper_that_falls_short_is_told_to_speak_aloud_and_a_creaky_voice_that_passes_is_not() -> None:
    breathy = replace(GOOD, whispered_s=2.0)
    assert decide(evidence(quality=breathy)).opens
    for live, voice in ((-5.0, 8.0), (4.0, -5.0)):
        decision = decide(evidence(live=live, voice=voice, quality=breathy))
        assert (decision.code, decision.notice) == (Reason.WHISPERED, Notice.SPEAK_ALOUD)
        assert decision.excused
        assert not decision.counts_as_failure
    assert decide(replace(beside(reuse_llr=-5.0), quality=breathy)).code is Reason.HEARD_BEFORE


def test_six_exact_pitches_lie_over_speech_and_five_do_not() -> None:
    six, five = (decide(evidence(live=-5.0, quality=replace(GOOD, steady_lines=lines))) for lines in (6, 5))
    assert (six.code, six.reason) == (
        Reason.DISTURBED,
        "a sound of 6 exact pitches lay over the speech, so it cannot be judged",
    )
    assert five.code is Reason.NOT_LIVE
    filled = decide(evidence(live=-5.0, quality=replace(GOOD, filled=True)))
    assert (
        filled.reason == "something in the place of lost blocks lay over the speech, so it cannot be judged"
    )


def test_half_a_band_beside_a_buzz_is_told_as_the_buzz_and_excuses_no_other_voice() -> None:
    half = replace(GOOD, bandwidth_hz=2_500.0)
    buzzing = replace(half, steady_lines=20)
    told = decide(evidence(quality=buzzing))
    assert (told.code, told.notice) == (Reason.DISTURBED, Notice.NOISE_OVER_WORDS)
    assert decide(evidence(quality=half)).code is Reason.UNKNOWN_CONDITION
    other = decide(evidence(voice=-5.0, quality=buzzing))
    assert other.code is Reason.OTHER_VOICE
    assert other.counts_as_failure


@pytest.mark.parametrize(
    "heard",
    [
        evidence(),
        evidence(quality=replace(GOOD, bandwidth_hz=2_500.0)),
        evidence(quality=replace(GOOD, bandwidth_hz=2_500.0, steady_lines=20)),
        evidence(live=-1.0, quality=replace(GOOD, whispered_s=2.0)),
        evidence(live=-5.0, quality=replace(GOOD, steady_lines=20)),
        replace(evidence(phrase=-5.0), coughs=1),
        evidence(voice=-5.0),
    ],
)
def test_whatever_is_decided_on_evidence_the_log_has_every_finding(heard: Evidence) -> None:
    assert [finding.name for finding in decide(heard).findings] == ["live", "voice", "phrase"]


def test_a_whisper_is_no_failure() -> None:
    whispered = decide(evidence(live=-1.0, quality=replace(GOOD, whispered_s=2.0)))
    assert (whispered.outcome, whispered.counts_as_failure) == (Outcome.DENIED_QUALITY, False)


def test_the_log_says_what_lay_over_the_words_and_that_a_rule_asks_for_nothing() -> None:
    assert decide(replace(evidence(phrase=-5.0), coughs=1)).reason.startswith("a cough lay over the speech")
    assert "asks for nothing that can be checked" in decide(evidence(), required=frozenset()).reason
