"""Time as the core sees it: a wall clock that may lie and a monotonic one that restarts at boot."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks: `wall` for schedules, `monotonic_s`, which nobody can set, for waits."""

    wall: datetime
    monotonic_s: float

    def __post_init__(self) -> None:
        if self.wall.tzinfo is None:
            raise ValueError("the wall clock needs a time zone")

    @property
    def time_ms(self) -> int:
        """`wall` as Unix milliseconds."""
        return int(self.wall.timestamp() * 1000)


Clock = Callable[[], Now]


def system_clock() -> Now:
    """This machine's clocks; the monotonic one (CLOCK_BOOTTIME) runs while the unit sleeps, too."""
    return Now(datetime.now(UTC), time.clock_gettime(time.CLOCK_BOOTTIME))
