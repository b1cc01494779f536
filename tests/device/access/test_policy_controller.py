"""One unit's attempts end to end, each rule by itself."""

from __future__ import annotations

import errno
import math
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from device.access.challenge import Challenge, ChallengeSettings, Style
from device.access.decision import Decision, Notice, Outcome, Reason
from device.access.memory.history import HistoryError, opened_file
from device.access.passage import duress_digest
from device.access.policy import Thresholds
from device.access.rules import Person, Rules, parse_rules
from device.audio.errors import Flaw, QualityError
from device.evidence.gallery import Identification
from device.evidence.judge import JudgeError
from device.evidence.wordlists import duress_words
from tests.device.door_world import GOOD, World, evidence, mac, with_door

DURESS_WORD = duress_words()[0]
RULES = parse_rules(f"""
version = 3
[schedules.day]
days = ["mon", "tue", "wed", "thu", "fri"]
from = "07:00"
to = "19:00"
[risks.standard]
attempts = {{ free_failures = 5, disable_after = 8 }}
[risks.weak]
thresholds = {{ step_up_margin_llr = 1.5 }}
[risks.open]
factors = ["phrase", "voice", "live"]
[zones.ward]
[zones.pharmacy]
[doors.ward]
zone = "ward"
risk = "standard"
[doors.office]
zone = "ward"
risk = "weak"
[doors.pharmacy]
zone = "pharmacy"
risk = "standard"
two_persons_within_s = 30
[doors.airlock]
zone = "airlock"
risk = "standard"
anti_passback_s = 120
[doors.gate]
zone = "ward"
risk = "open"
fire_release = true
[zones.airlock]
[[allow]]
roles = ["nurse"]
schedule = "day"
[[allow]]
roles = ["security"]
[lock_down]
roles = ["security"]
[people.anna]
roles = ["nurse"]
duress = "{duress_digest(mac, "ANNA", DURESS_WORD).hex()}"
[people.bruno]
roles = ["nurse"]
[people.sara]
roles = ["security"]
[people.vera]
roles = ["nurse"]
valid_until = 2026-11-24T12:00:00Z
""")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, RULES, enrolled={"ANNA", "BRUNO", "SARA", "VERA"})


def fails(world: World, times: int, **attempt: object) -> Decision:
    decision = None
    for _ in range(times):
        decision = world.attempt(heard=evidence(voice=-5.0), **attempt)
    return decision


def test_an_enrolled_person_with_every_factor_is_let_in(world):
    decision = world.attempt()
    assert decision.outcome is Outcome.GRANTED
    assert (decision.person, decision.door) == ("ANNA", "ward")
    assert decision.challenge


def test_whatever_the_judge_raises_is_a_denial_that_costs_the_person_nothing(world):
    for error in (JudgeError("the model is gone"), MemoryError(), RuntimeError("x")):
        decision = world.attempt(heard=error)
        assert decision.outcome is Outcome.DENIED_FAULT
    assert world.history.failing() == {}


def test_evidence_of_a_wrong_type_is_a_denial(world):
    assert not world.attempt(heard="granted").opens


def test_a_door_that_the_rules_do_not_know_stays_locked(world):
    decision = world.attempt(door="cellar")
    assert decision.code is Reason.NO_SUCH_DOOR


def test_a_challenge_of_one_door_is_refused_at_another(world):
    challenge = world.greet(door="ward")
    decision = world.answer(challenge, evidence(), door="office")
    assert (decision.outcome, decision.code) == (Outcome.DENIED_REPLAY, Reason.CHALLENGE_OTHER_DOOR)


def test_a_second_person_at_the_door_ends_the_first_ones_challenge(world):
    first = world.greet("ANNA")
    world.greet("BRUNO")
    assert world.answer(first, evidence()).outcome is Outcome.DENIED_REPLAY


def test_a_challenge_shown_before_a_reboot_is_refused_after_it(world):
    before = world.greet()
    world.reboot()
    assert not world.answer(before, evidence()).opens
    world.greet()
    assert world.answer(before, evidence()).code is Reason.CHALLENGE_BEFORE_RESTART


