"""Reads badge numbers in one canonical form, swipes of a reader, and cards as bits. Pure.

A number is ASCII letters and digits, upper case. Facility code and leading zeros stay; dash, colon and space
are dropped, because one reader sends them and the next does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from device.errors import DeviceError

MAX_BADGE_CHARACTERS = 32
MAX_SENT_BYTES = 256
BOUNCE_S = 0.1
"""Within this long, a button is one press."""
SEPARATORS = ":- "
_STX, _ETX = 0x02, 0x03
_ENDS = b"\r\n\t\x03"
_FILL = b"\x00\x11\x13\x7f"
"""What serial lines carry between numbers: NUL and DEL to fill up, XON and XOFF to hold the other side."""
_CURSOR_KEYS = ("\x1b[", "\x1bO")
MAX_BITS = 512
_WRITTEN = re.compile(r"([0-9]{1,3}):([0-9a-fA-F]+)")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadgeError(DeviceError):
    """A text is no badge number; the message says what is wrong with it, without the number."""


def badge_number(text: str) -> str:
    """The canonical form of `text`. Raises BadgeError."""
    if text.isascii() and text.isalnum() and len(text) <= MAX_BADGE_CHARACTERS:  # nearly all are
        return text.upper()
    kept = "".join(character for character in text.strip() if character not in SEPARATORS)
    if not kept:
        raise BadgeError("it holds no letter or digit")
    for character in kept:
        if not character.isascii():
            raise BadgeError(f"it holds {character!r}, which is no ASCII letter or digit")
        if not character.isalnum():
            raise BadgeError(
                f"it holds {character!r}; only letters, digits, dash, colon and space may be there"
            )
    if len(kept) > MAX_BADGE_CHARACTERS:
        raise BadgeError(f"it has {len(kept)} characters; {MAX_BADGE_CHARACTERS} are the most")
    return kept.upper()


@dataclass(frozen=True, slots=True)
class Swipe:
    """What a reader sent once: a badge, something unreadable, or the line end of a button."""

    number: str = ""
    """Canonical; empty when there is none."""
    trouble: str = ""
    """Why it could not be read."""
    sent: bytes = b""
    """As it came, without its line end: for the person who sets a reader up, never for a log."""

    @property
    def is_button(self) -> bool:
        return not self.number and not self.trouble


class BadgeDecoder:
    """Turns the bytes of a keyboard-wedge or serial reader into swipes. Readers end a number by CR, LF,
    TAB or ETX, often more than one of them, and may begin it with STX. A number comes in one burst: after
    `gap_s` of silence a new one begins, and the part before is unreadable."""

    def __init__(self, gap_s: float = 0.5) -> None:
        self._gap_s = gap_s
        self._seen = bytearray()
        self._overlong = False
        self._last_s = -math.inf
        self._ended_s = -math.inf
        self._ended_badge = False

    def feed(self, data: bytes | memoryview, now_s: float) -> Iterator[Swipe]:
        """Each swipe that `data` completes."""
        if self._seen and now_s - self._last_s > self._gap_s:
            yield Swipe(trouble="it was cut short", sent=self._take())
        self._last_s = now_s
        for byte in data:
            if byte == _STX:
                self._take()
            elif byte in _FILL and not self._seen:
                continue
            elif byte in _ENDS:
                yield from self._end(byte, now_s)
            elif len(self._seen) < MAX_SENT_BYTES:
                self._seen.append(byte)
            else:
                self._overlong = True

    def finish(self) -> Iterator[Swipe]:
        """What is left when the stream has ended."""
        if self._seen:
            yield from self._end(0, self._last_s)

    def _end(self, byte: int, now_s: float) -> Iterator[Swipe]:
        overlong, sent = self._overlong, self._take()
        # A reader may end one swipe twice. Of a button only CR LF and a bouncing contact are one press.
        first = now_s - self._ended_s > (self._gap_s if self._ended_badge else BOUNCE_S)
        self._ended_s = now_s
        self._ended_badge = bool(sent) or (self._ended_badge and not first)
        if sent:
            yield read(sent, overlong)
        elif first and byte in b"\r\n":
            yield Swipe()

    def _take(self) -> bytes:
        sent = bytes(self._seen)
        self._seen.clear()
        self._overlong = False
        return sent


def read(sent: bytes, overlong: bool = False) -> Swipe:
    """The swipe in one line of a reader, without its line end."""
    text = sent.removeprefix(_BYTE_ORDER_MARK).rstrip(_FILL)
    if overlong:
        return Swipe(trouble=f"it is longer than {MAX_SENT_BYTES} bytes", sent=sent)
    try:
        number = text.decode("ascii")
        if number.startswith(_CURSOR_KEYS):
            return Swipe(trouble="it holds cursor keys where digits belong: Num Lock is off", sent=sent)
        return Swipe(badge_number(number), sent=sent)
    except UnicodeDecodeError:
        return Swipe(
            trouble="it holds bytes that are no ASCII letters or digits; the keyboard's layout or the line's "
            "speed may be another than the reader's",
            sent=sent,
        )
    except BadgeError as err:
        return Swipe(trouble=str(err), sent=sent)


class CardError(DeviceError):
    """A text is no card."""


@dataclass(frozen=True, slots=True)
class CardBits:
    """`count` bits, the first one the highest of `data[0]`; the last byte is filled with zeros."""

    count: int
    data: bytes

    @classmethod
    def parse(cls, written: str) -> CardBits:
        """From `26:2AB3C440`: how many bits, then the bits in hexadecimal, first bit first, filled with
        zeros to whole bytes. Nothing is decoded or made anew: parity, facility code and number stay as
        they were read. Raises CardError."""
        found = _WRITTEN.fullmatch(written.strip())
        if found is None:
            raise CardError("it is not written as bits and hexadecimal digits, such as `26:2AB3C440`")
        count, digits = int(found[1]), found[2]
        if not 1 <= count <= MAX_BITS:
            raise CardError(f"a card has 1 to {MAX_BITS} bits, not {count}")
        size = (count + 7) // 8
        if len(digits) != 2 * size:
            raise CardError(f"{count} bits are {2 * size} hexadecimal digits, not {len(digits)}")
        data = bytes.fromhex(digits)
        spare = 8 * size - count
        if spare and data[-1] & ((1 << spare) - 1):
            raise CardError(f"the last {spare} bits are beyond the {count} of the card and must be zero")
        return cls(count, data)

    def __str__(self) -> str:
        return f"{self.count}:{self.data.hex().upper()}"
