"""One paragraph that says why, and is right about it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from device.access.decision import OPENING, Factor, Outcome, Reason
from device.access.policy import Thresholds
from device.access.rules import parse_rules
from device.access.rules.explain import explain
from sync.events import AuditEvent
from sync.vocabulary import DECISION_REASONS, KINDS

RULES = parse_rules("""
version = 4
[calendar]
time_zone = "Europe/Rome"
[risks.drugs]
thresholds = { voice_llr = 4.6 }
[zones.pharmacy]
[doors.pharmacy]
zone = "pharmacy"
risk = "drugs"
anti_passback_s = 120
two_persons_within_s = 45
[[allow]]
roles = ["nurse"]
""")
EVENT = AuditEvent(
    event_id=uuid.uuid4(),
    time_ms=int(datetime(2026, 11, 22, 9, 30, tzinfo=UTC).timestamp() * 1000),
    boot=3,
    monotonic_ms=5,
    door="pharmacy",
    kind="DENIED_VOICE",
    reason="other_voice",
    phrase_llr=6.0,
    speaker_llr=1.2,
    spoof_llr=2.5,
    models=("campplus-1", "whisper-tiny.en-1"),
    policy="rules-4",
)


def test_a_denial_is_explained_with_time_door_scores_thresholds_and_rule():
    assert explain(EVENT, RULES) == " ".join(
        [
            "On Sun 22 Nov 2026 at 10:30:00 CET, door pharmacy stayed locked (DENIED_VOICE)",
            "because the voice did not match the person claimed.",
            "Log-likelihood ratios: live +2.5 (passed, +0.0 needed), voice +1.2 (failed, +4.6 needed),",
            "phrase +6.0 (passed, +2.0 needed).",
            "Door pharmacy is of risk class drugs and asks for claim, live, phrase, voice.",
            "Models: campplus-1, whisper-tiny.en-1.",
        ]
    )


def test_under_other_rules_no_threshold_is_claimed():
    text = explain(replace(EVENT, policy="rules-3"), RULES)
    assert "decided under rules-3" in text
    assert "needed" not in text


@pytest.mark.parametrize(
    ("before_llr", "verdict"), [(1.25, "passed"), (0.5, "failed")], ids=["enough", "not enough"]
)
def test_words_that_count_together_with_the_phrase_before_are_told_so(before_llr, verdict):
    event = replace(EVENT, phrase_llr=1.0, more_scores=(("phrase_before_llr", before_llr),))
    told = f"phrase +1.0 ({verdict} with {before_llr:+.1f} of the phrase before, +2.0 needed)"
    assert told in explain(event, RULES)


def test_without_rules_the_scores_still_stand():
    text = explain(EVENT, None)
    assert "voice +1.2" in text
    assert "09:30:00 UTC" in text


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_sentence(reason):
    text = explain(replace(EVENT, reason=str(reason)), RULES)
    assert " because " in text
    assert "\n" not in text


@pytest.mark.parametrize("outcome", [o for o in Outcome if str(o) in KINDS])
def test_opened_and_locked_are_never_confused(outcome):
    text = explain(replace(EVENT, kind=str(outcome)), RULES)
    assert ("door pharmacy opened" in text) == (outcome in OPENING)
    assert ("stayed locked" in text) != (outcome in OPENING)


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        (Reason.ALREADY_INSIDE, "after 120 s"),
        (Reason.SECOND_PERSON_NEEDED, "within 45 s"),
        (Reason.MUST_WAIT, "after 10 failures a wait of 30 s"),
        (Reason.CHALLENGE_EXPIRED, "within 20 s"),
    ],
)
def test_the_number_behind_a_reason_is_told(reason, detail):
    assert detail in explain(replace(EVENT, reason=str(reason)), RULES)


def test_words_forgiven_for_the_duress_word_are_not_called_failed():
    event = replace(
        EVENT, kind="DURESS", reason="duress_word", speaker_llr=6.0, phrase_llr=-4.0, silent_alarm=True
    )
    text = explain(event, RULES)
    assert "phrase -4.0 (+2.0 needed; passed, as the words" in text
    assert "failed" not in text
    assert "silent alarm was raised" in text


def test_forgiven_words_of_two_voices_that_fit_alike_are_not_called_failed():
    open_door = replace(RULES.risks["drugs"], factors=frozenset(Factor) - {Factor.CLAIM})
    event = replace(EVENT, kind="DENIED_UNKNOWN", reason="no_claim", speaker_llr=9.0, phrase_llr=-8.0)
    text = explain(replace(event, silent_alarm=True), replace(RULES, risks={"drugs": open_door}))
    assert "phrase -8.0 (+2.0 needed; passed, as the words" in text


def test_without_a_claim_the_higher_threshold_is_spoken_of():
    open_door = replace(RULES.risks["drugs"], factors=frozenset(Factor) - {Factor.CLAIM})
    rules = replace(RULES, risks={"drugs": open_door})
    text = explain(replace(EVENT, speaker_llr=5.0), rules)
    assert "voice +5.0 (failed, +4.6, and ln N more without a claim among N people, needed)" in text


def test_an_event_that_is_no_decision_is_named_as_what_it_is():
    assert "reported BOOT (started)" in explain(replace(EVENT, kind="BOOT", reason="started"), RULES)


def test_what_the_policy_can_say_is_what_an_audit_event_can_hold():
    assert {str(reason) for reason in Reason} == DECISION_REASONS
    assert {str(outcome) for outcome in Outcome} <= KINDS


def test_evidence_beside_the_network_is_told_by_name_with_its_threshold() -> None:
    event = replace(
        EVENT,
        kind="DENIED_REPLAY",
        reason="heard_before",
        more_scores=(
            ("consistency_llr", 0.5),
            ("reuse_llr", -7.5),
            ("reuse_sources", 2.0),
            ("reused_share", 0.9),
            ("snr_db", 20.0),
        ),
    )
    text = explain(event, RULES)
    assert "stayed locked (DENIED_REPLAY) because the unit had heard this very recording before" in text
    assert f"reuse -7.5 (failed, {Thresholds().reuse_llr:+.1f} needed)" in text
    assert "consistency +0.5 (not asked here)" in text
    assert "90% of it from 2 earlier attempt(s)" in text
    assert "snr" not in text


def test_a_pasted_answer_is_explained() -> None:
    event = replace(EVENT, kind="DENIED_SPOOF", reason="pasted", more_scores=(("joins_llr", -7.5),))
    text = explain(event, RULES)
    assert "stayed locked (DENIED_SPOOF) because it was pasted together from pieces of other" in text
    assert f"joins -7.5 (failed, {Thresholds().joins_llr:+.1f} needed)" in text


def test_a_doubt_about_joins_is_told_as_one_whether_or_not_the_door_opened() -> None:
    stepping = replace(RULES.risks["drugs"].thresholds, step_up_margin_llr=2.0)
    risks = {name: replace(risk, thresholds=stepping) for name, risk in RULES.risks.items()}
    for llr, told in (
        (-1.0, "(passed, -2.2 needed; in doubt below +0.5, once)"),
        (0.5, "(passed, -2.2 needed)"),
        (-2.6, "(failed, -2.2 needed)"),
    ):
        event = replace(EVENT, more_scores=(("joins_llr", llr),))
        assert f"joins {llr:+.1f} {told}" in explain(event, replace(RULES, risks=risks))
    found = {name: replace(risk, factors=risk.factors - {Factor.CLAIM}) for name, risk in risks.items()}
    event = replace(EVENT, more_scores=(("joins_llr", -1.0),))
    assert "joins -1.0 (passed, -2.2 needed)" in explain(event, replace(RULES, risks=found))


def test_an_operating_point_is_named_instead_of_a_number() -> None:
    risks = {
        name: replace(risk, thresholds=replace(risk.thresholds, live_point="bpcer_3"))
        for name, risk in RULES.risks.items()
    }
    text = explain(EVENT, replace(RULES, risks=risks))
    assert "live +2.5 (the detector's operating point bpcer_3 needed)" in text


@pytest.mark.parametrize(
    ("worst", "told"),
    [
        ("cadence_llr", "in frames, or a beep beside the speaker, 93.8 a second (-4.0)."),
        ("envelopes_llr", "like a classical synthesiser or vocoder (-4.0)."),
        ("loudspeaker_llr", "like a loudspeaker (-4.0)."),
        ("synthetic_llr", "like synthesis that the detector was taught (-4.0)."),
    ],
)
def test_what_a_voice_that_is_not_live_was_taken_for_is_told(worst, told):
    kinds = dict.fromkeys(("cadence_llr", "envelopes_llr", "loudspeaker_llr", "synthetic_llr"), 3.0)
    found = tuple(sorted({**kinds, worst: -4.0, "frame_rate_hz": 93.75}.items()))
    event = replace(EVENT, kind="DENIED_SPOOF", reason="not_live", spoof_llr=-3.0, more_scores=found)
    assert told in explain(event, RULES)
    assert "sounded most" not in explain(replace(EVENT, more_scores=found), RULES)
    assert "sounded most" not in explain(replace(event, more_scores=()), RULES)
