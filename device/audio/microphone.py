"""Reads the unit's microphone: frames from the process that holds the sound card.

That process (`card/child.py`) may hang inside PortAudio and is then killed; a thread takes what it sends into
a bounded queue. The reader cuts frames, and resamples where the device has another rate. A device that is
unplugged ends its stream or simply stops: both raise AudioDeviceLostError.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Event
from typing import Any

import numpy as np
import soxr

from device.audio.buffers import SampleQueue
from device.audio.card.health import Gaps, Health, Pace, Trouble
from device.audio.card.level import InputLevel
from device.audio.card.process import CardProcess, refusal
from device.audio.errors import AudioDeviceLostError, AudioError
from device.audio.settings import MicrophoneSettings
from device.audio.source import AudioSource, framed
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame, Samples, wipe

TRIES, REST_S = 3, 1.0
"""How often, and with which rest between, a microphone is asked for one frame before it counts as deaf."""
_POLL_S = 0.2
"""How soon a stop is noticed while nothing comes."""


def hear_one_frame(source: AudioSource, rest: Callable[[float], object] = time.sleep) -> None:
    """Raises AudioError where `source` hears nothing at all. One that was silent, or held by another process,
    is asked again: the unit itself has the microphone while somebody speaks.
    """
    for left in reversed(range(TRIES)):
        try:
            with closing(source.frames(Event())) as frames:  # type: ignore[type-var]
                next(frames).samples[:] = 0
            return
        except AudioDeviceLostError:
            if not left:
                raise
            rest(REST_S)


class Microphone:
    """An AudioSource. Calling `frames` again after it ended or raised opens the device anew."""

    def __init__(
        self,
        settings: MicrophoneSettings | None = None,
        on_trouble: Callable[[Trouble], None] = lambda _: None,
        start: Callable[[], CardProcess] = CardProcess,
    ) -> None:
        """`on_trouble` is told once a stream what is wrong with the sound itself."""
        self._settings = settings or MicrophoneSettings()
        self._on_trouble = on_trouble
        self._start = start
        self._spare: CardProcess | None = None
        self._channel = 0  # which of two is heard: a dead one is dead at the next attempt, too
        self.level: InputLevel | None = None
        """Raises what is heard and learns from it; None hears the microphone as it is."""

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Frames until `stop` is set. Raises AudioDeviceLostError when there is no device or it goes away."""
        level = self.level
        try:
            yield from self._heard(stop, level.raised if level is not None else lambda samples: samples)
        finally:
            if level is not None:
                level.ended()

    def _heard(self, stop: Event, raised: Callable[[Samples], Samples]) -> Iterator[Frame]:
        with self._stream(stop) as opened:
            if opened is None:
                return
            pump, rate_hz = opened
            convert = _converter(rate_hz)
            waiting: Samples = np.zeros(0, np.int16)
            carried = 0  # lost, but not yet told: a driver's block may be shorter than a frame
            patience_s, silent = self._settings.start_s, "opened, but gave no sound for"
            while not stop.is_set():
                taken = _taken(pump.queue, stop, patience_s)
                if taken is None:
                    if stop.is_set():
                        return
                    raise AudioDeviceLostError(
                        pump.why or f"the microphone {silent} {patience_s:g} s; check its plug and cable"
                    )
                patience_s, silent = self._settings.stall_s, "fell silent for"
                for trouble in pump.troubles():
                    self._on_trouble(trouble)
                heard, missed = taken
                lost = 0
                if missed:
                    lost = len(waiting) + 1 + missed * SAMPLE_RATE_HZ // rate_hz
                    wipe(waiting)
                    waiting = waiting[:0]
                    convert = _converter(rate_hz)
                plain = convert(heard)
                joined = np.concatenate((waiting, raised(plain)))
                wipe(plain)
                wipe(heard)
                wipe(waiting)
                whole = len(joined) - len(joined) % FRAME_SAMPLES
                waiting = joined[whole:].copy()
                wipe(joined[whole:])
                yield from framed(joined[:whole], carried + lost)
                carried = 0 if whole else carried + lost

    def close(self) -> None:
        """End the process that waits for the next attempt."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    @contextmanager
    def _stream(self, stop: Event) -> Iterator[tuple[_Pump, int] | None]:
        """An open, running stream and its rate; None when `stop` came first."""
        settings = self._settings
        card, self._spare = self._spare or self._start(), None
        pump: _Pump | None = None
        try:
            card.ask(
                do="capture", device=settings.device, rate_hz=settings.rate_hz, latency_s=settings.latency_s
            )
            facts = self._opened(card, stop)
            if facts is None:
                yield None
                return
            rate_hz, channels = int(facts["rate_hz"]), int(facts["channels"])
            pump = _Pump(card, rate_hz, channels, settings.buffer_s, self._channel)
            yield pump, rate_hz
        finally:
            card.kill()
            if pump is not None:
                pump.stop()
                self._channel = pump.channel
            card.close()
            self._spare = self._start()

    def _opened(self, card: CardProcess, stop: Event) -> dict[str, Any] | None:
        settings = self._settings
        deadline_s = time.monotonic() + settings.start_s
        while not stop.is_set():
            message = card.message(min(_POLL_S, max(0.0, deadline_s - time.monotonic())))
            if message is not None and message.kind == "o":
                return message.facts()
            if message is not None:
                raise refusal(message.facts(), settings.device, settings.rate_hz)
            if time.monotonic() >= deadline_s:
                raise AudioDeviceLostError(
                    f"the microphone did not open within {settings.start_s:g} s; "
                    "unplug it and plug it in again"
                )
        return None


class _Pump:
    """A thread that takes what the process sends, so that the sound card never waits for us."""

    def __init__(self, card: CardProcess, rate_hz: int, channels: int, buffer_s: float, channel: int) -> None:
        self.queue = SampleQueue(int(buffer_s * rate_hz))
        self.why = ""
        """Why nothing more comes, when the device said so."""
        self._card = card
        self._channels = channels
        self._health = Health(rate_hz, channels, channel)
        self._pace = Pace(rate_hz)
        self._gaps = Gaps(rate_hz)
        self._found: list[Trouble] = []
        self._stopped = Event()
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)
        self._thread.start()

    def troubles(self) -> list[Trouble]:
        """What was found since the last call."""
        found, self._found = self._found, []
        return found

    @property
    def channel(self) -> int:
        return self._health.channel

    def stop(self) -> None:
        """Returns when the thread has ended, within a second."""
        self._stopped.set()
        self._thread.join()
        self.queue.wipe()

    def _run(self) -> None:
        try:
            waited_s = 0.0
            while not self._stopped.is_set():
                began_s = time.monotonic()
                message = self._card.message(_POLL_S)
                now_s = time.monotonic()
                waited_s += now_s - began_s
                if message is None:
                    continue
                if message.kind != "s":
                    self.why = f"the microphone was lost ({message.facts().get('text', '')}); check its plug"
                    return
                block = np.frombuffer(message.body, np.int16, offset=1).reshape(-1, self._channels).copy()
                if wrong := self._pace.feed(len(block), now_s, waited_s, lost=bool(message.body[0])):
                    self.why = f"the microphone cannot be heard: {wrong}"
                    return
                waited_s = 0.0
                self._found += self._health.feed(block, now_s, lost=bool(message.body[0]))
                heard = block[:, self._health.channel].copy()
                # The driver does not say how much it dropped; a block is the least it can be.
                lost = len(block) if message.body[0] else 0
                self.queue.put(heard, lost + self._health.drifted + self._gaps.feed(heard))
        except AudioError as err:
            self.why = str(err)  # the process has ended; when we ended it, nobody asks why
        except OSError:
            return  # ended by us
        finally:
            self.queue.close()


def _taken(queue: SampleQueue, stop: Event, patience_s: float) -> tuple[Samples, int] | None:
    """What waits; None when nothing came in time, nothing will, or `stop` is set. Only time in which we
    were running counts: a unit that was itself held up says nothing about its device."""
    waited_s = 0.0
    while not stop.is_set():
        began_s = time.monotonic()
        taken = queue.take(min(patience_s, _POLL_S))
        waited_s += min(time.monotonic() - began_s, 2 * _POLL_S)
        if taken is not None or queue.closed or waited_s >= patience_s:
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
