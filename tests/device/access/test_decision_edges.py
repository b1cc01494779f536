"""Every branch of a decision with its whole answer; every bound with its last good and first bad value."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from device.access.decision import Decision, Factor, Notice, Outcome, Reason, RefusalError, refusal_for
from device.access.memory.visits import Visit
from device.access.policy import QualityLimits, Thresholds, counts_on, decide
from device.access.rules import RiskClass, parse_rules
from device.access.rules.permissions import may_ever_pass, refusal
from device.access.weigh import weigh
from device.audio.errors import Flaw, QualityError
from device.errors import DeviceError
from device.evidence.gallery import Identification
from device.evidence.judge import Evidence
from device.liveness import ContextEvidence
from device.liveness.threats.known import Match
from tests.device.door_world import GOOD, evidence

RULES = parse_rules("""
version = 1
[schedules.day]
days = ["mon", "tue"]
from = "07:00"
to = "19:00"
[schedules.night]
days = ["thu"]
from = "21:00"
to = "06:00"
[schedules.always]
[risks.standard]
[zones.ward]
[zones.lab]
[doors.ward-3]
zone = "ward"
risk = "standard"
[doors.lab]
zone = "lab"
risk = "standard"
[[allow]]
roles = ["day"]
zones = ["ward"]
schedule = "day"
[[allow]]
roles = ["night"]
zones = ["ward"]
schedule = "night"
[[allow]]
roles = ["always"]
zones = ["ward"]
schedule = "always"
[[allow]]
roles = ["free"]
zones = ["ward"]
[people.day]
roles = ["day"]
[people.both]
roles = ["night", "day"]
[people.night]
roles = ["night"]
[people.always]
roles = ["always"]
[people.free]
roles = ["free"]
[people.gone]
roles = ["free"]
disabled = true
[people.from]
roles = ["free"]
valid_from = 2026-11-24T08:00:00Z
[people.until]
roles = ["free"]
valid_until = 2026-11-24T18:00:00Z
[people.visit]
roles = ["free"]
valid_from = 2026-11-24T08:00:00Z
valid_until = 2026-11-24T18:00:00Z
""")
WARD, LAB = RULES.doors["ward-3"], RULES.doors["lab"]
TUESDAY = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BEGINS, ENDS = TUESDAY.replace(hour=8), TUESDAY.replace(hour=18)
SECOND = timedelta(seconds=1)


def answer(uid: str, at: datetime = TUESDAY, *, door: object = WARD, behind: bool = False) -> tuple | None:
    said = refusal(RULES, door, uid, at, clock_behind=behind)  # type: ignore[arg-type]
    return None if said is None else (said.outcome, said.code, said.reason, said.notice)


@pytest.mark.parametrize(
    ("uid", "at", "expected"),
    [
        (
            "nobody", TUESDAY,
            (
                Outcome.DENIED_UNKNOWN, Reason.NO_SUCH_PERSON, "the rules do not know this person",
                Notice.NOT_HERE,
            ),
        ),
        (
            "gone", TUESDAY,
            (
                Outcome.DENIED_RULE, Reason.PERSON_DISABLED, "this person is disabled in the rules",
                Notice.NOT_HERE,
            ),
        ),
        (
            "from", BEGINS - SECOND,
            (
                Outcome.DENIED_SCHEDULE, Reason.VISIT_NOT_BEGUN, "access begins at 2026-11-24T08:00:00+00:00",
                Notice.NOT_NOW,
            ),
        ),
        (
            "until", ENDS,
            (
                Outcome.DENIED_SCHEDULE, Reason.VISIT_ENDED, "access ended at 2026-11-24T18:00:00+00:00",
                Notice.SEE_ADMIN,
            ),
        ),
        (
            "both", TUESDAY.replace(hour=20),
            (
                Outcome.DENIED_SCHEDULE, Reason.OUTSIDE_SCHEDULE, "Tue 20:00 is outside day, night",
                Notice.NOT_NOW,
            ),
        ),
    ],
)  # fmt: skip
def test_a_refusal_by_the_rules_is_whole(uid: str, at: datetime, expected: tuple) -> None:
    assert answer(uid, at) == expected


def test_a_door_that_no_permission_speaks_of_names_the_roles_that_do_not_open_it() -> None:
    assert answer("both", door=LAB) == (
        Outcome.DENIED_RULE,
        Reason.NOT_ALLOWED,
        "no permission covers lab for roles day, enrolled, night",
        Notice.NOT_HERE,
    )


@pytest.mark.parametrize(
    ("uid", "at", "code"),
    [
        ("from", BEGINS, None), ("from", BEGINS - SECOND, Reason.VISIT_NOT_BEGUN),
        ("until", ENDS - SECOND, None), ("until", ENDS, Reason.VISIT_ENDED),
        ("visit", BEGINS, None), ("visit", ENDS - SECOND, None),
        ("visit", BEGINS - SECOND, Reason.VISIT_NOT_BEGUN), ("visit", ENDS, Reason.VISIT_ENDED),
    ],
)  # fmt: skip
def test_a_visit_begins_and_ends_to_the_second(uid: str, at: datetime, code: Reason | None) -> None:
    said = answer(uid, at)
    assert (said and said[1]) == code


@pytest.mark.parametrize(
    ("uid", "at", "code"),
    [
        ("free", TUESDAY, None),  # nothing depends on the time
        ("from", TUESDAY, Reason.CLOCK_BEHIND),
        ("until", ENDS - SECOND, Reason.CLOCK_BEHIND),
        ("until", ENDS, Reason.VISIT_ENDED),  # what has ended has ended
        ("visit", BEGINS - SECOND, Reason.CLOCK_BEHIND),
        ("visit", ENDS, Reason.VISIT_ENDED),
        ("day", TUESDAY, Reason.CLOCK_BEHIND),
        ("day", TUESDAY.replace(hour=20), Reason.CLOCK_BEHIND),
        ("gone", TUESDAY, Reason.PERSON_DISABLED),
        ("nobody", TUESDAY, Reason.NO_SUCH_PERSON),
    ],
)
def test_with_a_clock_that_lies_behind_only_what_depends_on_no_time_is_judged(
    uid: str, at: datetime, code: Reason | None
) -> None:
    said = answer(uid, at, behind=True)
    assert (said and said[1]) == code
    if code is Reason.CLOCK_BEHIND:
        assert said is not None
        assert (said[0], said[3]) == (Outcome.DENIED_FAULT, Notice.OUT_OF_SERVICE)
        assert "set the clock" in said[2]


@pytest.mark.parametrize(
    ("uid", "day", "clock", "opens"),
    [
        ("day", 24, (7, 0, 0), True), ("day", 24, (6, 59, 59), False), ("day", 24, (18, 59, 59), True),
        ("day", 24, (19, 0, 0), False), ("day", 25, (12, 0, 0), False), ("day", 23, (12, 0, 0), True),
        ("night", 26, (21, 0, 0), True), ("night", 26, (20, 59, 59), False),
        ("night", 26, (23, 59, 59), True),
        ("night", 27, (0, 0, 0), True), ("night", 27, (5, 59, 59), True), ("night", 27, (6, 0, 0), False),
        ("night", 26, (5, 0, 0), False), ("night", 27, (22, 0, 0), False), ("night", 28, (5, 0, 0), False),
        ("always", 24, (0, 0, 0), True), ("always", 29, (23, 59, 59), True), ("always", 29, (12, 0, 0), True),
    ],
)  # fmt: skip
def test_hours_begin_and_end_to_the_second_also_past_midnight(
    uid: str, day: int, clock: tuple[int, int, int], opens: bool
) -> None:
    said = answer(uid, datetime(2026, 11, day, *clock, tzinfo=UTC))
    assert (said is None) is opens


@pytest.mark.parametrize(
    ("uid", "ward"),
    [("day", True), ("always", True), ("free", True), ("gone", False), ("nobody", False), ("", False)],
)
def test_nobody_is_searched_among_who_may_never_pass(uid: str, ward: bool) -> None:
    assert may_ever_pass(RULES, WARD, uid) is ward
    assert may_ever_pass(RULES, LAB, uid) is False


LIMITS = QualityLimits(min_speech_s=1.0, min_snr_db=6.0, max_clipped_fraction=0.1, min_bandwidth_hz=3_000.0)


@pytest.mark.parametrize(
    ("name", "good", "bad", "code", "notice", "detail"),
    [
        ("speech_s", 1.0, 0.94, Reason.TOO_LITTLE_SPEECH, Notice.ALL_WORDS, "only 0.9 s of speech"),
        ("clipped_fraction", 0.1, 0.12, Reason.CLIPPED, Notice.STEP_BACK, "12% of it is clipped"),
        ("snr_db", 6.0, 5.0, Reason.TOO_NOISY, Notice.COME_CLOSER, "only 5 dB above the noise"),
        ("bandwidth_hz", 3_000.0, 2_999.0, Reason.NARROW_BAND, Notice.COME_CLOSER, "nothing above 2999 Hz"),
    ],
)
def test_speech_is_usable_up_to_each_bound_and_what_is_wrong_beyond_it_is_said(
    name: str, good: float, bad: float, code: Reason, notice: Notice, detail: str
) -> None:
    required = frozenset(
        {Factor.CLAIM, Factor.PHRASE, Factor.VOICE}
    )  # the detector's own bounds lie elsewhere

    def judged(value: float) -> Decision:
        return decide(evidence(quality=replace(GOOD, **{name: value})), required=required, quality=LIMITS)

    assert judged(good).outcome is Outcome.GRANTED
    said = judged(bad)
    assert (said.outcome, said.code, said.notice) == (Outcome.DENIED_QUALITY, code, notice)
    assert said.reason == f"the speech cannot be judged: {detail}"


POINTS = Thresholds(phrase_llr=2.0, voice_llr=3.0, live_llr=1.0, step_up_margin_llr=0.5)


@pytest.mark.parametrize(
    ("scores", "outcome", "code", "notice"),
    [
        ((2.0, 3.0, 1.0), Outcome.GRANTED, Reason.ALL_FACTORS_PASSED, Notice.WELCOME),
        ((1.5, 3.0, 1.0), Outcome.STEP_UP, Reason.WEAK_SCORE, Notice.ONE_MORE),
        ((2.0, 2.5, 1.0), Outcome.STEP_UP, Reason.WEAK_SCORE, Notice.ONE_MORE),
        ((2.0, 3.0, 0.5), Outcome.STEP_UP, Reason.WEAK_SCORE, Notice.ONE_MORE),
        ((1.5, 2.5, 0.5), Outcome.STEP_UP, Reason.WEAK_SCORE, Notice.ONE_MORE),
        ((1.49, 3.0, 1.0), Outcome.DENIED_PHRASE, Reason.WRONG_WORDS, Notice.ALL_WORDS),
        ((2.0, 2.49, 1.0), Outcome.DENIED_VOICE, Reason.OTHER_VOICE, Notice.REFUSED),
        ((2.0, 3.0, 0.49), Outcome.DENIED_SPOOF, Reason.NOT_LIVE, Notice.REFUSED),
        ((1.5, 2.49, 1.0), Outcome.DENIED_VOICE, Reason.OTHER_VOICE, Notice.ALL_WORDS),
    ],
)
def test_a_score_passes_at_its_threshold_and_a_weak_one_within_the_margin_gets_one_more_phrase(
    scores: tuple[float, float, float], outcome: Outcome, code: Reason, notice: Notice
) -> None:
    said = decide(evidence(*scores), POINTS)
    assert (said.outcome, said.code, said.notice) == (outcome, code, notice)
    assert [finding.llr for finding in said.findings] == [scores[2], scores[1], scores[0]]
    second = decide(evidence(*scores), POINTS, before_llr=0.0)
    assert second.outcome is not Outcome.STEP_UP, "one more phrase is one more"
    exact = replace(POINTS, step_up_margin_llr=0.0)
    assert decide(evidence(*scores), exact).outcome is not Outcome.STEP_UP


def test_what_fell_just_short_is_named_once_and_what_failed_says_by_how_much() -> None:
    weak = decide(evidence(1.5, 2.5, 0.5), POINTS).reason
    assert (
        weak == "liveness and the voice and the phrase just short of the threshold; one more phrase is asked"
    )
    denied = decide(evidence(2.0, -1.0, 1.0), POINTS).reason
    assert denied == "the voice is not that of the person claimed (LLR -1.0, +3.0 needed)"
    assert decide(evidence(2.0, 3.0, 1.0), POINTS).reason == "every required factor passed"


def test_the_words_of_two_phrases_add_up_and_nothing_else_does() -> None:
    second = decide(evidence(0.5, 3.0, 1.0), POINTS, before_llr=1.5)
    assert second.outcome is Outcome.GRANTED
    assert (second.findings[-1].llr, second.findings[-1].before_llr) == (2.0, 1.5)
    assert decide(evidence(0.4, 3.0, 1.0), POINTS, before_llr=1.5).outcome is Outcome.DENIED_PHRASE
    assert decide(evidence(0.5, 2.9, 1.0), POINTS, before_llr=1.5).outcome is Outcome.DENIED_VOICE


@pytest.mark.parametrize(
    ("scores", "counts"),
    [((1.5, 3.0, 1.0), 1.5), ((1.5, 2.5, 1.0), 0.0), ((2.0, 2.5, 1.0), 0.0), ((2.0, 3.0, 1.0), 0.0)],
)
def test_a_first_phrase_counts_on_only_where_its_words_alone_fell_short(
    scores: tuple[float, float, float], counts: float
) -> None:
    assert counts_on(decide(evidence(*scores), POINTS)) == counts


def test_a_point_of_the_detector_takes_the_place_of_the_threshold_or_is_missing() -> None:
    limits = replace(POINTS, live_point="bpcer_3", step_up_margin_llr=0.0)
    missing = decide(evidence(), limits)
    assert (missing.outcome, missing.code) == (Outcome.DENIED_FAULT, Reason.CHECK_FAILED)
    assert missing.reason == "the detector has no operating point bpcer_3; mend the rules"

    def at(live: float) -> Evidence:
        return replace(evidence(live=live), operating_points={"bpcer_3": -2.0})

    assert decide(at(-2.0), limits).opens
    assert decide(at(-2.01), limits).code is Reason.NOT_LIVE


@pytest.mark.parametrize(
    ("required", "claimed", "heard", "code", "notice"),
    [
        (frozenset(), True, evidence(), Reason.EMPTY_RULE, Notice.OUT_OF_SERVICE),
        ({Factor.CLAIM}, True, evidence(), Reason.EMPTY_RULE, Notice.OUT_OF_SERVICE),
        ({Factor.PHRASE}, True, None, Reason.NO_EVIDENCE, Notice.OUT_OF_SERVICE),
        ({Factor.CLAIM, Factor.PHRASE}, False, evidence(), Reason.NO_CLAIM, Notice.REFUSED),
        ({Factor.VOICE}, True, evidence(voice=None), Reason.NOT_ENROLLED, Notice.REFUSED),
        ({Factor.PHRASE}, False, evidence(voice=None), Reason.ALL_FACTORS_PASSED, Notice.WELCOME),
        ({Factor.PHRASE}, True, evidence(live=math.nan), Reason.INVALID_EVIDENCE, Notice.OUT_OF_SERVICE),
        ({Factor.LIVE}, True, evidence(phrase=math.inf), Reason.INVALID_EVIDENCE, Notice.OUT_OF_SERVICE),
        ({Factor.LIVE}, True, evidence(phrase=-9.0, voice=-9.0), Reason.ALL_FACTORS_PASSED, Notice.WELCOME),
    ],
)
def test_only_what_the_rule_asks_for_is_weighed_and_a_sick_model_is_a_fault_everywhere(
    required: frozenset[Factor], claimed: bool, heard: Evidence | None, code: Reason, notice: Notice
) -> None:
    said = decide(heard, required=frozenset(required), claimed=claimed)
    assert (said.code, said.notice) == (code, notice)
    assert {finding.factor for finding in said.findings} <= required


@pytest.mark.parametrize(
    ("llr", "passes"), [({"reuse_llr": 0.5}, True), ({"reuse_llr": 0.49}, False), ({"joins_llr": -2.2}, True),
                        ({"joins_llr": -2.21}, False), ({"consistency_llr": -50.0}, True)],
)  # fmt: skip
def test_evidence_beside_the_network_passes_at_its_threshold_and_is_recorded_where_none_is_set(
    llr: dict[str, float], passes: bool
) -> None:
    heard = replace(evidence(), context=ContextEvidence(**llr))
    said = decide(heard)
    assert said.opens is passes
    assert [f.part for f in said.findings if f.part] == ([] if "consistency_llr" in llr else list(llr))


@pytest.mark.parametrize(
    "wrong",
    [{"phrase_llr": math.nan}, {"voice_llr": math.inf}, {"live_llr": -math.inf}, {"step_up_margin_llr": -0.1},
     {"step_up_margin_llr": math.inf}, {"reuse_llr": math.nan}, {"consistency_llr": math.inf},
     {"joins_llr": math.nan}, {"joins_doubt_llr": math.nan}, {"joins_doubt_llr": -0.1}],
)  # fmt: skip
def test_thresholds_are_finite_and_a_margin_is_not_below_zero(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Thresholds(**wrong)
    Thresholds(step_up_margin_llr=0.0, reuse_llr=None, consistency_llr=None, joins_llr=None)


CLASS = RiskClass("open", factors=frozenset({Factor.PHRASE, Factor.VOICE}), identify_margin_llr=3.0)


def found(llr: float, second: float, among: int = 1) -> Evidence:
    who = Identification("ANNA", llr=llr, runner_up_llr=second, among=among)
    return replace(evidence(), identified=who, speaker_llr=llr)


def test_who_is_found_must_lead_by_the_margin_and_clear_a_threshold_raised_for_all_of_them() -> None:
    assert weigh(found(8.0, 5.0), CLASS, claimed=False).opens
    close = weigh(found(8.0, 5.01), CLASS, claimed=False)
    assert (close.outcome, close.code, close.notice) == (
        Outcome.DENIED_UNKNOWN,
        Reason.NO_CLAIM,
        Notice.REFUSED,
    )
    assert close.reason == "two enrolled voices fit about equally; show a badge"
    assert close.findings, "what was measured stays on record"
    needed = 3.0 + math.log(40)
    assert weigh(found(needed + 0.01, -9.0, 40), CLASS, claimed=False).opens
    assert weigh(found(needed - 0.01, -9.0, 40), CLASS, claimed=False).code is Reason.OTHER_VOICE
    assert weigh(found(needed - 0.01, -9.0, 40), CLASS, claimed=True).opens, "a claim is one comparison"
    assert not weigh(found(8.0, math.nan), CLASS, claimed=False).opens


def test_who_is_found_gets_no_second_phrase_and_who_is_not_found_has_no_voice() -> None:
    generous = replace(CLASS, thresholds=Thresholds(step_up_margin_llr=5.0))
    assert weigh(found(2.0, -9.0), generous, claimed=True).outcome is Outcome.STEP_UP
    assert weigh(found(2.0, -9.0), generous, claimed=False).outcome is Outcome.DENIED_VOICE
    nobody = weigh(evidence(), CLASS, claimed=False)
    assert (nobody.outcome, nobody.code) == (Outcome.DENIED_UNKNOWN, Reason.NOT_ENROLLED)


def test_a_visit_narrows_what_the_rules_say_and_never_widens_it() -> None:
    begins_s, ends_s = TUESDAY.timestamp(), (TUESDAY + timedelta(hours=2)).timestamp()
    visit = Visit(begins_s, ends_s)

    def code(uid: str, at: datetime) -> Reason | None:
        said = refusal(RULES, WARD, uid, at, visit=visit)
        return None if said is None else said.code

    assert [code("free", TUESDAY + timedelta(hours=h)) for h in (-1, 0, 1, 3)] == [
        Reason.VISIT_NOT_BEGUN, None, None, Reason.VISIT_ENDED,
    ]  # fmt: skip
    wide = Visit((BEGINS - timedelta(hours=3)).timestamp(), (ENDS + timedelta(hours=3)).timestamp())
    for at, why in ((BEGINS - SECOND, Reason.VISIT_NOT_BEGUN), (BEGINS, None), (ENDS, Reason.VISIT_ENDED)):
        said = refusal(RULES, WARD, "visit", at, visit=wide)
        assert (None if said is None else said.code) is why


def test_what_an_exception_stands_for_is_told_whole() -> None:
    def told(error: BaseException) -> tuple[object, ...]:
        said = refusal_for(error)
        return said.outcome, said.code, said.reason, said.notice

    quality, broken = Outcome.DENIED_QUALITY, (Outcome.DENIED_FAULT, Notice.OUT_OF_SERVICE)
    assert told(QualityError(Flaw.OTHER, "odd")) == (
        quality,
        Reason.UNUSABLE_AUDIO,
        "odd",
        Notice.COME_CLOSER,
    )
    hush = QualityError(Flaw.SILENCE, "hush")
    assert told(hush) == (quality, Reason.TOO_LITTLE_SPEECH, "hush", Notice.COME_CLOSER)
    said = told(DeviceError("the\nmodel " + "x" * 300))
    assert (said[0], said[3]) == broken
    assert said[1] is Reason.CHECK_FAILED
    assert said[2] == "the attempt could not be judged: " + ("the model " + "x" * 300)[:200]
    said = told(ZeroDivisionError("secret"))
    assert (said[0], said[3]) == broken
    assert said[1:3] == (Reason.INTERNAL_FAULT, "the attempt could not be judged (ZeroDivisionError)")
    own = Decision(Outcome.DENIED_RULE, Reason.NOT_ALLOWED, "no", Notice.NOT_HERE)
    assert refusal_for(RefusalError(own)) is own


def test_a_warned_unit_asks_once_more_up_to_its_bound_and_says_why() -> None:
    warned = replace(evidence(live=0.0), threat=Match(campaign=7, likeness=0.9))
    limits = Thresholds(live_llr=0.0)
    said = decide(warned, limits)
    assert (said.outcome, said.code, said.notice) == (Outcome.STEP_UP, Reason.KNOWN_ATTACK, Notice.ONE_MORE)
    assert said.reason == "every factor passed, but it resembles a known attack; one more phrase is asked"
    assert [finding.threshold_llr for finding in said.findings if finding.factor is Factor.LIVE] == [1.0]
    short = decide(replace(warned, spoof_llr=-0.001), limits)
    assert short.code is not Reason.KNOWN_ATTACK
