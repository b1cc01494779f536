"""Finds utterances in a stream of frames: a pure state machine, frames in, events out.

    waiting ──voiced enough──▶ speaking ──silence──▶ pausing ──more silence──▶ Ended or Refused, waiting again
                                   ▲                    │
                                   └──── voiced again ──┘

A pause hands out the utterance as it would be if it ended there, so that checks can start while we wait to
be sure. When the silence lasts, that very object is what ends; when speech goes on, it is void.

The receiver of an utterance owns it and wipes it. What the endpointer keeps is one ring of samples,
allocated once, overwritten after every utterance.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeAlias

import numpy as np

from device.audio import quality
from device.audio.buffers import SampleHistory
from device.audio.errors import Flaw, QualityError
from device.audio.settings import EndpointerSettings, QualityLimits
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame, Samples, Utterance, wipe

TONE_GAP_FRAMES = 2
"""Between the door's tone and speech that began in it, and between its sounds."""
TONE_QUIET = 0.1
"""Of the first sounds after the tone: what is fainter meanwhile is no speech."""

_SILENCE: Samples = np.zeros(FRAME_SAMPLES, np.int16)


class SpeechDetector(Protocol):
    """Called with every frame in order; may remember earlier ones."""

    def __call__(self, samples: Samples) -> bool: ...


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody began to speak `at_s` seconds into the stream."""

    at_s: float


@dataclass(frozen=True, slots=True, eq=False)
class SilenceBegan:
    """A pause. `utterance` has passed the quality check: checks may start on it, speculatively."""

    at_s: float
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class SilenceLasts:
    """The pause goes on, by one frame. Only `listen` says so, for those who wait for the checks."""

    silent_ms: float
    """Since speech was last heard."""


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The pause was only a pause: whatever was started on its utterance is void."""

    at_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """Speech is over. `utterance` passed the quality check; it is that of the pause before, if any."""

    at_s: float
    utterance: Utterance


@dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """Speech is over and must not be judged; `error` says why, to the person. Any pause before it is void."""

    at_s: float
    error: QualityError


Event: TypeAlias = SpeechStarted | SilenceBegan | SilenceLasts | SpeechResumed | Ended | Refused


class _State(Enum):
    WAITING = auto()
    SPEAKING = auto()
    PAUSING = auto()


