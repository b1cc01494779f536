"""The door's loudspeaker: tones through the process that holds the sound card, and the self-test by chirp."""

from __future__ import annotations

import logging
import math
import queue
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from threading import Event
from typing import Protocol

import numpy as np

from device.audio.card.chirp import ChirpReport, analyse, chirp
from device.audio.card.process import CardProcess, refusal
from device.audio.errors import AudioError
from device.audio.source import AudioSource
from device.audio.utterance import SAMPLE_RATE_HZ, Samples, wipe

OPENS_S, MARGIN_S = 30.0, 15.0
"""Without a word for so long its process has hung and is killed: to be ready, and after a tone's own length.
On a machine at whose start everything starts at once, either has taken more than five seconds."""
ENDS_S = 3.0
"""A tone that plays when the unit stops is let play so long."""
BEFORE_S, LOOK_S, AFTER_S = 0.5, 0.5, 3.0
"""Listened before the chirp; how often it is looked for once it has been played; and for how long: on a busy
machine what the microphone hears comes late."""
CHIRPS = 2
LONGEST_S = 50.0
"""No self-test takes longer: the service manager waits for the door's start."""

log = logging.getLogger(__name__)


class Loudspeaker:
    """Plays int16 mono at 16 kHz on the default output without waiting. It logs a failure once, and tries
    again with the next tone."""

    def __init__(self, start: Callable[[], CardProcess] = CardProcess) -> None:
        self._start = start
        self._card: CardProcess | None = None
        self._silent = False
        self._closing = False
        self._waiting: queue.Queue[Samples | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._run, name="loudspeaker", daemon=True)
        self._thread.start()

    def __call__(self, samples: Samples) -> None:
        """Play soon. A tone that would come too late is dropped."""
        try:
            self._waiting.put_nowait(samples)
        except queue.Full:
            log.info("a tone was dropped: the loudspeaker is busy")

    @property
    def busy(self) -> bool:
        """Whether a tone waits or is being played."""
        return self._waiting.unfinished_tasks > 0

    def close(self) -> None:
        """End it, within seconds. Tones that wait are not played, and one that hangs is ended."""
        self._closing = True
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        self._thread.join(ENDS_S)
        if (hanging := self._card) is not None:  # the thread may have done with it by now
            hanging.kill()
        self._thread.join(ENDS_S)

    def _run(self) -> None:
        while (samples := self._waiting.get()) is not None:
            try:
                if self._card is None:
                    self._card = self._start()
                    open_output(self._card)
                play(self._card, samples)
                self._silent = False
            except AudioError as err:
                if not (self._silent or self._closing):
                    log.warning("no tones: %s", err)
                self._silent = True
                self._end()
            finally:
                self._waiting.task_done()
        self._end()

    def _end(self) -> None:
        if self._card is not None:
            self._card.close()
            self._card = None


def open_output(card: CardProcess) -> None:
    """Make `card` a loudspeaker. Raises AudioError."""
    card.ask(do="play", device=None, rate_hz=SAMPLE_RATE_HZ)
    message = card.message(OPENS_S)
    if message is None:
        raise AudioError("the sound card did not answer; unplug the loudspeaker and plug it in again")
    if message.kind != "o":
        raise refusal(message.facts(), None, SAMPLE_RATE_HZ, "loudspeaker")


def play(card: CardProcess, samples: Samples) -> None:
    """Play to the end. Raises AudioError when that fails or hangs; `card` must be closed then."""
    card.send(struct.pack("<I", len(samples)) + samples.astype("<i2").tobytes())
    message = card.message(len(samples) / SAMPLE_RATE_HZ + MARGIN_S)
    if message is None:
        raise AudioError("the loudspeaker hangs; its process is started again")
    if message.kind != "p":
        raise refusal(message.facts(), None, SAMPLE_RATE_HZ, "loudspeaker")


class Plays(Protocol):
    """Plays int16 mono at 16 kHz and returns at once."""

    def __call__(self, samples: Samples) -> None: ...

    @property
    def busy(self) -> bool:
        """Whether it has not yet played everything, or found that it cannot."""


def self_test(microphone: AudioSource, speaker: Plays) -> ChirpReport:
    """Play a chirp and listen for it; two to three seconds where it is heard. Raises AudioError when nothing
    can be heard. A chirp that is spoiled is played again: a busy machine loses a part of it."""
    until_s = time.monotonic() + LONGEST_S
    for _ in range(CHIRPS):
        report = _tried(microphone, speaker, until_s)
        if not report.complaint or speaker.busy or time.monotonic() >= until_s:
            break
    return report


def _tried(microphone: AudioSource, speaker: Plays, until_s: float) -> ChirpReport:
    """Listens until the chirp is heard as it should be, or AFTER_S after the loudspeaker has done with it."""
    sent, heard = chirp(), list[Samples]()
    held_s, over_s, look_s = 0.0, math.inf, math.inf
    played, report = False, analyse(np.zeros(0, np.int16))
    with closing(microphone.frames(Event())) as frames:  # type: ignore[type-var]
        for frame in frames:
            heard.append(frame.samples)
            held_s += len(frame.samples) / SAMPLE_RATE_HZ
            if not played and held_s >= BEFORE_S:
                speaker(sent)
                played = True
            elif played and over_s == math.inf and not speaker.busy:
                over_s, look_s = held_s, held_s + LOOK_S
            over = held_s >= over_s + AFTER_S or time.monotonic() >= until_s
            if held_s >= look_s or over:
                report, look_s = analyse(np.concatenate(heard)), held_s + LOOK_S
                if over or not report.complaint:
                    break
    for samples in heard:
        wipe(samples)
    return report
