from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.audio import (
    Ended,
    Endpointer,
    EndpointerSettings,
    Event,
    Frame,
    QualityLimits,
    Refused,
    Samples,
    SilenceBegan,
    SpeechResumed,
    SpeechStarted,
)
from device.audio.errors import Flaw
from device.audio.utterance import FRAME_SAMPLES
from tests.device.audio.sounds import flaw_of, frames, hush, join, tone
from tests.kept import arrays_kept_by

SETTINGS = EndpointerSettings(pre_roll_ms=240, pause_ms=200, end_ms=600, window_s=5.0, max_speech_s=8.0)


LIMITS = QualityLimits(min_snr_db=0.0)  # a steady buzz has no quiet moments to measure noise in


def loud(samples: Samples) -> bool:
    return bool(np.abs(samples.astype(int)).max() > 1_000)


def endpointer(changed: EndpointerSettings = SETTINGS, *, whole: bool = False) -> Endpointer:
    return Endpointer(changed, LIMITS, loud, whole=whole)


def hear(tested: Endpointer, *parts: Samples) -> list[Event]:
    return [event for frame in frames(join(*parts)) for event in tested.push(frame)]


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def test_silence_is_no_event() -> None:
    assert hear(endpointer(), hush(60.0)) == []


def test_one_phrase_is_heard_once_from_start_to_end() -> None:
    events = hear(endpointer(), hush(1.0), tone(2.0), hush(1.0))
    assert kinds(events) == [SpeechStarted, SilenceBegan, Ended]
    assert [event.at_s for event in events] == pytest.approx([1.0, 3.2, 3.6])


def test_an_utterance_has_pads_around_the_speech() -> None:
    ended = hear(endpointer(), hush(1.0), tone(2.0), hush(1.0))[-1]
    assert isinstance(ended, Ended)
    heard = ended.utterance
    assert heard.speech_start_s == pytest.approx(0.24)
    assert heard.speech_end_s == pytest.approx(2.24)
    assert heard.duration_s == pytest.approx(2.44)
    assert heard.earlier_s == 0.0
    expected = join(hush(1.0), tone(2.0), hush(1.0))[int(0.76 * 16_000) : int(3.2 * 16_000)]
    assert np.array_equal(heard.samples, expected)


def test_speech_from_the_very_first_sample_has_no_pad_before_it() -> None:
    ended = hear(endpointer(), tone(1.0), hush(1.0))[-1]
    assert isinstance(ended, Ended)
    assert ended.utterance.speech_start_s == 0.0


def test_what_ends_is_what_the_pause_handed_out() -> None:
    _, pause, ended = hear(endpointer(), tone(1.0), hush(1.0))
    assert isinstance(pause, SilenceBegan)
    assert isinstance(ended, Ended)
    assert ended.utterance is pause.utterance


def test_a_pause_within_a_phrase_is_taken_back() -> None:
    events = hear(endpointer(), tone(1.0), hush(0.4), tone(1.0), hush(1.0))
    assert kinds(events) == [SpeechStarted, SilenceBegan, SpeechResumed, SilenceBegan, Ended]
    ended = events[-1]
    assert isinstance(ended, Ended)
    assert ended.utterance.speech_end_s == pytest.approx(2.4)


def test_a_breath_within_a_phrase_is_not_even_a_pause() -> None:
    assert kinds(hear(endpointer(), tone(1.0), hush(0.16), tone(1.0), hush(1.0))) == [
        SpeechStarted,
        SilenceBegan,
        Ended,
    ]


def test_two_phrases_are_two_utterances_and_share_no_samples() -> None:
    events = hear(endpointer(), tone(1.0), hush(1.0), tone(1.5, pitch_hz=200.0), hush(1.0))
    ends = [event.utterance for event in events if isinstance(event, Ended)]
    assert [heard.speech_end_s - heard.speech_start_s for heard in ends] == pytest.approx([1.0, 1.5])
    assert not np.shares_memory(ends[0].samples, ends[1].samples)


def test_a_click_is_no_speech() -> None:
    click = tone(0.02)
    assert hear(endpointer(), hush(0.5), click, hush(0.3), click, hush(0.3), click, hush(0.5)) == []


def test_clicks_do_not_hold_an_utterance_open() -> None:
    click = tone(0.02)
    events = hear(endpointer(), tone(1.0), *[join(hush(0.1), click) for _ in range(20)])
    assert kinds(events) == [SpeechStarted, SilenceBegan, Ended]


def test_a_cough_is_refused_as_too_short_and_starts_no_checks() -> None:
    events = hear(endpointer(), hush(0.5), tone(0.2), hush(1.0))
    assert kinds(events) == [SpeechStarted, Refused]
    refused = events[-1]
    assert isinstance(refused, Refused)
    assert flaw_of(refused.error) is Flaw.TOO_SHORT


def test_speech_longer_than_the_window_keeps_the_latest_part_and_says_so() -> None:
    long = join(hush(1.0), tone(3.0), tone(4.0, pitch_hz=180.0), hush(1.0))
    ended = hear(endpointer(), long)[-1]
    assert isinstance(ended, Ended)
    heard = ended.utterance
    assert heard.earlier_s == pytest.approx(2.0)
    assert heard.speech_start_s == 0.0
    assert heard.speech_end_s == pytest.approx(5.0)
    assert np.array_equal(heard.samples, long[3 * 16_000 : int(8.2 * 16_000)])


