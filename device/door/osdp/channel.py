"""Filters the line for libosdp: one intact command at a time, and none that was answered before."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from device.door.osdp.frames import Framer, screened, sequence
from device.door.osdp.port import SerialPort

CROSSED_S = 0.05
"""A command repeated so soon after its answer had crossed with it. A second answer would put the controller
out
of step by one; if the first was lost, it asks once more."""


class Channel:
    """Between libosdp and the port; called from the peripheral's thread only.

    A repeated command, with the same number and bytes, gets the same answer again, past the library: nothing
    is obeyed twice, and a replay learns only an answer that was on the wire before. Commands outside the
    secure channel are screened here.
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
        """How many damaged frames came."""
        return self._framer.damaged

    def read(self, max_bytes: int) -> bytes:
        """The next bytes of the command to be answered. The library reads until it gets fewer bytes than it
        asked for; only then does the next command begin.
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
        """Send and keep the library's answer to its last command."""
        self._answer, self._answered_s = data, self._now_s()
        return self._port.write(data)

    def flush(self) -> None:
        """Drop the rest of a command that the library could not use."""
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