def test_speech_that_began_too_late_is_refused_and_costs_nothing(world):
    challenge = world.greet()
    world.later(21.0)
    decision = world.answer(challenge, evidence())
    assert (decision.outcome, decision.notice) == (Outcome.DENIED_EXPIRED, Notice.TOO_LATE)
    assert world.history.failing() == {}


def test_after_five_failures_the_claim_must_wait_and_the_wait_doubles(world):
    fails(world, 5)
    decision = world.attempt()
    assert (decision.outcome, decision.code) == (Outcome.LOCKOUT_MAX_ATTEMPTS, Reason.MUST_WAIT)
    assert 27.0 < decision.wait_s <= 30.0
    world.later(30.0)
    assert fails(world, 1).outcome is Outcome.DENIED_VOICE
    assert 57.0 < world.attempt().wait_s <= 60.0


def test_the_wait_survives_a_reboot(world):
    fails(world, 5)
    world.reboot()
    assert world.attempt().wait_s == 30.0


def test_a_challenge_taken_before_the_limit_was_reached_does_not_get_around_it(world):
    taken = world.greet("BRUNO", "ward")
    for _ in range(5):
        world.history.charge("person:BRUNO", world.monotonic_s)
    assert world.answer(taken, evidence(), uid="BRUNO").outcome is Outcome.LOCKOUT_MAX_ATTEMPTS


def test_a_disabled_claim_is_enabled_only_by_an_admin(world):
    for _ in range(8):
        fails(world, 1)
        world.later(10_000.0)
    assert world.attempt().code is Reason.DISABLED_AFTER_FAILURES
    world.reboot()
    world.later(1e7)
    assert world.attempt().code is Reason.DISABLED_AFTER_FAILURES
    assert world.history.pardon("person:ANNA")
    assert world.attempt().code is not Reason.DISABLED_AFTER_FAILURES


def test_one_persons_failures_lock_nobody_else_out(world):
    fails(world, 5)
    assert world.attempt("BRUNO").opens


def test_a_success_takes_all_failures_back(world):
    fails(world, 4)
    assert world.attempt().opens
    assert world.history.failing() == {}


def test_speech_that_cannot_be_judged_counts_as_no_failure(world):
    for _ in range(20):
        decision = world.attempt(heard=evidence(quality=replace(GOOD, snr_db=-5.0)))
        assert decision.outcome is Outcome.DENIED_QUALITY
    assert world.attempt().opens


def test_invented_badge_numbers_share_the_doors_limit_and_leave_no_trace_each(world):
    for number in range(5):
        decision = world.attempt(uid=f"badge-{number}", heard=evidence(voice=None))
        assert decision.outcome is Outcome.DENIED_UNKNOWN
    assert world.history.failing() == {"door:ward": 5}
    assert world.attempt(uid="badge-99").outcome is Outcome.LOCKOUT_MAX_ATTEMPTS
    assert world.attempt(uid="ANNA").opens


def test_hours_are_told_only_to_a_person_whose_every_factor_passed(world):
    world.later(12 * 3600)
    assert isinstance(world.greet(), Challenge)
    assert fails(world, 1).outcome is Outcome.DENIED_VOICE
    decision = world.attempt()
    assert (decision.outcome, decision.notice) == (Outcome.DENIED_SCHEDULE, Notice.NOT_NOW)


def test_being_refused_for_the_hour_counts_as_no_failure(world):
    world.later(12 * 3600)
    for _ in range(9):
        assert world.attempt().outcome is Outcome.DENIED_SCHEDULE
    assert world.history.failing() == {}


def test_a_visitors_access_ends(world):
    assert world.attempt("VERA").opens
    world.later(4 * 3600)
    assert world.attempt("VERA").code is Reason.VISIT_ENDED


