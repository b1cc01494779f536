"""Badge readers: a keyboard wedge on standard input, or a serial reader's device."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from device.access.badges import BadgeDecoder, Swipe
from device.errors import DeviceError
from sync.plain_words import why

CUT_SHORT_S = 0.5
"""A badge that is not complete in this time is unreadable."""
CALM_S = 2.0
"""A noisy line makes one unreadable badge in this time, so that it fills no log."""


def swipes(
    stream: BinaryIO,
    *,
    rest: Callable[[], None] = lambda: None,
    rest_s: float = math.inf,
    waiting: Callable[[], None] = lambda: None,
    wait_s: float = 5.0,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> Iterator[Swipe]:
    """The badges from an unbuffered stream until it ends.

    `rest` is called when nobody has come for `rest_s` after an answer, `waiting` at least every `wait_s`.
    Raises DeviceError when the reader was unplugged.
    """
    decoder = BadgeDecoder(CUT_SHORT_S)
    noisy_until_s = -math.inf
    due = _Due()
    for data in _bursts(stream, due, waiting, wait_s, monotonic_s):
        if data is None:
            if monotonic_s() >= due.at_s:
                due.at_s = math.inf
                rest()
            continue
        for swipe in decoder.feed(data, monotonic_s()) if data else decoder.finish():
            if swipe.trouble:
                if monotonic_s() < noisy_until_s:
                    continue
                noisy_until_s = monotonic_s() + CALM_S
            yield swipe
            del swipe
            due.at_s = monotonic_s() + rest_s
        del data


@dataclass(slots=True)
class _Due:
    """When the wait for the next bytes must be interrupted."""

    at_s: float = math.inf


def _bursts(
    stream: BinaryIO,
    due: _Due,
    waiting: Callable[[], None],
    wait_s: float,
    monotonic_s: Callable[[], float],
) -> Iterator[bytes | memoryview | None]:
    """Bytes as they come, to be used at once; None when none came for a while, empty once at the end."""
    held = bytearray(4096)
    try:
        descriptor = stream.fileno()
    except OSError:  # a test's stream
        yield from stream
        yield b""
        return
    while True:
        waiting()
        left_s = max(0.0, due.at_s - monotonic_s())
        # Read from the descriptor: a buffered reader would hide bytes from `select`.
        ready, _, _ = select.select([descriptor], [], [], min(left_s, wait_s))
        if not ready:
            yield None
            continue
        try:
            count = os.readv(descriptor, [held])
        except OSError as err:
            raise DeviceError(f"the badge reader went away ({why(err)}); check its cable") from err
        yield memoryview(held)[:count]
        if not count:
            return
        held[:count] = bytes(count)  # the person who showed it may be forgotten before the next one comes
