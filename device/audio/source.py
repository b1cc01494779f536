"""Where frames come from: anything that yields 20 ms of 16 kHz mono int16 at a time until it is stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from threading import Event
from typing import Protocol

import numpy as np

from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.audio.utterance import FRAME_MS, FRAME_SAMPLES, Frame, Samples, wipe


class AudioSource(Protocol):
    """Yields frames in order until the stream ends or `stop` is set; the receiver may overwrite them.
    Raises AudioDeviceLostError when the sound is gone, QualityError when it is not what was promised."""

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
