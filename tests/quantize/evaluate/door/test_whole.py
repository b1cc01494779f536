"""Attempts with measurements made up, so that what is counted is known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from typing import cast as typed

import numpy as np
import numpy.typing as npt
import pytest

from device.access.rules.levels import LEVELS
from device.audio import load_utterance
from device.audio.utterance import Quality
from device.evidence.phrase import PhraseScore
from device.evidence.voice.in_noise import FITTED_ON
from device.liveness.context import ContextChecks
from device.liveness.joins import shipped_network
from device.liveness.weights import shipped
from device.model_store.calibration import Calibration
from device.models.speaker import InconsistentEnrolmentError
from device.models.spoof.detector import SpoofScores
from quantize.evaluate.door.attempts import ALL, decide_two, play
from quantize.evaluate.door.cast import Cast, cast
from quantize.evaluate.door.chapter import attempt_lines, attempts_chapter
from quantize.evaluate.door.evidence import enrolled_as_at_a_door
from quantize.evaluate.door.heard import CONDITIONS, Condition, Surroundings
from quantize.evaluate.door.measure import Ask, Checks, Measured, Measurements
from quantize.evaluate.door.whole import Scope, ward_sounds
from quantize.evaluate.figures import plots
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording
from tests.speech import Reading

CLEAN = CONDITIONS[0]
QUALITY = Quality(2.0, 30.0, 0.0, -20.0, 7_500.0)
ANN, BOB = np.eye(192, dtype=np.float32)[:2]
JUDGED = [name for name in (f"p{n}" for n in range(40)) if not fits(name)]
WHO = (JUDGED[0], JUDGED[1])


@dataclass
class Live:
    llr: float

    def kinds(self) -> dict[str, float]:
        return {"synthetic_llr": self.llr}


class Speaker:
    version = "speaker-1"

    def llr(self, probe: npt.NDArray[np.float32], template: npt.NDArray[np.float32]) -> float:
        return 20.0 * float(probe @ template) - 10.0

    def template(self, embeddings: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return embeddings[0]

    def embed(self, wave: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return ANN.copy()


class Strict(Speaker):
    """As the real one: recordings of two people are no enrolment."""

    def template(self, embeddings: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        if any(float(one @ embeddings[0]) < 0.5 for one in embeddings):
            raise InconsistentEnrolmentError("two people")
        return embeddings[0]


class Fitted(Speaker):
    version = FITTED_ON


class Spoof:
    version = "spoof-1"
    operating_points: dict[str, float] = {}  # noqa: RUF012 - a stand-in

    def weighed(self, scores: tuple[SpoofScores, ...]) -> Live:
        return Live(scores[0].synthetic)


CHECKS = typed(Checks, Checks(typed(Any, None), typed(Any, Speaker()), typed(Any, Spoof())))


def recording(path: str, who: str = "", system: str = "", text: str = "one two three") -> Recording:
    label = "spoof" if system else "bonafide"
    return Recording(path, label, who, system, "" if system else text, "", "")


def scores(live: float) -> tuple[SpoofScores, ...]:
    return (SpoofScores(live, 0.0, 0.0, 0.0, 50.0),)


def measured(
    embedding: npt.NDArray[np.float32] = ANN, words: float = 5.0, live: float = 4.0, refused: str = ""
) -> Measured:
    if refused:
        return Measured(refused=refused, complaint="too noisy")
    return Measured(
        quality=QUALITY,
        said_s=2.0,
        embedding=embedding,
        live=scores(live),
        phrase=PhraseScore(words, "one two three"),
    )


@pytest.fixture
def two_people() -> tuple[Cast, dict[Ask, Measured]]:
    probes = {who: tuple(recording(f"c/{who}-{n}.flac", who) for n in range(2)) for who in WHO}
    enrolments = {who: tuple(recording(f"c/{who}-e{n}.flac", who) for n in range(3)) for who in WHO}
    attacks = {
        "page: old": (recording("page/1.flac", "", "old"),),
        "web: new": (recording("web/1.flac", "", "new"),),
    }
    people = Cast(enrolments, probes, attacks)
    found = {}
    for who, voice in zip(WHO, (ANN, BOB), strict=True):
        found |= {Ask(r, CLEAN, live=False): measured(voice) for r in enrolments[who]}
        found |= {Ask(r, CLEAN, words=True): measured(voice) for r in probes[who]}
    found[Ask(attacks["page: old"][0], CLEAN, voice=False)] = measured(live=-3.0)
    found[Ask(attacks["web: new"][0], CLEAN, voice=False)] = measured(live=3.0)
    return people, found


def test_people_get_in_strangers_do_not_and_only_the_live_check_stops_a_clone(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    found = play(*two_people, CHECKS, CLEAN)
    assert found.people[ALL].one.value == 1.0
    assert found.people[ALL].seconds[0] == pytest.approx(2.2)  # 2 s, and the first pause
    assert found.strangers is not None
    assert (found.strangers.two.accepted, found.strangers.two.trials) == (0, 4)
    assert found.attacks["page: old"].two.value == 0.0
    assert found.attacks["web: new"].one.value == 1.0
    assert found.attacks[ALL].one.value == 0.5


def test_who_is_refused_once_gets_in_with_a_second_phrase(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    people, found = two_people
    found[Ask(people.probes[WHO[0]][0], CLEAN, words=True)] = measured(live=-5.0)
    ann = play(people, found, CHECKS, CLEAN).people[ALL]
    assert ann.one.value == pytest.approx(3 / 4)
    assert ann.two.value == 1.0
    assert ann.asked.value == pytest.approx(3 / 4)  # the door refused; it did not ask
    assert ann.failed["live"] == pytest.approx(1 / 4)


def test_in_a_lively_room_people_and_strangers_are_held_against_door_vectors(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    """What each sounds like there is a third and a fourth voice, which only the copies have."""
    people, found = two_people
    checks = replace(CHECKS, speaker=typed(Any, Fitted()))
    for who, there in zip(WHO, np.eye(192, dtype=np.float32)[2:4], strict=True):
        for probe in people.probes[who]:
            lively = replace(measured(there), quality=replace(QUALITY, decay_db_s=100.0))
            found[Ask(probe, CLEAN, words=True)] = lively
    assert play(people, found, checks, CLEAN).people[ALL].two.value == 0.0
    for who, there in zip(WHO, np.eye(192, dtype=np.float32)[2:4], strict=True):
        for enrolled in people.enrolments[who]:
            ask = Ask(enrolled, CLEAN, live=False)
            found[ask] = replace(found[ask], copies=there)
    by_door = play(people, found, checks, CLEAN)
    assert by_door.people[ALL].one.value == 1.0
    assert by_door.strangers is not None
    assert by_door.strangers.two.accepted == 0


def test_too_noisy_is_not_judged_and_costs_a_phrase(two_people: tuple[Cast, dict[Ask, Measured]]) -> None:
    people, found = two_people
    found[Ask(people.probes[WHO[0]][0], CLEAN, words=True)] = measured(refused="TOO_NOISY")
    ann = play(people, found, CHECKS, CLEAN).people[ALL]
    assert ann.repeated.value == pytest.approx(1 / 4)
    assert ann.one.value == pytest.approx(3 / 4)
    assert ann.failed["live"] == 0.0


def test_words_of_two_phrases_add_up_only_where_the_door_asked(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    people, found = two_people
    for probe in people.probes[WHO[0]]:
        found[Ask(probe, CLEAN, words=True)] = measured(words=1.2)
    ann = play(people, found, CHECKS, CLEAN).people[ALL]
    assert ann.one.value == 0.5
    assert ann.asked.value == 1.0  # 1.2 + 1.2 is over 2


def test_a_clone_has_the_voice_that_people_have_under_the_condition(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    people, found = two_people
    for who in WHO:
        for probe in people.probes[who]:
            found[Ask(probe, CLEAN, words=True)] = measured(-ANN)
    clone = play(people, found, CHECKS, CLEAN).attacks["web: new"]
    assert clone.two.value == 0.0
    assert clone.live.value == 1.0


def test_a_replay_is_judged_by_its_own_words_voice_and_sound(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    people, found = two_people
    played = Condition("played", loudspeaker=True, people=False)
    for who, voice in zip(WHO, (ANN, BOB), strict=True):
        for n, probe in enumerate(people.probes[who]):
            found[Ask(probe, played, words=True)] = measured(voice, live=3.0 if n else -3.0)
    for files in people.attacks.values():
        found |= {Ask(r, played, voice=False): measured(live=-3.0) for r in files}
    shown = play(people, found, CHECKS, played)
    assert not shown.people
    assert shown.replays is not None
    assert shown.replays.one.value == 0.5
    assert shown.replays.two.value == 1.0


ONE_GO, IN_DOUBT, PASTED = 3.0, -1.0, -4.0
"""Scores of the network for joins; the stand-in's calibration leaves them as they are."""


