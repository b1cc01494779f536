"""Where frames come from: anything that yields 20 ms of 16 kHz mono int16 at a time until it is stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Protocol

import numpy as np

from device.audio.errors import AudioDeviceLostError
from device.audio.recording import read_recording
from device.audio.settings import FileLimits, MicrophoneSettings
from device.audio.utterance import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame, Samples, wipe


class AudioSource(Protocol):
    """Yields frames in order and ends when the stream does or `stop` is set; both are no errors.

    Raises AudioDeviceLostError when the sound is gone, and a QualityError when what comes is not the sound
    that was promised. Who takes a frame may overwrite it.
    """

    def frames(self, stop: Event) -> Iterator[Frame]: ...


def framed(samples: Samples, lost_samples: int = 0) -> Iterator[Frame]:
    """Cut int16 samples of shape (n,) into frames; the last one is filled up with silence."""
    for start in range(0, len(samples), FRAME_SAMPLES):
        piece = samples[start : start + FRAME_SAMPLES]
        if len(piece) < FRAME_SAMPLES:
            piece = np.concatenate((piece, np.zeros(FRAME_SAMPLES - len(piece), np.int16)))
        yield Frame(piece, lost_samples)
        lost_samples = 0


class FileSource:
    """Plays a WAV or FLAC file as if it were a microphone; `realtime` at the speed of one."""

    def __init__(
        self, path: str | os.PathLike[str], limits: FileLimits | None = None, *, realtime: bool = False
    ) -> None:
        self._path = path
        self._limits = limits or FileLimits()
        self._realtime = realtime

    def frames(self, stop: Event) -> Iterator[Frame]:
        samples = read_recording(self._path, self._limits, unbroken=True)
        try:
            started = time.monotonic()
            for number, frame in enumerate(framed(samples), start=1):
                if stop.is_set():
                    return
                if self._realtime:
                    stop.wait(max(0.0, started + number * FRAME_MS / 1_000 - time.monotonic()))
                yield frame
        finally:
            wipe(samples)


class Reopening:
    """A source that comes back: when the device is lost it waits, a little longer each time, and opens it
    again.

    The first frame after a loss says how much was missed, so that nothing said across the gap is judged.
    """

    def __init__(
        self,
        source: AudioSource,
        settings: MicrophoneSettings | None = None,
        on_lost: Callable[[AudioDeviceLostError], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._settings = settings or MicrophoneSettings()
        self._on_lost = on_lost
        self._monotonic = monotonic

    def frames(self, stop: Event) -> Iterator[Frame]:
        lost_at_s: float | None = None
        retry_s = self._settings.retry_s
        while not stop.is_set():
            try:
                for frame in self._source.frames(stop):
                    if lost_at_s is not None:
                        missed = 1 + int((self._monotonic() - lost_at_s) * SAMPLE_RATE_HZ)
                        frame = Frame(frame.samples, frame.lost_samples + missed)
                        lost_at_s, retry_s = None, self._settings.retry_s
                    yield frame
                return
            except AudioDeviceLostError as err:
                if lost_at_s is None:
                    lost_at_s = self._monotonic()
                self._on_lost(err)
            stop.wait(retry_s)
            retry_s = min(2.0 * retry_s, self._settings.retry_max_s)
