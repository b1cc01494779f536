"""The unit's microphone. The one module that touches the sound card.

PortAudio's thread puts what it hears into a bounded queue and never waits; frames are cut, and resampled
when the device has another rate, on the reader's side. A device that is unplugged either ends its stream or
simply stops calling: both are an AudioDeviceLostError, never silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import numpy as np
import soxr

from device.audio.buffers import SampleQueue
from device.audio.errors import AudioDeviceLostError, AudioError
from device.audio.settings import MicrophoneSettings
from device.audio.source import framed
from device.audio.utterance import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame, Samples, wipe

_POLL_S = 0.2
"""How soon a stop is noticed while nothing comes."""


class Microphone:
    """An AudioSource. Calling `frames` again after it ended or raised opens the device anew."""

    def __init__(self, settings: MicrophoneSettings | None = None) -> None:
        self._settings = settings or MicrophoneSettings()
        self._lost = False
        self.dropped_samples = 0
        """Lost since this object was made, at 16 kHz: because we were late or the device was."""

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Frames until `stop` is set. Raises AudioDeviceLostError when there is no device or it goes away."""
        try:
            yield from self._frames(stop)
        except AudioDeviceLostError:
            self._lost = True
            raise

    def _frames(self, stop: Event) -> Iterator[Frame]:
        with self._stream() as (queue, rate_hz):
            convert = _converter(rate_hz)
            waiting: Samples = np.zeros(0, np.int16)
            carried = 0  # lost, but not yet told: a driver's block may be shorter than a frame
            patience_s = self._settings.start_s
            while not stop.is_set():
                taken = _taken(queue, stop, patience_s)
                patience_s = self._settings.stall_s
                if taken is None:
                    if stop.is_set():
                        return
                    raise AudioDeviceLostError("the microphone fell silent; check its plug and cable")
                heard, missed = taken
                lost = 0
                if missed:
                    lost = len(waiting) + 1 + missed * SAMPLE_RATE_HZ // rate_hz
                    self.dropped_samples += lost
                    wipe(waiting)
                    waiting = waiting[:0]
                    convert = _converter(rate_hz)
                joined = np.concatenate((waiting, convert(heard)))
                wipe(heard)
                wipe(waiting)
                whole = len(joined) - len(joined) % FRAME_SAMPLES
                waiting = joined[whole:].copy()
                wipe(joined[whole:])
                yield from framed(joined[:whole], carried + lost)
                carried = 0 if whole else carried + lost

    @contextmanager
    def _stream(self) -> Iterator[tuple[SampleQueue, int]]:
        """An open, running stream: the queue it fills and the rate it runs at."""
        sounddevice = _portaudio()
        if self._lost:
            # PortAudio lists devices once, when it starts: a microphone plugged in again is a new one to it.
            sounddevice._terminate()
            sounddevice._initialize()
            self._lost = False
        settings = self._settings
        try:
            rate_hz = settings.rate_hz or int(
                sounddevice.query_devices(settings.device, "input")["default_samplerate"]
            )
            queue = SampleQueue(int(settings.buffer_s * rate_hz))
            stream = sounddevice.RawInputStream(
                samplerate=rate_hz,
                blocksize=rate_hz * FRAME_MS // 1_000,
                device=settings.device,
                channels=1,
                dtype="int16",
                latency=settings.latency_s,
                callback=_callback(queue),
                finished_callback=queue.close,
            )
        except (sounddevice.PortAudioError, ValueError) as err:
            raise AudioDeviceLostError(
                f"no microphone can be opened ({_one_line(err)}); plug one in"
            ) from err
        try:
            with stream:
                yield queue, rate_hz
        except sounddevice.PortAudioError as err:
            raise AudioDeviceLostError(f"the microphone was lost ({_one_line(err)}); check its plug") from err
        finally:
            queue.wipe()


def _portaudio() -> Any:
    """The library, loaded on first use: everything but a microphone works without it."""
    try:
        import sounddevice
    except OSError as err:
        raise AudioError("PortAudio is missing; run `apt install libportaudio2`") from err
    return sounddevice


def _taken(queue: SampleQueue, stop: Event, patience_s: float) -> tuple[Samples, int] | None:
    """What waits; None when nothing came in time, nothing will, or `stop` is set."""
    deadline_s = time.monotonic() + patience_s
    while not stop.is_set():
        taken = queue.take(min(patience_s, _POLL_S))
        if taken is not None or queue.closed or time.monotonic() >= deadline_s:
            return taken
    return None


def _callback(queue: SampleQueue) -> Callable[[Any, int, Any, Any], None]:
    def heard(data: Any, count: int, times: Any, status: Any) -> None:
        samples = np.frombuffer(data, dtype=np.int16)
        # The driver does not say how much it dropped; a block is the least it can be.
        queue.put(samples, lost=count if status.input_overflow else 0)

    return heard


def _converter(rate_hz: int) -> Callable[[Samples], Samples]:
    if rate_hz == SAMPLE_RATE_HZ:
        return lambda samples: samples
    resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="int16", quality="HQ")

    def convert(samples: Samples) -> Samples:
        converted: Samples = resampler.resample_chunk(samples)
        return converted

    return convert


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())
