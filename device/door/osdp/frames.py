"""Cuts the bytes of a line into whole frames for this reader. Pure.

libosdp ends the secure channel at any byte that it cannot read and at a command that comes twice. Both are
common on a wire: noise, other readers' answers, a controller that asks again because an answer was late or
lost. So the library gets only whole frames with a right check value, and a repeated command gets the same
answer again (`channel.py`), as the standard asks.
"""

from __future__ import annotations

import math
from binascii import crc_hqx

SOM, MARK = 0x53, 0xFF
BROADCAST = 0x7F
MAX_FRAME_BYTES = 256
"""The largest that libosdp takes."""
GAP_S = 0.1
"""A frame without a further byte for so long was cut off. The standard allows 20 ms between bytes; the rest
is
for a process that did not get to run."""
KEYSET, REFUSED = 0x75, 0x00
"""Commands: set the channel's key; one that no reader knows."""
_IN_CLEAR = frozenset((0x61, 0x62))
"""Identity and capabilities."""
_HANDSHAKE = {0x11: 0x76, 0x13: 0x77}
"""The one command of each of the handshake's two security blocks."""
_SIGNED, _ENCIPHERED = 0x15, 0x17
"""Security blocks of a controller within the channel."""
_HEADER_BYTES = 5
_MIN_FRAME_BYTES = 7
_CRC, _BLOCK = 0x04, 0x08
SEQUENCE = 0x03


class Framer:
    """Bytes to frames; counts and drops everything else."""

    def __init__(self, address: int) -> None:
        self._mine = (address, BROADCAST)
        self._bytes = bytearray()
        self._marked = False
        self._last_s = -math.inf
        self.damaged = 0
        """How many beginnings were no frame: noise, a wrong check value, a frame that was cut off."""

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
        """The length of the frame that begins here; None when more bytes must come."""
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
        """Go on behind the first byte, where no frame begins."""
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


def screened(frame: bytes) -> bytes:
    """A whole frame if the library may have it, else an unknown command with the same number.

    In clear only identity, capabilities and the handshake pass; a handshake's security block carries nothing
    else; a key is set enciphered. The library checks some of this too, but within a channel it obeys any
    command behind a handshake's block unsigned (3.2.9). Which key that block asks for does not matter: some
    controllers always ask for the default one, and use their own.
    """
    mark = frame[:1] if frame[0] == MARK else b""
    header, rest = frame[len(mark) : len(mark) + _HEADER_BYTES], frame[len(mark) + _HEADER_BYTES :]
    if _may_pass(header[4], rest):
        return frame
    size = _HEADER_BYTES + 3
    refused = bytes((SOM, header[1], size, 0, _CRC | header[4] & SEQUENCE, REFUSED))
    return mark + refused + crc_hqx(refused, 0x1D0F).to_bytes(2, "little")


def _may_pass(control: int, rest: bytes) -> bool:
    """`rest` is what follows the header: a security block if there is one, the command, its data."""
    if not control & _BLOCK:
        return rest[0] in _IN_CLEAR
    size, block = rest[0], rest[1]
    if size < 2 or size >= len(rest):
        return False
    command = rest[size]
    if block in _HANDSHAKE:
        return command == _HANDSHAKE[block]
    return block == _ENCIPHERED or (block == _SIGNED and command != KEYSET)
