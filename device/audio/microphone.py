"""The unit's microphone. The one module that touches the sound card.

A thread of ours takes what PortAudio has, without ever waiting for it, and puts it into a bounded queue;
frames are cut, and resampled when the device has another rate, on the reader's side. PortAudio calls nothing
back: a callback into Python needs memory that is written and then run, which the unit's service forbids. A
device that is unplugged either fails or gives nothing more: both are an AudioDeviceLostError, never silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
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

_LOOK_S = 0.01
"""How often the device is asked for more; half a frame."""

_INPUT_OVERFLOWED = -9981  # portaudio.h, paInputOverflowed


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
            )
        except (sounddevice.PortAudioError, ValueError) as err:
            raise AudioDeviceLostError(
                f"no microphone can be opened ({_one_line(err)}); plug one in"
            ) from err
        try:
            with stream, _reading(stream, queue, sounddevice.PortAudioError):
                yield queue, rate_hz
        except sounddevice.PortAudioError as err:
            raise AudioDeviceLostError(f"the microphone was lost ({_one_line(err)}); check its plug") from err
        finally:
            queue.wipe()


@contextmanager
def _reading(stream: Any, queue: SampleQueue, failed: type[Exception]) -> Iterator[None]:
    """A thread that fills `queue` from `stream`, until the block is left or the device fails."""
    stop = Event()
    thread = Thread(target=_fill, args=(stream, queue, failed, stop), name="microphone", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()  # it never waits for the device, and a stream must not be closed under it


def _fill(stream: Any, queue: SampleQueue, failed: type[Exception], stop: Event) -> None:
    block = stream.blocksize
    while not stop.wait(_LOOK_S):
        try:
            waiting, lost = stream.read_available, 0
        except failed as err:
            if not _overflowed(err):
                queue.close()
                return
            waiting, lost = 0, block  # how much the driver dropped it does not say; a block is the least
        if waiting == 0 and not lost:
            continue
        try:
            data, overflow = stream.read(waiting) if waiting else (bytearray(), False)
        except failed:
            queue.close()
            return
        samples = np.frombuffer(data, dtype=np.int16)
        queue.put(samples, lost=block if overflow else lost)
        if samples.flags.writeable:
            samples[:] = 0


def _overflowed(err: Exception) -> bool:
    return len(err.args) > 1 and err.args[1] == _INPUT_OVERFLOWED


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