@pytest.fixture
def with_joins() -> Checks:
    weights = replace(shipped(), joins=Calibration(1.0, 0.0))
    return replace(CHECKS, context=ContextChecks(weights, shipped_network()))


def test_a_doubt_about_joins_costs_a_person_a_phrase_and_what_is_pasted_is_refused(
    two_people: tuple[Cast, dict[Ask, Measured]], with_joins: Checks
) -> None:
    people, found = two_people
    for who, joins in zip(WHO, (IN_DOUBT, PASTED), strict=True):
        for probe in people.probes[who]:
            found[Ask(probe, CLEAN, words=True)] = replace(measured(_voice(who)), joins=joins)
    shown = play(people, found, with_joins, CLEAN).people["c"]
    assert (shown.one.value, shown.two.value, shown.asked.value) == (0.0, 0.5, 0.5)
    for probe in people.probes[WHO[1]]:
        found[Ask(probe, CLEAN, words=True)] = replace(measured(BOB), joins=ONE_GO)
    assert play(people, found, with_joins, CLEAN).people["c"].one.value == 0.5


def test_a_cough_that_passes_for_a_join_is_asked_again_and_accuses_nobody(
    two_people: tuple[Cast, dict[Ask, Measured]], with_joins: Checks
) -> None:
    people, found = two_people
    for probe in people.probes[WHO[0]]:
        found[Ask(probe, CLEAN, words=True)] = replace(measured(), joins=PASTED, uncoughed=ONE_GO)
    ann = play(people, found, with_joins, CLEAN)
    assert ann.causes is not None
    assert ann.causes.together["joins, asked again: disturbed"] == 2


