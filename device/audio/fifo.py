"""Reads a named pipe of raw samples, through which another program on the unit lends its microphone.

Raw samples say nothing about themselves, so one format is taken: 16 kHz, mono, signed 16-bit little-endian. A
writer that goes away between two samples has ended the stream. One that goes away inside a sample, or sends a
file with a header, has sent another format.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np

from device.audio.errors import AudioDeviceLostError, AudioError, UnreadableAudioError
from device.audio.source import framed
from device.audio.utterance import FRAME_SAMPLES, Frame
from sync.plain_words import why

FRAME_BYTES = 2 * FRAME_SAMPLES
_POLL_MS = 100
_MAGIC = {b"RIFF": "WAV", b"RF64": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF"}


class FifoSource:
    """Frames from a named pipe. Waits without end for a writer, but not for one that writes nothing."""

    def __init__(self, path: str | os.PathLike[str], *, stall_s: float = 5.0) -> None:
        self._path = path
        self._stall_s = stall_s

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Until the writer goes away. Raises UnreadableAudioError for what are not whole samples,
        AudioDeviceLostError when the writer stalls."""
        name = Path(self._path).name
        with _opened(self._path, name) as descriptor:
            waiting = b""
            first = True
            for received in self._received(descriptor, name, stop):
                waiting += received
                if first and len(waiting) >= 4:
                    first = False
                    if kind := _MAGIC.get(waiting[:4]):
                        raise UnreadableAudioError(
                            f"{name}: carries a {kind} file; write raw samples into it"
                        )
                whole = len(waiting) - len(waiting) % FRAME_BYTES
                # A copy, because a buffer made of bytes could not be overwritten later.
                yield from framed(np.frombuffer(waiting[:whole], dtype="<i2").astype(np.int16))
                waiting = waiting[whole:]
            if stop.is_set():
                return
            if len(waiting) % 2:
                raise UnreadableAudioError(f"{name}: the stream stopped in the middle of a sample")
            yield from framed(np.frombuffer(waiting, dtype="<i2").astype(np.int16))

    def _received(self, descriptor: int, name: str, stop: Event) -> Iterator[bytes]:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        heard_s: float | None = None  # None until a writer has written
        while not stop.is_set():
            if not poll.poll(_POLL_MS):
                if heard_s is not None and time.monotonic() - heard_s > self._stall_s:
                    raise AudioDeviceLostError(
                        f"{name}: its writer has gone silent; restart the program that fills it"
                    )
                continue
            received = os.read(descriptor, 10 * FRAME_BYTES)
            if not received:
                return
            heard_s = time.monotonic()
            yield received


@contextmanager
def _opened(path: str | os.PathLike[str], name: str) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise AudioError(f"{name}: cannot be opened ({why(err)})") from err
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            raise AudioError(f"{name}: not a named pipe; make one with mkfifo")
        yield descriptor
    finally:
        os.close(descriptor)
