"""One answer and its judgement, where the judgement does not end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.audio import AudioSettings, FileSource, Frame, Utterance
from device.audio.errors import Flaw
from device.audio.source import framed
from device.audio.spoiled.own_tone import PURE, heard_until, purity
from device.evidence.judge import JudgeError
from device.evidence.listener import Answer, AnswerProgress, Listener
from device.feedback.earcons import TONE_S, Earcon, own_tones, waveform
from tests.device.audio.sounds import flaw_of
from tests.speech import Reading
from tests.waiting import wait_until

PATIENCE_S = 180.0


class Hung:
    """A judge whose native code never comes back, until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def __call__(self, *_: object) -> None:
        self.released.wait(PATIENCE_S)


def test_a_judgement_that_never_ends_is_a_refusal_first_and_then_a_part_that_stands_still(
    reader: list[Reading],
) -> None:
    judge = Hung()
    listener = Listener(judge, AudioSettings(), timeout_s=0.01)  # type: ignore[arg-type]
    try:
        answer = listener.hear(
            FileSource(reader[0].path),
            "",
            None,  # type: ignore[arg-type]
            start_within_s=PATIENCE_S,
            stop=threading.Event(),
            progress=AnswerProgress(),
        )
        assert isinstance(answer.heard, JudgeError)
        wait_until(listener.stuck)
        assert "a judgement has not ended" in listener.stuck()
    finally:
        judge.released.set()
        listener.close()
    assert listener.stuck() == ""


class Kept:
    """A judge that keeps what it was given."""

    def __init__(self) -> None:
        self.utterances: list[Utterance] = []

    def __call__(self, utterance: Utterance, *_: object) -> int:
        self.utterances.append(replace(utterance, samples=utterance.samples.copy()))
        return len(self.utterances)


class Played:
    """Samples as a source."""

    def __init__(self, samples: npt.NDArray[np.int16]) -> None:
        self._samples = samples

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        yield from framed(self._samples.copy())


def spoken_into_the_tone(
    reader: list[Reading], from_s: float, *, earcon: Earcon = Earcon.SPEAK_NOW, late_s: float = 0.0
) -> npt.NDArray[np.int16]:
    """Speech from `from_s` on; the door's tone begins `late_s` after it was called for."""
    speech, _ = soundfile.read(reader[0].path, dtype="int16", frames=4 * 16_000)
    loud = np.flatnonzero(np.abs(speech.astype(np.int32)) > 1_500)[0]
    quiet = np.random.default_rng(1).integers(-4, 5, 64_000).astype(np.int16)
    speech = speech[loud:]
    whole = np.concatenate([quiet[: round(from_s * 16_000)], speech, quiet]).astype(np.int32)
    tone, late = waveform(earcon).astype(np.int32), round(late_s * 16_000)
    whole[late : late + len(tone)] += tone
    return np.clip(whole, -32768, 32767).astype(np.int16)


def hear_into_the_tone(samples: npt.NDArray[np.int16], judge: Kept, *, lacks: bool) -> Answer:
    listener = Listener(judge, AudioSettings(), PATIENCE_S, own_tones())  # type: ignore[arg-type]
    try:
        return listener.hear(
            Played(samples),
            "",
            None,
            start_within_s=PATIENCE_S,
            stop=threading.Event(),
            progress=AnswerProgress(),
            lacks_words=lambda _: lacks,
        )
    finally:
        listener.close()


def test_a_word_that_began_in_the_doors_tone_is_kept_and_the_tone_is_not(reader: list[Reading]) -> None:
    judge = Kept()
    answer = hear_into_the_tone(spoken_into_the_tone(reader, 0.02), judge, lacks=False)
    assert not isinstance(answer.heard, Exception)
    assert answer.speech_began_s < TONE_S - 0.1
    wave = judge.utterances[-1].wave()[: round(0.12 * 16_000)]
    spectrum = np.square(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))))
    hz = np.fft.rfftfreq(len(wave), 1 / 16_000)
    tone = spectrum[np.abs(hz - 880.0) < 20.0].sum()
    assert tone < 0.2 * spectrum.sum()


def test_who_begins_in_the_tone_and_lacks_words_is_told_to_begin_after_it(reader: list[Reading]) -> None:
    answer = hear_into_the_tone(spoken_into_the_tone(reader, 0.02), Kept(), lacks=True)
    assert flaw_of(answer.heard) is Flaw.TOO_EARLY
    answer = hear_into_the_tone(spoken_into_the_tone(reader, 0.8), Kept(), lacks=True)
    assert not isinstance(answer.heard, Exception), "lacking words is another matter for who waited"


def test_the_tone_alone_is_no_speech(reader: list[Reading]) -> None:
    judge = Kept()
    answer = hear_into_the_tone(spoken_into_the_tone(reader, 0.0)[:0], judge, lacks=False)
    assert flaw_of(answer.heard) is Flaw.SILENCE
    tone = np.zeros(32_000, np.int16)
    tone[:1_920] = waveform(Earcon.SPEAK_NOW)
    assert flaw_of(hear_into_the_tone(tone, judge, lacks=False).heard) is Flaw.SILENCE
    assert not judge.utterances


@pytest.mark.parametrize("late_s", [0.25, 0.5, 0.75, 1.5, 2.5])
def test_a_tone_that_a_busy_loudspeaker_plays_late_is_no_speech_and_who_waits_for_it_is_in_time(
    reader: list[Reading], late_s: float
) -> None:
    judge = Kept()
    said = spoken_into_the_tone(reader, late_s + 1.0, late_s=late_s)
    answer = hear_into_the_tone(said, judge, lacks=True)
    assert not isinstance(answer.heard, Exception), "who waited for the tone did not begin in it"
    assert answer.speech_began_s > late_s + 0.9


@pytest.mark.parametrize("late_s", [0.3, 0.5])
def test_who_begins_in_a_late_tone_is_told_so_and_keeps_the_first_word(
    reader: list[Reading], late_s: float
) -> None:
    said = spoken_into_the_tone(reader, late_s + 0.02, late_s=late_s)
    assert flaw_of(hear_into_the_tone(said, Kept(), lacks=True).heard) is Flaw.TOO_EARLY
    judge = Kept()
    answer = hear_into_the_tone(said, judge, lacks=False)
    assert not isinstance(answer.heard, Exception)
    assert answer.speech_began_s < late_s + 0.2


def test_the_tones_of_the_attempt_before_are_no_speech_when_they_come_late(reader: list[Reading]) -> None:
    for earcon in Earcon:
        said = spoken_into_the_tone(reader, 2.5, earcon=earcon, late_s=1.2)
        answer = hear_into_the_tone(said, Kept(), lacks=True)
        assert answer.speech_began_s > 2.3, earcon
        assert not isinstance(answer.heard, Exception)


def test_no_voice_is_taken_for_the_doors_tone(reader: list[Reading], other_reader: list[Reading]) -> None:
    tones = own_tones()
    for reading in (*reader, *other_reader):
        speech, _ = soundfile.read(reading.path, dtype="int16", frames=4 * 16_000)
        assert heard_until(speech, tones.asks_hz, tones.asks_s) is None, reading.path
        pure = [purity(speech[at : at + 320], tones.every_hz)[0] for at in range(0, len(speech) - 319, 320)]
        assert max(pure) < PURE, reading.path