def test_a_weak_score_asks_for_one_more_phrase_which_must_pass_on_its_own(world):
    weak = evidence(voice=2.0)
    assert world.attempt(door="office", heard=weak).outcome is Outcome.STEP_UP
    assert world.attempt(door="office").opens
    assert world.attempt(door="office", heard=weak).outcome is Outcome.STEP_UP
    assert world.attempt(door="office", heard=weak).outcome is Outcome.DENIED_VOICE


def test_two_phrases_with_weak_words_open_together_what_neither_opens_alone(world):
    weak = evidence(phrase=1.25)
    assert world.attempt(door="office", heard=weak).outcome is Outcome.STEP_UP
    assert world.attempt(door="office", heard=weak).outcome is Outcome.GRANTED
    assert world.history.failing() == {}
    assert world.attempt(door="office", heard=weak).outcome is Outcome.STEP_UP  # it starts anew


@pytest.mark.parametrize("between", ["another person", "another door", "a minute", "new rules", "a restart"])
def test_weak_words_count_only_for_the_same_person_at_the_same_door_at_once(world, between):
    weak, second = evidence(phrase=1.25), {"uid": "ANNA", "door": "office"}
    assert world.attempt(door="office", heard=weak).outcome is Outcome.STEP_UP
    if between == "another person":
        second["uid"] = "BRUNO"
    elif between == "another door":
        second["door"] = "ward"
    elif between == "a minute":
        world.later(61.0)
    elif between == "new rules":
        world.controller.adopt(replace(RULES, version=RULES.version + 1))
    else:
        world.reboot()
    assert not world.attempt(**second, heard=weak).opens


def test_speech_that_cannot_be_judged_leaves_the_second_phrase_open(world):
    weak = evidence(phrase=1.25)
    assert world.attempt(door="office", heard=weak).outcome is Outcome.STEP_UP
    nothing = QualityError(Flaw.SILENCE, "nothing")
    assert world.attempt(door="office", heard=nothing).outcome is Outcome.DENIED_QUALITY
    assert world.attempt(door="office", heard=weak).opens


def test_the_duress_word_in_the_second_phrase_opens_as_usual(world):
    assert world.attempt(door="office", heard=evidence(phrase=0.75)).outcome is Outcome.STEP_UP
    challenge = world.greet(door="office")
    said = evidence(phrase=-6.0, transcript=f"{challenge.phrase} {DURESS_WORD}")
    assert world.answer(challenge, said, door="office").outcome is Outcome.DURESS


def test_asking_for_one_more_phrase_is_counted_like_a_failure_until_it_passes(world):
    for _ in range(4):
        world.attempt(door="office", heard=evidence(voice=2.0))
    assert world.history.failing() == {"person:ANNA": 4}


def test_two_different_people_open_a_door_for_two(world):
    first = world.attempt("ANNA", "pharmacy")
    assert (first.outcome, first.notice) == (Outcome.AWAITING_SECOND_PERSON, Notice.SECOND_PERSON)
    assert not first.opens
    assert world.attempt("BRUNO", "pharmacy").outcome is Outcome.GRANTED
    assert world.history.position("ANNA").zone == world.history.position("BRUNO").zone == "pharmacy"
    assert world.attempt("BRUNO", "pharmacy").outcome is Outcome.AWAITING_SECOND_PERSON


def test_one_person_cannot_be_both(world):
    world.attempt("ANNA", "pharmacy")
    assert world.attempt("ANNA", "pharmacy").code is Reason.SAME_PERSON_TWICE


@pytest.mark.parametrize("alike", [0.0, 5.0, math.nan])
def test_one_voice_under_two_names_is_not_two_people(world, alike):
    world.alike_llr = alike
    world.attempt("ANNA", "pharmacy")
    decision = world.attempt("BRUNO", "pharmacy")
    assert decision.code is Reason.SAME_VOICE_TWICE
    assert not decision.opens


def test_a_unit_that_cannot_compare_voices_keeps_a_door_for_two_locked(world):
    world.compares_voices = False
    world.reboot()
    world.attempt("ANNA", "pharmacy")
    assert world.attempt("BRUNO", "pharmacy").outcome is Outcome.DENIED_FAULT


