"""Turns a source into utterances: a live stream at the door, a whole file elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Event as StopEvent

import webrtcvad

from device.audio.endpointer import Ended, Endpointer, Event, Refused, SilenceBegan, SilenceLasts
from device.audio.errors import Flaw, QualityError
from device.audio.recording import read_recording
from device.audio.settings import AudioSettings
from device.audio.source import AudioSource, framed
from device.audio.utterance import FRAME_MS, SAMPLE_RATE_HZ, Samples, Utterance, wipe


def listen(
    source: AudioSource, stop: StopEvent, settings: AudioSettings | None = None, *, hesitant: bool = False
) -> Iterator[Event]:
    """Everything that happens on a stream, in order, until it ends or `stop` is set. Raises what the source
    does.

    The utterance of a SilenceBegan is void after SpeechResumed or Refused; otherwise it is the very one of
    the Ended which follows. The receiver of an utterance wipes it. `hesitant`: as for Endpointer.
    """
    settings = settings or AudioSettings()
    endpointer = _endpointer(settings, hesitant=hesitant)
    pausing, silent_ms = False, 0.0
    try:
        for frame in source.frames(stop):
            events = endpointer.push(frame)
            wipe(frame.samples)
            if events:
                pausing, silent_ms = isinstance(events[-1], SilenceBegan), settings.endpointer.pause_ms
            elif pausing:
                silent_ms += FRAME_MS
                events = [SilenceLasts(silent_ms)]
            yield from events
        if not stop.is_set():
            yield from endpointer.finish()
    finally:
        endpointer.wipe()


def load_utterance(
    source: str | os.PathLike[str] | bytes, settings: AudioSettings | None = None
) -> Utterance:
    """The speech in a WAV or FLAC file (its path, or its content), from the first to the last voiced
    frame, as the door would hear it; pauses stay in it. Raises QualityError when it must not be judged."""
    settings = settings or AudioSettings()
    endpointer = _endpointer(settings, whole=True)
    samples = read_recording(source, settings.file, unbroken=True)
    result: Utterance | QualityError = QualityError(
        Flaw.SILENCE, "No voice was heard. Please come closer and say the phrase aloud."
    )
    pending: Utterance | None = None
    try:
        for frame in framed(samples):
            for event in endpointer.push(frame):
                if pending is not None:
                    pending.wipe()
                pending = event.utterance if isinstance(event, SilenceBegan) else None
        for event in endpointer.finish():
            if isinstance(event, Ended):
                result = event.utterance
            elif isinstance(event, Refused):
                result = event.error
    finally:
        wipe(samples)
        endpointer.wipe()
    if isinstance(result, QualityError):
        raise result
    return result


def _endpointer(settings: AudioSettings, *, whole: bool = False, hesitant: bool = False) -> Endpointer:
    is_speech = VoiceActivity(settings.endpointer.aggressiveness)
    return Endpointer(settings.endpointer, settings.quality, is_speech, whole=whole, hesitant=hesitant)


class VoiceActivity:
    """WebRTC voice activity detection. `aggressiveness` 0 to 3: higher calls less speech. It also calls
    many noises speech; `quality.check` looks at pitch and signal-to-noise ratio."""

    def __init__(self, aggressiveness: int = 2) -> None:
        if aggressiveness not in range(4):
            raise ValueError(f"aggressiveness must be 0 to 3, not {aggressiveness}")
        self._vad = webrtcvad.Vad(aggressiveness)

    def __call__(self, samples: Samples) -> bool:
        """Samples are one frame: int16, shape (320,)."""
        return bool(self._vad.is_speech(samples.tobytes(), SAMPLE_RATE_HZ))