def test_speech_without_end_is_refused_and_the_next_phrase_is_heard() -> None:
    tested = endpointer()
    events = hear(tested, tone(8.2), hush(2.0), tone(1.0), hush(1.0))
    assert kinds(events)[:2] == [SpeechStarted, Refused]
    refused = events[1]
    assert isinstance(refused, Refused)
    assert flaw_of(refused.error) is Flaw.TOO_LONG
    assert kinds(events)[-1] is Ended


def test_a_window_as_long_as_the_limit_refuses_whatever_does_not_fit() -> None:
    strict = EndpointerSettings(window_s=5.0, max_speech_s=5.0)
    refused = hear(endpointer(strict), tone(5.1))[1]
    assert isinstance(refused, Refused)
    assert flaw_of(refused.error) is Flaw.TOO_LONG


def test_memory_does_not_grow_with_the_length_of_the_stream() -> None:
    tested = endpointer(EndpointerSettings(window_s=2.0, max_speech_s=600.0))
    quiet, voice = frames(hush(1.0)), frames(tone(1.0))
    for _ in range(120):
        for frame in quiet:
            tested.push(frame)
    for _ in range(120):
        for frame in voice:
            tested.push(frame)
    (ended,) = tested.finish()
    assert isinstance(ended, Ended)
    assert ended.utterance.duration_s == pytest.approx(2.0)
    assert ended.utterance.earlier_s == pytest.approx(118.0)


@pytest.mark.parametrize(
    "lost_at",
    [0.5, 1.1, 1.4],
    ids=["while speaking", "in the silence after", "once the pause was handed out"],
)
def test_samples_lost_during_an_utterance_refuse_it(lost_at: float) -> None:
    tested, events = endpointer(), []
    for number, frame in enumerate(frames(join(tone(1.0), hush(1.0)))):
        lost = 320 if number == int(lost_at * 50) else 0
        events += tested.push(Frame(frame.samples, lost))
    assert isinstance(events[-1], Refused)
    assert flaw_of(events[-1].error) is Flaw.GAP


def test_samples_lost_before_an_utterance_do_not_harm_it() -> None:
    tested = endpointer()
    hear(tested, hush(1.0))
    tested.push(Frame(hush(0.02), lost_samples=48_000))
    events = hear(tested, tone(1.0), hush(1.0))
    assert kinds(events) == [SpeechStarted, SilenceBegan, Ended]
    assert events[0].at_s == pytest.approx(4.02)  # the clock counts what was lost
    assert isinstance(events[-1], Ended)
    assert events[-1].utterance.speech_start_s == pytest.approx(0.02)  # no pad from before the gap


def test_the_end_of_a_stream_ends_what_is_being_said() -> None:
    tested = endpointer()
    assert kinds(hear(tested, hush(0.5), tone(1.0))) == [SpeechStarted]
    assert kinds(tested.finish()) == [Ended]
    assert tested.finish() == []


def test_a_whole_recording_is_not_cut_at_pauses() -> None:
    tested = endpointer(whole=True)
    hear(tested, hush(1.0), tone(1.0), hush(1.5), tone(1.0), hush(2.0))
    (ended,) = tested.finish()
    assert isinstance(ended, Ended)
    assert ended.utterance.speech_start_s == pytest.approx(0.24)
    assert ended.utterance.speech_end_s == pytest.approx(0.24 + 3.5)


def test_speech_before_a_silence_longer_than_the_window_is_not_forgotten() -> None:
    tested = endpointer(whole=True)
    hear(tested, tone(1.0), hush(20.0))
    (ended,) = tested.finish()
    assert isinstance(ended, Ended)
    assert ended.utterance.speech_end_s == pytest.approx(1.0)


def test_nothing_of_an_utterance_is_kept_after_it_ended() -> None:
    tested = endpointer()
    hear(tested, hush(0.5), tone(2.0), hush(0.62))
    found = arrays_kept_by(tested)
    assert found
    assert not any(np.any(np.abs(array) > 1_000) for array in found if array.dtype == np.int16)


def test_wiping_forgets_what_was_being_said() -> None:
    tested = endpointer()
    hear(tested, tone(2.0))
    tested.wipe()
    assert not any(array.any() for array in arrays_kept_by(tested) if array.dtype == np.int16)
    assert tested.finish() == []


@settings(max_examples=60, deadline=None)
@given(
    flags=st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=30), whole=st.booleans()
)
def test_any_sequence_of_flags_gives_events_in_a_possible_order(
    flags: list[tuple[bool, int]], whole: bool
) -> None:
    spread = [flag for flag, count in flags for _ in range(count)]
    script = iter(spread)
    tested = Endpointer(SETTINGS, LIMITS, lambda _: next(script), whole=whole)
    sound = Frame(tone(0.02))
    events = [event for _ in spread for event in tested.push(sound)] + tested.finish()
    follows: dict[type | None, set[type]] = {
        None: {SpeechStarted},
        SpeechStarted: {SilenceBegan, Ended, Refused},
        SilenceBegan: {SpeechResumed, Ended, Refused},
        SpeechResumed: {SilenceBegan, Ended, Refused},
        Ended: {SpeechStarted},
        Refused: {SpeechStarted},
    }
    order = [None, *kinds(events)]
    assert all(later in follows[earlier] for earlier, later in pairwise(order))
    assert order[-1] in {None, Ended, Refused}
    for event in events:
        if isinstance(event, SilenceBegan | Ended):
            heard = event.utterance
            assert len(heard.samples) % FRAME_SAMPLES == 0
            assert heard.speech_end_s - heard.speech_start_s <= SETTINGS.window_s + 1e-6