def test_the_second_person_must_come_in_time_and_before_a_reboot(world):
    world.attempt("ANNA", "pharmacy")
    world.later(40.0)
    assert world.attempt("BRUNO", "pharmacy").outcome is Outcome.AWAITING_SECOND_PERSON
    world.reboot()
    assert world.attempt("ANNA", "pharmacy").outcome is Outcome.AWAITING_SECOND_PERSON


def test_a_person_who_may_not_pass_does_not_count_as_one_of_two(world):
    world.later(12 * 3600)
    assert world.attempt("SARA", "pharmacy").outcome is Outcome.AWAITING_SECOND_PERSON
    assert world.attempt("ANNA", "pharmacy").outcome is Outcome.DENIED_SCHEDULE


def test_a_badge_passed_back_opens_nothing_until_time_or_another_door(world):
    assert world.attempt(door="airlock").opens
    assert world.attempt(door="airlock").outcome is Outcome.PASSBACK_DETECTED
    assert world.attempt("BRUNO", "airlock").opens
    world.later(121.0)
    assert world.attempt(door="airlock").opens
    assert world.attempt(door="ward").opens
    assert world.attempt(door="airlock").opens


def test_anti_passback_survives_a_reboot_and_a_clock_set_back(world):
    assert world.attempt(uid="SARA", door="airlock").opens
    world.reboot()
    assert world.attempt(uid="SARA", door="airlock").outcome is Outcome.PASSBACK_DETECTED
    world.wall -= timedelta(hours=1)
    assert world.attempt(uid="SARA", door="airlock").outcome is Outcome.PASSBACK_DETECTED


def test_a_pardon_lets_a_person_in_again_whom_a_wrong_clock_keeps_inside(world):
    assert world.attempt(uid="SARA", door="airlock").opens
    world.wall -= timedelta(days=300)
    assert world.history.pardon("person:SARA")
    assert world.attempt(uid="SARA", door="airlock").opens


def test_a_clock_set_back_nine_days_does_not_bring_an_ended_visit_back(world):
    world.later(5 * 3600.0)
    assert world.attempt(uid="VERA").code is Reason.VISIT_ENDED
    world.wall -= timedelta(days=9)
    assert world.attempt(uid="VERA").code is Reason.VISIT_ENDED
    world.reboot()
    assert world.attempt(uid="VERA").code is Reason.VISIT_ENDED


@pytest.mark.parametrize("reboot", [True, False])
def test_with_a_clock_of_1970_doors_with_hours_stay_locked_and_say_so_and_others_work(world, reboot):
    assert world.attempt().opens
    world.wall = world.wall.replace(year=1970)
    if reboot:
        world.reboot()
    for uid in ("ANNA", "VERA"):
        decision = world.attempt(uid=uid)
        assert (decision.code, decision.notice) == (Reason.CLOCK_BEHIND, Notice.OUT_OF_SERVICE)
        assert "trust-clock" in decision.reason
    assert world.attempt(uid="SARA").opens, "security may always"
    assert world.history.failing() == {}, "nobody is charged for the unit's clock"


def test_an_admin_who_says_that_the_clock_is_right_ends_it(world):
    assert world.attempt().opens
    world.wall += timedelta(days=800)
    world.later(100.0)
    world.controller.keep_time(world.now)
    world.later(700.0)
    world.controller.keep_time(world.now)  # so long that it counts as seen
    world.wall -= timedelta(days=800)
    assert world.attempt().code is Reason.CLOCK_BEHIND
    world.controller.trust_clock(world.now)
    assert world.attempt().opens
    world.reboot()
    assert world.attempt().opens


def test_whatever_is_raised_after_the_charge_gives_it_back(world):
    for kind in (TypeError, ValueError, RuntimeError, OverflowError):
        world.comparing_raises = kind("x")
        assert world.attempt(uid="ANNA", door="pharmacy").outcome is Outcome.AWAITING_SECOND_PERSON
        decision = world.attempt(uid="BRUNO", door="pharmacy")
        assert decision.outcome is Outcome.DENIED_FAULT
        assert world.history.failing() == {}
        world.later(100.0)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("earlier", [0, 2])
