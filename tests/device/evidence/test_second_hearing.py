"""A second hearing: when it is asked for, what both make together, and that it can never hide an alarm."""

from __future__ import annotations

import math
import threading

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.audio import AudioSettings
from device.errors import DeviceError
from device.evidence import second_hearing
from device.evidence.judge import Evidence, Judge
from device.evidence.listener import AnswerProgress, Listener
from device.evidence.phrase import PhraseScore
from device.evidence.second_hearing import asked, both
from device.evidence.wordlists import duress_words
from device.model_store.calibration import LLR_LIMIT
from tests.device.evidence.test_judge import Steady, Vector, utterance
from tests.device.evidence.test_listener import Played
from tests.speech import Reading
from tests.waiting import PATIENCE_S

DOUBTFUL = 0.5


class Words(Steady):
    """A words check of one answer, which counts how often it is asked."""

    def __init__(self, llr: float, transcript: str = "one two", failing: Exception | None = None) -> None:
        super().__init__(failing)
        self.asked = 0
        self.found = PhraseScore(llr, transcript)

    def score(self, wave: Vector, phrase: str) -> PhraseScore:
        self.asked += 1
        assert np.any(wave), "the sound was overwritten before it was heard"
        self.take_time()
        return self.found


def heard(first: Words, second: Words | None) -> Evidence:
    judge = Judge(first, Steady(), Steady(), second_words=second)
    try:
        return judge(utterance(), "one two", None)
    finally:
        judge.close()


@pytest.mark.parametrize(
    ("first_llr", "wanted"),
    [
        (second_hearing.ASKED_BELOW_LLR, False),
        (second_hearing.ASKED_BELOW_LLR - 0.01, True),
        (second_hearing.ASKED_ABOVE_LLR, True),
        (second_hearing.ASKED_ABOVE_LLR - 0.01, False),
        (math.nan, False),
    ],
)
def test_only_doubtful_words_are_heard_twice(first_llr: float, wanted: bool) -> None:
    assert asked(first_llr) is wanted


def test_words_that_pass_are_heard_once() -> None:
    second = Words(9.0)
    found = heard(Words(4.0), second)
    assert second.asked == 0
    assert (found.phrase_llr, len(found.model_versions)) == (4.0, 3)


def test_doubtful_words_are_heard_twice_and_the_event_names_both_models() -> None:
    first, second = Words(DOUBTFUL), Words(9.0, "1 2 …")
    second.version = "larger-1"
    found = heard(first, second)
    assert (first.asked, second.asked) == (1, 1)
    assert found.phrase_llr == both(first.found, second.found).llr > DOUBTFUL
    assert found.transcript == "1 2 …"
    assert found.model_versions[-1] == "larger-1"


def test_a_second_hearing_that_speaks_against_the_words_counts_as_well() -> None:
    assert heard(Words(1.5), Words(-9.0)).phrase_llr < 0.0


def test_how_long_a_refusal_takes_does_not_tell_whether_voice_or_live_passed() -> None:
    second = Words(9.0)
    other_voice, not_live = Steady(), Steady()
    other_voice.llr = lambda wave, template=None: -9.0  # type: ignore[method-assign]
    not_live.llr = lambda wave, template=None: -9.0  # type: ignore[method-assign]
    for voice, live in ((Steady(), Steady()), (other_voice, Steady()), (Steady(), not_live)):
        judge = Judge(Words(DOUBTFUL), voice, live, second_words=second)
        judge(utterance(), "one two", np.ones(192, np.float32))
        judge.close()
    assert second.asked == 3


@pytest.mark.parametrize("trouble", [DeviceError("no memory"), MemoryError(), RuntimeError("no thread")])
def test_a_second_hearing_that_fails_leaves_the_first_as_it_is(trouble: Exception) -> None:
    found = heard(Words(DOUBTFUL), Words(9.0, failing=trouble))
    assert found.phrase_llr == DOUBTFUL
    assert len(found.model_versions) == 3


