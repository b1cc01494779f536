"""Time as the core sees it: a wall clock that may lie and a monotonic one that restarts at boot."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks.

    Schedules use `wall`; expiry and waits use `monotonic_s`, which nobody can set.
    """

    wall: datetime
    monotonic_s: float

    def __post_init__(self) -> None:
        if self.wall.tzinfo is None:
            raise ValueError("the wall clock needs a time zone")


Clock = Callable[[], Now]


def system_clock() -> Now:
    """This machine's clocks.

    CLOCK_BOOTTIME also runs while the unit sleeps, so a nap does not stretch a deadline.
    """
    return Now(datetime.now(UTC), time.clock_gettime(time.CLOCK_BOOTTIME))