def test_a_stop_of_the_unit_after_the_charge_gives_it_back_on_the_disk_too(world, kind, earlier):
    """SIGTERM, Ctrl-C and an end of the program are raised past every `except Exception`."""
    fails(world, earlier, uid="BRUNO")
    world.later(100.0)
    assert world.attempt(uid="ANNA", door="pharmacy").outcome is Outcome.AWAITING_SECOND_PERSON
    world.comparing_raises = kind()
    with pytest.raises(kind):
        world.attempt(uid="BRUNO", door="pharmacy")
    counted = {"person:BRUNO": earlier} if earlier else {}
    assert world.history.failing() == counted
    world.comparing_raises = None
    world.reboot()
    assert world.history.failing() == counted


def test_forgetting_somebody_takes_them_out_of_the_running_door(world):
    fails(world, 3)
    world.attempt(uid="BRUNO", door="pharmacy")
    for uid in ("ANNA", "BRUNO"):
        world.controller.forget(uid)
    assert world.history.failing() == {}
    assert world.history.waiting("pharmacy", world.monotonic_s) is None
    body = opened_file((world.folder / "history").read_bytes(), mac)
    assert b"ANNA" not in body
    assert b"BRUNO" not in body


def test_lock_down_closes_a_door_to_all_but_those_named_and_survives_a_reboot(world):
    world.history.lock_down("*", True)
    world.reboot()
    assert world.attempt("ANNA").outcome is Outcome.LOCK_DOWN
    assert world.attempt("SARA").opens
    world.history.lock_down("*", False)
    assert world.attempt("ANNA").opens


def test_lock_down_asks_even_the_named_for_every_factor(world):
    world.history.lock_down("ward", True)
    assert world.attempt("SARA", heard=evidence(voice=-5.0)).outcome is Outcome.DENIED_VOICE


def test_where_nobody_may_pass_a_lock_down_no_phrase_is_shown(world):
    world.controller.rules = replace(RULES, lock_down_roles=frozenset())
    world.history.lock_down("ward", True)
    assert isinstance(world.greet(), Decision)


def test_the_fire_input_releases_only_doors_whose_rule_says_so(world):
    assert world.controller.fire_input("gate").outcome is Outcome.EMERGENCY_RELEASE
    assert not world.controller.fire_input("ward").opens
    assert not world.controller.fire_input("cellar").opens


def test_pulling_the_fire_alarm_does_not_undo_a_lock_down(world):
    world.history.lock_down("gate", True)
    assert world.controller.fire_input("gate").outcome is Outcome.LOCK_DOWN


def test_the_duress_word_opens_as_usual_and_alarms_silently(world):
    calm = world.attempt(heard=evidence(transcript="acorn river candle"))
    forced = world.attempt(heard=evidence(transcript=f"acorn river candle, {DURESS_WORD.title()}."))
    assert (forced.outcome, forced.silent_alarm) == (Outcome.DURESS, True)
    assert forced.opens
    assert (forced.notice, forced.wait_s) == (calm.notice, calm.wait_s)
    assert world.history.position("ANNA").zone == "ward"


def test_the_duress_word_alarms_even_when_the_door_stays_locked(world):
    decision = world.attempt(heard=evidence(voice=-5.0, transcript=DURESS_WORD))
    assert (decision.outcome, decision.silent_alarm) == (Outcome.DENIED_VOICE, True)
    world.later(12 * 3600)
    assert world.attempt(heard=evidence(transcript=DURESS_WORD)).silent_alarm


def says(world: World, keep: int, extra: str, phrase_llr: float = -4.0) -> Decision:
    """Anna says the first `keep` words of the phrase and one more; the words check minds the extra word."""
    challenge = world.greet()
    words = challenge.phrase.split()[:keep]
    return world.answer(challenge, evidence(phrase=phrase_llr, transcript=" ".join([*words, extra])))