@pytest.mark.parametrize("broken", [{"even_clicks": True}, {"broken": True}, {"unclicked": True}])
def test_clicks_and_lost_blocks_are_asked_again_where_the_live_check_falls_short(
    two_people: tuple[Cast, dict[Ask, Measured]], broken: dict[str, Any]
) -> None:
    people, found = two_people
    if broken.pop("unclicked", False):
        broken["unclicked"] = scores(4.0)
    for probe in people.probes[WHO[0]]:
        found[Ask(probe, CLEAN, words=True)] = replace(measured(live=-5.0), **broken)
    ann = play(people, found, CHECKS, CLEAN)
    assert ann.causes is not None
    assert ann.causes.together["live, asked again: disturbed"] == 2


def _voice(who: str) -> npt.NDArray[np.float32]:
    return ANN if who == WHO[0] else BOB


def test_nobody_knocks_on_whom_a_calibration_was_fitted_or_who_says_single_words() -> None:
    fitted = next(name for name in (f"p{n}" for n in range(40)) if fits(name))
    every = [recording(f"c/{who}-{n}.flac", who) for who in (fitted, WHO[0]) for n in range(6)]
    every += [recording(f"c/{WHO[1]}-{n}.flac", WHO[1], text="GO") for n in range(6)]
    assert list(cast(every).probes) == [WHO[0]]
    assert len(cast(every).probes[WHO[0]]) == 3


def test_five_recordings_enrol_who_has_as_many_and_none_of_them_knocks() -> None:
    every = [recording(f"c/{WHO[0]}-{n}.flac", WHO[0]) for n in range(8)]
    every += [recording(f"c/{WHO[1]}-{n}.flac", WHO[1]) for n in range(6)]
    by_five, by_three = cast(every), cast(every, phrases=3)
    assert {who: len(files) for who, files in by_five.enrolments.items()} == {WHO[0]: 5, WHO[1]: 3}
    assert {len(files) for files in by_three.enrolments.values()} == {3}
    assert by_five.probes == by_three.probes
    for who, files in by_five.enrolments.items():
        assert not set(files) & set(by_five.probes[who])


