"""Filters the line for libosdp: passes one intact command at a time, and none that was answered already."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from device.door.osdp.frames import Framer, screened, sequence
from device.door.osdp.port import SerialPort

CROSSED_S = 0.05
"""A command that comes again so soon after its answer was sent before the answer was there. Two answers would
put the controller out of step by one; if the first one was lost, it asks once more."""


class Channel:
    """Between libosdp and the port; called from the peripheral's thread only.

    A command that comes again, with the same number and the same bytes, gets the answer that it had, and
    the library does not learn of it. So nothing is obeyed twice, and who plays a command back hears the
    answer that was on the wire already. What may be said outside the secure channel is screened here.
    """

    def __init__(
        self, port: SerialPort, address: int, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.id = port.id
        self.repeated = 0
        """How many commands were answered again."""
        self._port = port
        self._now_s = now_s
        self._framer = Framer(address)
        self._waiting: deque[bytes] = deque()
        self._rest = b""
        self._ended = True
        self._asked, self._answer = b"", b""
        self._answered_s = 0.0

    @property
    def damaged(self) -> int:
        """How many frames came that were none."""
        return self._framer.damaged

    def read(self, max_bytes: int) -> bytes:
        """The next bytes of the one command that is to be answered. The library reads until it gets fewer
        than it asked for, so the next command is not begun before that.
        """
        if not self._rest:
            if not self._ended:
                self._ended = True
                return b""
            self._rest = self._next()
        given, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        self._ended = len(given) < max_bytes
        return given

    def write(self, data: bytes) -> int:
        """The library's answer to the command that it was given last."""
        self._answer, self._answered_s = data, self._now_s()
        return self._port.write(data)

    def flush(self) -> None:
        """Drop what is left of the command that the library could not use."""
        self._rest = b""

    def _next(self) -> bytes:
        for frame in self._framer.feed(self._port.read(4096), self._now_s()):
            # Sent twice before it could be answered once: one answer is enough.
            if not self._waiting or self._waiting[-1] != frame:
                self._waiting.append(frame)
        while self._waiting:
            frame = self._waiting.popleft()
            # With the number 0 the controller begins anew: that is never a repeated command.
            if not sequence(frame) or frame != self._asked or not self._answer:
                self._asked, self._answer = frame, b""
                return screened(frame)
            if self._now_s() - self._answered_s >= CROSSED_S:
                self.repeated += 1
                self._answered_s = self._now_s()
                self._port.write(self._answer)
        return b""