def test_the_duress_word_is_not_held_against_the_phrase_it_follows(world):
    assert says(world, 5, DURESS_WORD).outcome is Outcome.DURESS
    assert says(world, 4, DURESS_WORD).outcome is Outcome.DURESS


def test_the_duress_word_does_not_stand_in_for_the_phrase(world):
    decision = says(world, 3, DURESS_WORD)
    assert (decision.outcome, decision.silent_alarm) == (Outcome.DENIED_PHRASE, True)
    assert says(world, 5, "river").outcome is Outcome.DENIED_PHRASE
    assert not says(world, 5, DURESS_WORD, phrase_llr=math.nan).opens


def test_another_persons_duress_word_is_just_a_word(world):
    assert world.attempt("BRUNO", heard=evidence(transcript=DURESS_WORD)).outcome is Outcome.GRANTED


def test_duress_of_the_first_of_two_people_reaches_the_opening(world):
    first = world.attempt("ANNA", "pharmacy", heard=evidence(transcript=DURESS_WORD))
    assert (first.outcome, first.silent_alarm) == (Outcome.AWAITING_SECOND_PERSON, True)
    second = world.attempt("BRUNO", "pharmacy")
    assert (second.outcome, second.silent_alarm) == (Outcome.DURESS, True)


def test_without_a_claim_the_best_voice_is_let_in_where_the_door_asks_for_no_claim(world):
    found = Identification("ANNA", llr=11.0, runner_up_llr=-4.0, among=40)
    decision = world.attempt("", "gate", heard=evidence(voice=None), identified=found)
    assert (decision.outcome, decision.person) == (Outcome.GRANTED, "ANNA")


@pytest.mark.parametrize(
    "found",
    [
        None,
        Identification("ANNA", llr=4.0, runner_up_llr=-4.0, among=40),  # 3.0 + ln 40 = 6.7 is needed
        Identification("ANNA", llr=9.0, runner_up_llr=7.0, among=40),
        Identification("ANNA", llr=math.nan, runner_up_llr=-4.0, among=40),
        Identification("nobody", llr=11.0, runner_up_llr=-4.0, among=40),
    ],
)
def test_without_a_claim_a_weak_an_ambiguous_or_a_strange_voice_is_refused(world, found):
    assert not world.attempt("", "gate", heard=evidence(voice=None), identified=found).opens


def test_without_a_claim_a_door_that_wants_one_stays_locked(world):
    found = Identification("ANNA", llr=11.0, runner_up_llr=-4.0, among=40)
    assert not world.attempt("", "ward", heard=evidence(voice=None), identified=found).opens


def test_a_disabled_claim_is_not_opened_by_being_recognised_without_one(world):
    for _ in range(100):
        world.history.charge("person:ANNA", 0.0)
    found = Identification("ANNA", llr=11.0, runner_up_llr=-4.0, among=40)
    decision = world.attempt("", "gate", heard=evidence(voice=None), identified=found)
    assert decision.outcome is Outcome.LOCKOUT_MAX_ATTEMPTS


def test_three_hundred_attempts_cost_the_tpm_one_write(world):
    before = world.counter.value()
    for number in range(300):
        world.attempt(heard=evidence(voice=-5.0 if number % 3 else 8.0))
        world.later(5.0)
    assert world.counter.value() == before + 1


def test_a_person_recognised_but_not_allowed_does_not_use_up_the_doors_attempts(world):
    found = Identification("BRUNO", llr=11.0, runner_up_llr=-4.0, among=40)
    world.later(12 * 3600)  # outside bruno's hours
    for _ in range(12):
        decision = world.attempt("", "gate", heard=evidence(voice=None), identified=found)
        assert decision.outcome is Outcome.DENIED_SCHEDULE
    assert world.history.failing() == {}


