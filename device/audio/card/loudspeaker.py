"""The door's loudspeaker: tones through the process that holds the sound card, and the self-test by chirp."""

from __future__ import annotations

import logging
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

MARGIN_S = 5.0
"""A tone that has not been played this long after its end has hung, and its process is killed."""
BEFORE_S, AFTER_S = 0.5, 1.0

log = logging.getLogger(__name__)


class Loudspeaker:
    """Plays int16 mono at 16 kHz on the default output without waiting. It logs a failure once, and tries
    again with the next tone."""

    def __init__(self, start: Callable[[], CardProcess] = CardProcess) -> None:
        self._start = start
        self._card: CardProcess | None = None
        self._silent = False
        self._waiting: queue.Queue[Samples | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._run, name="loudspeaker", daemon=True)
        self._thread.start()

    def __call__(self, samples: Samples) -> None:
        """Play soon. A tone that would come too late is dropped."""
        try:
            self._waiting.put_nowait(samples)
        except queue.Full:
            log.info("a tone was dropped: the loudspeaker is busy")

    def close(self) -> None:
        """End it. Tones that wait are not played: a loudspeaker that hangs would take seconds for each."""
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        self._thread.join(2 * MARGIN_S)

    def _run(self) -> None:
        while (samples := self._waiting.get()) is not None:
            try:
                self._card = self._card or self._opened()
                play(self._card, samples)
                self._silent = False
            except AudioError as err:
                if not self._silent:
                    log.warning("no tones: %s", err)
                self._silent = True
                self._end()
        self._end()

    def _opened(self) -> CardProcess:
        card = self._start()
        try:
            open_output(card)
        except AudioError:
            card.close()
            raise
        return card

    def _end(self) -> None:
        if self._card is not None:
            self._card.close()
            self._card = None


def open_output(card: CardProcess) -> None:
    """Make `card` a loudspeaker. Raises AudioError."""
    card.ask(do="play", device=None, rate_hz=SAMPLE_RATE_HZ)
    message = card.message(MARGIN_S)
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


def self_test(microphone: AudioSource, speaker: Plays) -> ChirpReport:
    """Play a chirp and listen for it; two to three seconds. Raises AudioError when nothing can be heard."""
    sent = chirp()
    wanted_s = BEFORE_S + len(sent) / SAMPLE_RATE_HZ + AFTER_S
    heard: list[Samples] = []
    played = False
    began_s = time.monotonic()
    with closing(microphone.frames(Event())) as frames:  # type: ignore[type-var]
        for frame in frames:
            heard.append(frame.samples)
            held_s = sum(map(len, heard)) / SAMPLE_RATE_HZ
            if not played and held_s >= BEFORE_S:
                speaker(sent)
                played = True
            if held_s >= wanted_s or time.monotonic() - began_s > 3 * wanted_s + 2 * MARGIN_S:
                break
    report = analyse(np.concatenate(heard) if heard else np.zeros(0, np.int16))
    for samples in heard:
        wipe(samples)
    return report