def test_an_alarm_that_only_one_hearing_caught_is_kept() -> None:
    alarm = duress_words()[0]
    first, second = PhraseScore(0.0, f"one two {alarm}"), PhraseScore(5.0, "one two")
    assert both(first, second).transcript == first.transcript
    assert both(second, first).transcript == first.transcript
    nothing, only = PhraseScore(-9.0, "", 0.0), PhraseScore(-9.0, alarm, 0.1)
    assert both(second, only) == PhraseScore(second.llr, f"one two {alarm}")
    assert both(only, nothing) == only
    assert alarm in both(second, PhraseScore(math.nan, alarm)).transcript


def test_two_alarms_that_each_hearing_caught_alone_are_both_kept() -> None:
    misheard, said, *_ = duress_words()
    for agreement in (1.0, 0.0):
        found = both(PhraseScore(0.0, f"one two {misheard}"), PhraseScore(1.0, f"one two {said}", agreement))
        assert {misheard, said} <= {*found.transcript.split()}


def test_a_second_hearing_that_made_nothing_of_the_phrase_leaves_the_first_as_it_is() -> None:
    first = PhraseScore(DOUBTFUL, "one two")
    assert both(first, PhraseScore(9.0, "… three …", 0.2)) == first
    assert both(first, PhraseScore(9.0, "… one two …", 0.5)).llr > 2.0


def test_what_is_not_a_number_stays_none_and_the_rest_is_bounded() -> None:
    assert math.isnan(both(PhraseScore(math.nan, ""), PhraseScore(5.0, "")).llr)
    assert math.isnan(both(PhraseScore(0.0, ""), PhraseScore(math.inf, "")).llr)
    assert abs(both(PhraseScore(-3.0, "one"), PhraseScore(-1e6, "one")).llr) <= LLR_LIMIT


def test_other_models_than_those_it_was_fitted_on_are_not_heard_together() -> None:
    small, large = second_hearing.FITTED_ON
    assert second_hearing.fits(small, large)
    assert not second_hearing.fits(large, small)
    assert not second_hearing.fits(small, "whisper-base-int8-00000000")


def test_speech_that_goes_on_costs_no_second_hearing() -> None:
    second = Words(9.0)
    judge = Judge(Words(DOUBTFUL), Steady(), Steady(), second_words=second)
    found = judge(utterance(), "one two", None, lambda: False)
    judge.close()
    assert second.asked == 0
    assert (found.phrase_llr, len(found.model_versions)) == (DOUBTFUL, 3)


def with_a_pause(reader: list[Reading], pause_s: float) -> npt.NDArray[np.int16]:
    """A recording that is interrupted in its middle for so long, and silence after it."""
    speech, _ = soundfile.read(reader[1].path, dtype="int16")
    loud = np.flatnonzero(np.abs(speech.astype(np.int32)) > 1_500)
    speech = speech[loud[0] : loud[-1]]
    noise = np.random.default_rng(1).integers(-4, 5, 48_000).astype(np.int16)
    middle = len(speech) // 2
    gap = noise[: round(pause_s * 16_000)]
    return np.concatenate([noise[:16_000], speech[:middle], gap, speech[middle:], noise])


def test_at_a_door_only_the_last_pause_is_heard_twice(reader: list[Reading]) -> None:
    first, second = Words(DOUBTFUL), Words(9.0)
    judge = Judge(first, Steady(), Steady(), second_words=second)
    listener = Listener(judge, AudioSettings(), PATIENCE_S)
    try:
        answer = listener.hear(
            Played(with_a_pause(reader, 0.35)),
            "one two",
            None,
            start_within_s=PATIENCE_S,
            stop=threading.Event(),
            progress=AnswerProgress(),
            lacks_words=lambda found: found.phrase_llr < 2.0,
        )
    finally:
        listener.close()
        judge.close()
    assert isinstance(answer.heard, Evidence)
    assert answer.heard.phrase_llr == both(first.found, second.found).llr
    assert first.asked > 1, "the pause inside was judged, too"
    assert second.asked == 1
