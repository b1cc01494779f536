"""From a source to utterances: the live stream for the door, the whole file for everything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Event as StopEvent

import webrtcvad

from device.audio.endpointer import Ended, Endpointer, Event, Refused, SilenceBegan, SilenceLasts
from device.audio.errors import QualityError, SilenceError
from device.audio.recording import read_recording
from device.audio.settings import AudioSettings
from device.audio.source import AudioSource, framed
from device.audio.utterance import FRAME_MS, SAMPLE_RATE_HZ, Samples, Utterance, wipe


def listen(
    source: AudioSource, stop: StopEvent, settings: AudioSettings | None = None, *, hesitant: bool = False
) -> Iterator[Event]:
    """Everything that happens on a stream, in order, until it ends or `stop` is set.

    The utterance of a SilenceBegan is void after SpeechResumed or Refused, and the same object as that of the
    Ended which follows otherwise. The receiver of an utterance wipes it. `hesitant` waits for
    the longer silence of an answer that lacks words. Raises what the source raises.
    """
    settings = settings or AudioSettings()
    endpointer = Endpointer(
        settings.endpointer,
        settings.quality,
        VoiceActivity(settings.endpointer.aggressiveness),
        hesitant=hesitant,
    )
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


def utterances(
    source: AudioSource, stop: StopEvent, settings: AudioSettings | None = None
) -> Iterator[Utterance | QualityError]:
    """What was said, one by one, or why it cannot be judged. Without the speculative start of `listen`."""
    pending: Utterance | None = None
    for event in listen(source, stop, settings):
        if isinstance(event, SilenceBegan):
            pending = event.utterance
            continue
        if isinstance(event, SilenceLasts):
            continue
        if pending is not None and not isinstance(event, Ended):
            pending.wipe()
        pending = None
        if isinstance(event, Ended):
            yield event.utterance
        elif isinstance(event, Refused):
            yield event.error
    if pending is not None:
        pending.wipe()


def load_utterance(
    source: str | os.PathLike[str] | bytes, settings: AudioSettings | None = None
) -> Utterance:
    """The speech in a WAV or FLAC file (its path, or its content as bytes), from the first to the last voiced
    frame, with pads; pauses stay in it.

    The same detector, pads, window and checks as at the door. Raises QualityError when it must not be judged.
    """
    settings = settings or AudioSettings()
    endpointer = Endpointer(
        settings.endpointer,
        settings.quality,
        VoiceActivity(settings.endpointer.aggressiveness),
        whole=True,
    )
    samples = read_recording(source, settings.file, unbroken=True)
    result: Utterance | QualityError = SilenceError(
        "No voice was heard. Please come closer and say the phrase aloud."
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


class VoiceActivity:
    """WebRTC voice activity detection. `aggressiveness` 0 to 3: higher calls less speech.

    It adapts to level and removes any DC offset itself. It also calls many noises speech, which is why
    `check` looks at pitch and signal-to-noise ratio before anything is judged.
    """

    def __init__(self, aggressiveness: int = 2) -> None:
        if aggressiveness not in range(4):
            raise ValueError(f"aggressiveness must be 0 to 3, not {aggressiveness}")
        self._vad = webrtcvad.Vad(aggressiveness)

    def __call__(self, samples: Samples) -> bool:
        """Samples are one frame: int16, shape (320,)."""
        return bool(self._vad.is_speech(samples.tobytes(), SAMPLE_RATE_HZ))
