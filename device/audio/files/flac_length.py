"""Finds the length of a FLAC file whose header does not state it, from its last frame (RFC 9639 9). Pure."""

from __future__ import annotations

_CRC8, _CRC16 = 0x07, 0x8005
_LONGEST_FRAME = 600_000
"""Bytes that a frame of 65,535 samples, two channels and 32 bits can take, and more."""
_MOST_LOOKS, _MOST_SUMS = 2_000, 4
"""Ordinary content looks like a header 20 times in the longest frame, and passes its CRC-8 once in a
thousand frames."""


def flac_length(view: memoryview, info: int) -> int:
    """Samples per channel; 0 when the content does not end with a whole frame: one whose header has the
    right CRC-8 and whose CRC-16 ends the file. STREAMINFO lies at `info`."""
    block = int.from_bytes(view[info : info + 2], "big")
    tail = bytes(view[max(info, len(view) - _LONGEST_FRAME) :])
    at, looked, summed = len(tail), 0, 0
    while looked < _MOST_LOOKS and summed < _MOST_SUMS and (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if tail[at + 1 : at + 2] not in (b"\xf8", b"\xf9"):
            continue
        looked += 1
        end = samples_to_end(tail, at, block)
        if not end:
            continue
        summed += 1
        if _crc(tail[at:-2], _CRC16, 16) == int.from_bytes(tail[-2:], "big"):
            return end
    return 0


def samples_to_end(tail: bytes, at: int, block: int) -> int:
    """The number of the sample behind the frame that begins at `at`; 0 when none begins there."""
    head = tail[at : at + 16]
    if len(head) < 8 or head[3] & 1:
        return 0
    number, used = _coded_number(head[4:])
    if not used:
        return 0
    size_code, rate_code, here = head[2] >> 4, head[2] & 15, 4 + used
    if size_code in (6, 7):
        width = size_code - 5
        size = int.from_bytes(head[here : here + width], "big") + 1
        here += width
    else:
        size = 192 if size_code == 1 else 144 << size_code if size_code < 6 else 1 << size_code
    here += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if size_code == 0 or here >= len(head) or _crc(head[:here], _CRC8, 8) != head[here]:
        return 0
    first = number if head[1] & 1 else number * block
    return first + size


def _coded_number(data: bytes) -> tuple[int, int]:
    """A number coded like UTF-8, in up to seven bytes, and how many it took; none for other bytes."""
    first = data[0]
    if first < 0x80:
        return first, 1
    more = 0
    while more < 7 and first & (0x40 >> more):
        more += 1
    if not 1 <= more <= 6 or len(data) <= more:
        return 0, 0
    number = first & (0x3F >> more)
    for byte in data[1 : 1 + more]:
        if byte & 0xC0 != 0x80:
            return 0, 0
        number = number << 6 | byte & 0x3F
    return number, 1 + more


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    top, mask, value = 1 << bits - 1, (1 << bits) - 1, 0
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
    return value