class Endpointer:
    """One stream's state. `push` every frame in order, `finish` when the stream ends, `wipe` when done."""

    def __init__(
        self,
        settings: EndpointerSettings,
        limits: QualityLimits,
        is_speech: SpeechDetector,
        *,
        whole: bool = False,
        hesitant: bool = False,
    ) -> None:
        """`whole`: the stream is one recording, so only `finish` ends what is said in it. `hesitant`: wait
        for the longer silence, because the listener itself ends an answer that is complete."""
        self._limits = limits
        self._is_speech = is_speech
        self._onset = settings.frames(settings.onset_ms)
        self._onset_window = settings.frames(settings.onset_window_ms)
        self._pre_roll = settings.frames(settings.pre_roll_ms)
        self._pause = settings.frames(settings.pause_ms)
        end_ms = settings.hesitation_ms if hesitant else settings.end_ms
        self._end = sys.maxsize if whole else settings.frames(end_ms)
        self._window = settings.frames(settings.window_s * 1_000)
        self._max_speech = sys.maxsize if whole else settings.frames(settings.max_speech_s * 1_000)
        held = self._window + self._pre_roll + self._pause
        self._history = SampleHistory(held * FRAME_SAMPLES)
        self._flags: deque[bool] = deque(maxlen=held)
        self._clock_samples = 0
        self._heard = self._tone_until = 0
        self.wipe()

    def push(self, frame: Frame) -> list[Event]:
        """Hear one frame; at most two events follow from it."""
        self._clock_samples += frame.lost_samples + FRAME_SAMPLES
        if frame.lost_samples and self._state is _State.WAITING:
            self.wipe()
        elif frame.lost_samples:
            self._gap = True
        # The detector adapts to what it hears, so it never hears the tone. Silence teaches it nothing, and
        # ends what it made of the tone's first milliseconds.
        voiced = self._is_speech(_SILENCE if frame.own_tone else frame.samples) and not frame.own_tone
        self._history.append(frame.samples)
        self._flags.append(voiced)
        self._heard += 1
        if frame.own_tone:
            self._tone_until = self._heard
            return []
        if self._state is _State.WAITING:
            return self._wait_for_onset()
        # A single voiced frame in silence is a click; two of three are a voice.
        if voiced and any(self._latest(3)[:-1]):
            return self._voice()
        return self._silence()

    def finish(self) -> list[Event]:
        """The stream has ended: whatever was being said ends with it."""
        if self._state is _State.WAITING:
            self.wipe()
            return []
        return [self._over()]

    def _latest(self, count: int) -> list[bool]:
        flags = self._flags
        return [flags[-back] for back in range(min(count, len(flags)), 0, -1)]

    @property
    def _now_s(self) -> float:
        return self._clock_samples / SAMPLE_RATE_HZ

    def wipe(self) -> None:
        """Forget everything and overwrite the samples kept here. Utterances handed out are not touched."""
        self._history.wipe()
        self._flags.clear()
        self._state = _State.WAITING
        self._tone_until = 0
        self._heard = 0  # frames since the last wipe: every position below counts from there
        self._first_voiced = 0
        self._voiced_until = 0
        self._pending: Utterance | QualityError | None = None
        self._gap = False

    def _wait_for_onset(self) -> list[Event]:
        recent = self._latest(min(self._onset_window, self._heard - self._tone_until))
        if not recent[-1] or sum(recent) < self._onset:
            return []
        self._state = _State.SPEAKING
        self._first_voiced = self._begun_in_tone(self._heard - len(recent) + recent.index(True))
        self._voiced_until = self._heard
        earlier_samples = (self._heard - self._first_voiced) * FRAME_SAMPLES
        return [SpeechStarted((self._clock_samples - earlier_samples) / SAMPLE_RATE_HZ)]

    def _begun_in_tone(self, first: int) -> int:
        """The first voiced frame of speech that is there right after the door's own tone: it began in it."""
        if not self._tone_until or first - self._tone_until > TONE_GAP_FRAMES:
            return first
        kept = len(self._flags)
        samples = self._history.copy((self._heard - kept) * FRAME_SAMPLES)
        level = np.abs(samples.reshape(kept, FRAME_SAMPLES).astype(np.float64)).mean(axis=1)
        wipe(samples)
        ahead = self._heard - kept
        loud = level > TONE_QUIET * level[first - ahead :].max()
        at, gap = first - ahead, 0
        while at > 0 and gap <= TONE_GAP_FRAMES:
            at -= 1
            gap = 0 if loud[at] else gap + 1
            if loud[at]:
                self._flags[at] = True
                first = at + ahead
        return first

    def _voice(self) -> list[Event]:
        self._voiced_until = self._heard
        if self._heard - self._first_voiced > self._max_speech:
            self._pending = QualityError(
                Flaw.TOO_LONG, "That was too long. Please wait for quiet, then say only the phrase."
            )
            return [self._over()]
        if self._state is _State.SPEAKING:
            return []
        self._state = _State.SPEAKING
        told = isinstance(self._pending, Utterance)
        self._pending = None
        return [SpeechResumed(self._now_s)] if told else []

    def _silence(self) -> list[Event]:
        silent = self._heard - self._voiced_until
        events: list[Event] = []
        if self._state is _State.SPEAKING and silent >= self._pause:
            self._state = _State.PAUSING
            self._pending = self._so_far()
            if isinstance(self._pending, Utterance):
                events.append(SilenceBegan(self._now_s, self._pending))
        if self._state is _State.PAUSING and silent >= self._end:
            events.append(self._over())
        return events

    def _over(self) -> Event:
        # A gap counts even when it fell into the silence that was waited out: there may have been words in
        # it.
        result = self._so_far() if self._pending is None or self._gap else self._pending
        self.wipe()
        return Ended(self._now_s, result) if isinstance(result, Utterance) else Refused(self._now_s, result)

    def _so_far(self) -> Utterance | QualityError:
        """The utterance if it ended now: pads included, at most the window, measured and checked."""
        if self._gap:
            return QualityError(Flaw.GAP, "Part of that was lost. Please say the phrase again.")
        begin = max(0, self._first_voiced - self._pre_roll, self._heard - len(self._flags))
        begin = max(begin, self._voiced_until - self._window)
        samples = self._history.copy(begin * FRAME_SAMPLES)
        speech = np.array(self._flags, dtype=np.bool_)[len(self._flags) - (self._heard - begin) :]
        seconds = FRAME_SAMPLES / SAMPLE_RATE_HZ
        utterance = Utterance(
            samples=samples,
            speech_start_s=(max(self._first_voiced, begin) - begin) * seconds,
            speech_end_s=(self._voiced_until - begin) * seconds,
            quality=quality.measure(samples, speech),
            earlier_s=max(0, begin - self._first_voiced) * seconds,
        )
        try:
            return quality.check(utterance, self._limits)
        except QualityError as refusal:
            utterance.wipe()
            return refusal
