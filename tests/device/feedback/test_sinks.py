"""What a person at the door sees and hears, and what nobody can see."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from device.access.challenge import Binding, Challenge, Style
from device.access.decision import Decision, Notice, Outcome, Reason, fault
from device.feedback import (
    Cue,
    Earcon,
    EarconSink,
    Feedback,
    LightSink,
    Stage,
    TerminalSink,
    language,
    waveform,
)
from device.feedback.page import render
from device.feedback.sinks import LIGHTS, stage_of

GRANTED = Decision(Outcome.GRANTED, Reason.ALL_FACTORS_PASSED, "every factor passed", Notice.WELCOME)
DURESS = replace(GRANTED, outcome=Outcome.DURESS, code=Reason.DURESS_WORD, reason="duress", silent_alarm=True)
VOICE = Decision(Outcome.DENIED_VOICE, Reason.OTHER_VOICE, "another voice", Notice.REFUSED)
SPOOF = Decision(Outcome.DENIED_SPOOF, Reason.NOT_LIVE, "not live", Notice.REFUSED)
WORDS = Decision(Outcome.DENIED_PHRASE, Reason.WRONG_WORDS, "wrong words", Notice.ALL_WORDS)


class Recorder:
    def __init__(self) -> None:
        self.cues: list[Cue] = []

    def show(self, cue: Cue) -> None:
        self.cues.append(cue)


class Broken:
    def show(self, cue: Cue) -> None:
        raise OSError("the display is unplugged")


def everything_seen(decision: Decision) -> tuple[object, ...]:
    """What every kind of sink makes of a decision."""
    screen, lights, tones, cues = io.StringIO(), [], [], Recorder()
    sinks = [
        cues,
        TerminalSink(Console(file=screen, width=80)),
        LightSink(lambda colour, hz: lights.append((colour, hz))),
        EarconSink(lambda samples: tones.append(samples.tobytes())),
    ]
    Feedback(language("en"), sinks).tell(decision)
    return (cues.cues, screen.getvalue(), lights, tones)


def test_an_opening_under_duress_looks_and_sounds_exactly_like_any_other():
    assert everything_seen(DURESS) == everything_seen(GRANTED)


def test_a_failed_voice_and_a_failed_liveness_check_look_and_sound_alike():
    assert everything_seen(VOICE) == everything_seen(SPOOF)


def test_a_broken_sink_does_not_keep_the_others_from_telling():
    recorder = Recorder()
    Feedback(language("en"), [Broken(), recorder]).tell(GRANTED)
    assert [cue.stage for cue in recorder.cues] == [Stage.OPEN]


def test_the_second_failure_explains_and_a_success_starts_anew():
    recorder = Recorder()
    feedback = Feedback(language("en"), [recorder])
    for decision in (WORDS, WORDS, GRANTED, WORDS):
        feedback.tell(decision)
    first, second, _, again = (cue.text for cue in recorder.cues)
    assert len(second) > len(first)
    assert again == first


def test_the_next_person_is_not_told_what_the_last_one_did_wrong():
    recorder = Recorder()
    feedback = Feedback(language("en"), [recorder])
    feedback.tell(WORDS)
    feedback.ready()
    feedback.tell(WORDS)
    assert recorder.cues[0].text == recorder.cues[2].text


def test_another_person_is_not_told_what_the_last_one_did_wrong_even_without_a_pause():
    recorder = Recorder()
    feedback = Feedback(language("en"), [recorder])
    for uid in ("anna", "anna", "bruno"):
        feedback.tell(replace(WORDS, person=uid))
    first, second, other = (cue.text for cue in recorder.cues)
    assert len(second) > len(first)
    assert other == first


def test_a_person_sees_the_door_listen_and_think():
    recorder = Recorder()
    feedback = Feedback(language("de"), [recorder])
    feedback.ask_name()
    feedback.speaking()
    feedback.judging()
    assert [cue.stage for cue in recorder.cues] == [Stage.SPEAK, Stage.LISTENING, Stage.THINKING]
    assert "Nummer" in recorder.cues[0].text


def test_the_phrase_stays_on_the_display_while_somebody_says_it_and_no_longer():
    recorder = Recorder()
    feedback = Feedback(language("en"), [recorder])
    phrase = "acorn river"
    asked = Challenge(
        Binding("unit-1", "door-1"), Style.WORDS, phrase, phrase, 1, 1, b"n", "2026-11-30", 0.0, 20.0, b"t"
    )
    feedback.tell(asked)
    feedback.speaking()
    feedback.judging()
    feedback.tell(WORDS)
    feedback.ask_name()
    feedback.speaking()
    assert [cue.phrase for cue in recorder.cues] == [phrase, phrase, "", "", "", ""]
    page = render(recorder.cues[1], language("en"), 0.0)
    assert f'<p class="phrase" lang="en">{phrase}</p>' in page
    assert phrase not in recorder.cues[-1].text


def test_a_screen_shows_one_thing_at_a_time():
    screen = io.StringIO()
    sink = TerminalSink(
        Console(file=screen, width=60, height=20, force_terminal=True, _environ={"TERM": "xterm"})
    )
    sink.show(Cue(Stage.SPEAK, "Please say: acorn river", "acorn river"))
    sink.show(Cue(Stage.OPEN, "Welcome."))
    *_, shown = screen.getvalue().split("\x1b[2J")
    assert "Welcome." in shown
    assert "acorn" not in shown


@pytest.mark.parametrize(
    ("decision", "stage"),
    [
        (GRANTED, Stage.OPEN),
        (VOICE, Stage.REFUSED),
        (WORDS, Stage.RETRY),
        (fault(Reason.CHECK_FAILED, "a model is gone"), Stage.FAULT),
    ],
)
def test_each_kind_of_decision_has_its_stage(decision, stage):
    assert stage_of(decision) is stage


def test_every_stage_has_a_light_that_differs_in_more_than_colour():
    assert set(LIGHTS) == set(Stage)
    assert len({(light.colour, light.blink_hz) for light in LIGHTS.values()}) == len(Stage)
    assert LIGHTS[Stage.OPEN].colour != LIGHTS[Stage.REFUSED].colour


@pytest.mark.parametrize("earcon", list(Earcon))
def test_every_tone_is_short_clean_and_not_too_loud(earcon):
    samples = waveform(earcon)
    assert samples.dtype == np.int16
    assert 0.05 < len(samples) / 16_000 < 0.7
    assert abs(int(samples[0])) < 200
    assert abs(int(samples[-1])) < 200
    assert 4_000 < np.abs(samples).max() < 10_000


def test_no_two_tones_are_alike():
    assert len({waveform(earcon).tobytes() for earcon in Earcon}) == len(Earcon)


def test_the_terminal_shows_the_state_in_words_too():
    screen = io.StringIO()
    TerminalSink(Console(file=screen, width=60)).show(Cue(Stage.REFUSED, "Not recognised."))
    assert "REFUSED" in screen.getvalue()
    assert "Not recognised." in screen.getvalue()
