"""Whole frames out of the bytes of a line, for the one reader that they are meant for. Pure.

libosdp ends the secure channel at any byte that it cannot read and at a command that comes twice. On a wire
both are everyday: noise, other readers' answers, a controller that asks again because an answer was late or
lost. So the library is given whole frames with a right check value and nothing else, and a command that is
repeated is answered with the same bytes again (`channel.py`), as the standard asks: nothing is obeyed twice.
"""

from __future__ import annotations

import math
from binascii import crc_hqx

SOM, MARK = 0x53, 0xFF
BROADCAST = 0x7F
MAX_FRAME_BYTES = 256
"""What libosdp can take."""
GAP_S = 0.1
"""A frame whose next byte does not come for so long was cut off. The standard asks for 20 ms between bytes;
the rest is for the time in which this process was not run."""
_HEADER_BYTES = 5
_MIN_FRAME_BYTES = 7
_CRC = 0x04
SEQUENCE = 0x03


class Framer:
    """Bytes to frames. What belongs to nobody here is dropped and counted."""

    def __init__(self, address: int) -> None:
        self._mine = (address, BROADCAST)
        self._bytes = bytearray()
        self._marked = False
        self._last_s = -math.inf
        self.damaged = 0
        """How many frames were begun and were none: noise, a wrong check value, a frame that was cut off."""

    def feed(self, data: bytes, now_s: float) -> list[bytes]:
        """The frames for this reader that `data` completes, each with its mark byte if it had one."""
        if data:
            self._bytes += data
            self._last_s = now_s
        elif self._bytes and now_s - self._last_s > GAP_S:
            self._skip()
        found = []
        while (size := self._size()) is not None:
            frame = bytes(self._bytes[:size])
            if not _is_sound(frame):
                self._skip()
                continue
            del self._bytes[:size]
            if frame[1] in self._mine:
                found.append(bytes((MARK,)) * self._marked + frame)
            self._marked = False
        return found

    def _size(self) -> int | None:
        """How long the frame is that begins here; None when more bytes must come."""
        while True:
            start = self._bytes.find(SOM)
            before = self._bytes[:start] if start >= 0 else self._bytes
            if before:
                self._marked = before[-1] == MARK
            del self._bytes[: len(before)]
            if len(self._bytes) < _HEADER_BYTES:
                return None
            size = int.from_bytes(self._bytes[2:4], "little")
            if _MIN_FRAME_BYTES <= size <= MAX_FRAME_BYTES:
                return size if len(self._bytes) >= size else None
            self._skip()

    def _skip(self) -> None:
        """No frame begins here; perhaps one begins behind it."""
        del self._bytes[0]
        self._marked = False
        self.damaged += 1


def _is_sound(frame: bytes) -> bool:
    if frame[4] & _CRC:
        return crc_hqx(frame[:-2], 0x1D0F) == int.from_bytes(frame[-2:], "little")
    return sum(frame) & 0xFF == 0


def sequence(frame: bytes) -> int:
    """The sequence number of a whole frame."""
    return frame[4 + (frame[0] == MARK)] & SEQUENCE
