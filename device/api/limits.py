"""Limits: requests a second, checks of a person, bytes waiting in memory. Pure."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from device.api.errors import BUSY, TOO_MANY, ProblemError

_REMEMBERED = 4096
UNDISTURBED_S = 1.0
"""So long a body may arrive before a newcomer may take its room."""


class Rate:
    """A token bucket for each name; of too many, it forgets the longest unused."""

    def __init__(self, per_s: float, burst: float, what: str) -> None:
        self._per_s = per_s
        self._burst = max(1.0, burst)
        self._what = what
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now_s: float) -> None:
        """Count one. Raises ProblemError (429), which says when the next is allowed."""
        left, since_s = self._buckets.pop(name, (self._burst, now_s))
        left = min(self._burst, left + max(0.0, now_s - since_s) * self._per_s)
        if left < 1.0:
            self._buckets[name] = (left, now_s)
            wait_s = (1.0 - left) / self._per_s
            raise ProblemError(TOO_MANY, self._what, retry_after_s=wait_s)
        self._buckets[name] = (left - 1.0, now_s)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)


class Room:
    """Bounds the requests, and their bytes, that wait with audio in memory."""

    def __init__(self, requests: int, size_bytes: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._max_requests = requests
        self._max_bytes = size_bytes
        self._now_s = now_s
        self._arriving: dict[Stay, float] = {}
        """Bodies still on their way, and since when, the oldest first."""
        self.requests = 0
        self.size_bytes = 0

    def enter(self, size_bytes: int) -> None:
        """Reserve before anything is read; gives up the slowest bodies on their way to make room.

        Raises ProblemError (503) when there is none.
        """
        while self.requests >= self._max_requests or self.size_bytes + size_bytes > self._max_bytes:
            slowest = next(iter(self._arriving), None)
            if slowest is None or self._now_s() - self._arriving[slowest] < UNDISTURBED_S:
                raise ProblemError(
                    BUSY, f"{self.requests} requests are waiting; send this again later", retry_after_s=2.0
                )
            slowest.give_up()
        self.requests += 1
        self.size_bytes += size_bytes

    def leave(self, size_bytes: int) -> None:
        self.requests -= 1
        self.size_bytes -= size_bytes

    def arriving(self, stay: Stay) -> None:
        """Note that the body of `stay` begins to arrive."""
        self._arriving[stay] = self._now_s()

    def arrived(self, stay: Stay) -> None:
        self._arriving.pop(stay, None)


class Stay:
    """One reservation in a Room, given back once: by the request, or by the job that took it over."""

    def __init__(self, room: Room, size_bytes: int) -> None:
        room.enter(size_bytes)
        self._room = room
        self._size_bytes = size_bytes
        self._inside = True
        self._stop: Callable[[], None] = lambda: None
        self.handed_on = False

    @contextmanager
    def arriving(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the body is read; `stop` ends that when another needs the room more."""
        self._stop = stop
        self._room.arriving(self)
        try:
            yield
        finally:
            self._room.arrived(self)

    def give_up(self) -> None:
        self._room.arrived(self)
        self._stop()
        self.end()

    def end(self) -> None:
        if self._inside:
            self._inside = False
            self._room.leave(self._size_bytes)