def test_a_further_recording_that_does_not_fit_leaves_the_enrolment_as_it_was(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    people, found = two_people
    more = (recording("c/more-0.flac", WHO[0]), recording("c/more-1.flac", WHO[0]))
    found[Ask(more[0], CLEAN, live=False)] = measured(BOB)
    found[Ask(more[1], CLEAN, live=False)] = measured(refused="TOO_SHORT")
    both = {**people.enrolments, WHO[0]: (*people.enrolments[WHO[0]], *more)}
    voices = enrolled_as_at_a_door(both, found, replace(CHECKS, speaker=typed(Any, Strict())))
    assert {who: voice.phrases for who, voice in voices.items()} == {WHO[0]: 3, WHO[1]: 3}
    found[Ask(more[0], CLEAN, live=False)] = measured(ANN)
    voices = enrolled_as_at_a_door(both, found, replace(CHECKS, speaker=typed(Any, Strict())))
    assert voices[WHO[0]].phrases == 4


def test_attacks_of_pages_that_trained_the_live_check_are_left_out() -> None:
    every = [recording("page/1.flac", "", "old"), recording("web/1.flac", "", "new")]
    assert list(cast(every, {"page"}).attacks) == ["web: new"]


def test_ward_sounds_to_fit_on_and_to_judge_with_share_no_file() -> None:
    noises = [recording(f"noise_alarm/{n}.flac") for n in range(5)] + [recording("noise/street.flac")]
    fit, judge = ward_sounds(noises)
    assert (len(fit), len(judge)) == (2, 3)
    assert not set(fit) & set(judge)


def test_a_part_is_played_under_the_named_conditions_alone_and_what_cannot_be_made_is_left_out() -> None:
    bare = Surroundings(Path())
    names = ("2 m, lively room", "room, babble 10 dB", "mask")
    assert [one.name for one in Scope(names).conditions(bare)] == ["mask", "2 m, lively room"]
    assert len(Scope().conditions(bare)) == len(CONDITIONS) - 4


def test_without_attacks_nothing_of_them_is_measured_and_people_are_judged_as_before(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    people, found = two_people
    alone = replace(people, attacks={})
    assert {ask.recording.label for ask in alone.asks([CLEAN])} == {"bonafide"}
    one, both = play(alone, found, CHECKS, CLEAN), play(people, found, CHECKS, CLEAN)
    assert (one.people, one.strangers, one.attacks) == (both.people, both.strangers, {})


def test_the_page_and_the_lines_name_everybody(two_people: tuple[Cast, dict[Ask, Measured]]) -> None:
    findings = {CLEAN.name: play(*two_people, CHECKS, CLEAN)}
    try:
        page = attempts_chapter(findings)
    except plots.QuantizeError:
        pytest.skip("no matplotlib")
    lines = "\n".join(attempt_lines(findings))
    for name in ("strangers", "attacks"):
        assert name in page
        assert name in lines
    assert "web: new 100 %" in page


def test_decisions_on_two_phrases_stop_at_the_first_that_opens() -> None:
    assert decide_two("a", ValueError("x"), ValueError("y")).second is not None
    assert not decide_two("a", ValueError("x"), ValueError("y")).opened


@dataclass
class Counting:
    """Counts how often it is asked to measure."""

    times: int = 0

    version = "w"

    def score(self, wave: npt.NDArray[np.float32], phrase: str) -> PhraseScore:
        self.times += 1
        return PhraseScore(3.5, phrase)


class Detector:
    version = "s"

    class card:  # noqa: N801 - a stand-in
        sha256 = envelopes_sha256 = "0"

        class norms:  # noqa: N801
            __slots__ = ()

    def scores(self, wave: npt.NDArray[np.float32]) -> tuple[SpoofScores, ...]:
        return scores(1.5)


def test_what_was_measured_is_kept_and_not_measured_again(tmp_path: Path, reader: list[Reading]) -> None:
    words = Counting()
    context = ContextChecks.open()
    checks = Checks(typed(Any, words), typed(Any, Speaker()), typed(Any, Detector()), context=context)
    ask = Ask(recording(reader[0].path.name, "ann"), CLEAN, words=True)

    def again() -> Measured:
        return Measurements(checks, Surroundings(reader[0].path.parent), tmp_path / "kept").all(
            [ask], lambda: None
        )[ask]

    one, two = again(), again()
    assert words.times == 1
    assert one.line() == two.line()
    assert two.live == scores(1.5)
    assert two.joins == pytest.approx(
        context.network(load_utterance(reader[0].path.read_bytes()).wave()).score, abs=1e-3
    )
    assert two.embedding is not None
    np.testing.assert_array_equal(two.embedding, ANN)


def test_an_enrolment_is_kept_with_its_copies(tmp_path: Path, reader: list[Reading]) -> None:
    checks = Checks(typed(Any, Counting()), typed(Any, Fitted()), typed(Any, Detector()))
    ask = Ask(recording(reader[0].path.name, "ann"), CLEAN, live=False)
    one, two = (
        Measurements(checks, Surroundings(reader[0].path.parent), tmp_path / "kept").all([ask], lambda: None)[
            ask
        ]
        for _ in range(2)
    )
    assert one.line() == two.line()
    assert two.copies is not None
    np.testing.assert_array_equal(two.copies, ANN)


def test_a_stricter_level_asks_more_of_the_same_recordings(
    two_people: tuple[Cast, dict[Ask, Measured]],
) -> None:
    people, found = two_people
    for probe in people.probes[WHO[0]]:
        found[Ask(probe, CLEAN, words=True)] = measured(words=3.5)
    shares = {
        level: play(replace(people, risk=risk), found, CHECKS, CLEAN).people[ALL].one.value
        for level, risk in LEVELS.items()
    }
    assert shares == {"standard": 1.0, "drugs": 1.0, "max": 0.5}