def test_evidence_of_a_voice_nobody_was_found_for_speaks_for_nobody(world):
    assert not world.attempt("", "gate", heard=evidence(voice=12.0)).opens


def test_a_full_disk_keeps_the_door_locked_and_says_so(world, monkeypatch):
    challenge = world.greet()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        decision = world.answer(challenge, evidence())
        assert (decision.outcome, decision.code) == (Outcome.DENIED_FAULT, Reason.HISTORY_FAULT)
        assert world.greet().code is Reason.HISTORY_FAULT
    assert world.attempt().opens


def test_rules_are_replaced_only_by_newer_ones(world):
    with pytest.raises(HistoryError):
        world.controller.adopt(RULES)
    stricter: Rules = replace(
        RULES,
        version=4,
        risks={
            name: replace(risk, thresholds=Thresholds(voice_llr=9.0)) for name, risk in RULES.risks.items()
        },
    )
    world.controller.adopt(stricter)
    assert world.attempt().outcome is Outcome.DENIED_VOICE


def test_a_door_of_an_unknown_risk_class_stays_locked(world):
    world.controller.rules = with_door(RULES, "ward", risk="gone")
    assert world.attempt().code is Reason.NO_SUCH_DOOR


def test_somebody_who_needs_longer_gets_the_strike_time_that_the_rules_give(tmp_path):
    rules = RULES
    slow = replace(rules.people["ANNA"], unlock_s=20.0)
    world = World(tmp_path, replace(rules, people={**rules.people, "ANNA": slow}))
    assert world.attempt().unlock_s == 20.0
    assert world.attempt("BRUNO").unlock_s is None


def test_somebody_who_says_digits_or_needs_longer_is_shown_what_the_rules_give_them(tmp_path):
    rules = RULES
    slow = replace(rules.people["ANNA"], says=Style.DIGITS, begin_within_s=45.0)
    world = World(tmp_path, replace(rules, people={**rules.people, "ANNA": slow}))
    shown, usual = world.greet(), world.greet("BRUNO")
    assert isinstance(shown, Challenge)
    assert isinstance(usual, Challenge)
    assert (shown.style, shown.lifetime_s) == (Style.DIGITS, 45.0)
    assert (usual.style, usual.lifetime_s) == (Style.WORDS, 20.0)
    assert world.attempt().opens


def test_ones_own_words_replace_neither_a_sentence_nor_a_code_and_ones_own_time_is_no_shorter():
    quick = Person("A", says=Style.DIGITS, begin_within_s=5.0)
    for style in (Style.SENTENCE, Style.CODE):
        assert quick.challenge(ChallengeSettings(style, lifetime_s=30.0)) == ChallengeSettings(
            style, lifetime_s=30.0
        )


def test_a_noise_is_excused_three_times_and_then_counts(world: World) -> None:
    noisy = evidence(live=-5.0, quality=replace(GOOD, steady_lines=20))
    codes = [world.attempt(heard=noisy).code for _ in range(3)]
    assert codes == [Reason.DISTURBED] * 3
    assert world.history.standing("person:ANNA", WARD_LIMITS, world.monotonic_s).failures == 0
    for failures in (1, 2):
        assert world.attempt(heard=noisy).code is Reason.DISTURBED
        assert world.history.standing("person:ANNA", WARD_LIMITS, world.monotonic_s).failures == failures
    assert world.attempt().opens
    assert world.attempt(heard=noisy).code is Reason.DISTURBED
    assert world.history.standing("person:ANNA", WARD_LIMITS, world.monotonic_s).failures == 0


def test_words_lost_to_the_tone_are_excused_no_more_often(world: World) -> None:
    for _ in range(4):
        decision = world.attempt(heard=QualityError(Flaw.TOO_EARLY, "too early"))
        assert (decision.outcome, decision.notice) == (Outcome.DENIED_QUALITY, Notice.AFTER_TONE)
    assert world.history.standing("person:ANNA", WARD_LIMITS, world.monotonic_s).failures == 1


WARD_LIMITS = RULES.risks["standard"].attempts
