"""Tells the time by a wall clock that may be wrong: keeps the highest time seen, and notices jumps.

A board without a clock battery starts in 1970; a battery may fail to 2040; anybody with a shell can set a
clock. So rights go by the later of the clock and the highest time seen. A clock that lies behind it says
nothing about hours and visits, which then wait for somebody; and nothing is erased on one reading of it, but
after days in which clock and running time have agreed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from device.clock import Now

BUILT = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock that works reads less: this program is not older. Raise it with a release."""
TOLERANCE_S = 120.0
"""What a time service may put right at one step without anybody having set the clock."""
FAR_S = 86_400.0
LONG_OFF_S = 180 * 86_400.0
"""A start so long after the last time seen is written down: it lay in a cupboard, or its clock is wrong."""
CONFIRM_S = 600.0
"""A jump ahead counts as seen after the unit has run on for so long with it: a clock chip that was set to
local time is ahead by hours at each start, until a time service puts it right."""
NEW_FOR_S = 5 * 365 * 86_400.0
"""For so long after it was built a unit that has seen nothing yet believes its clock at once."""
SETTLED_S = 3 * 86_400.0
"""Running time in agreement with the clock, after which it may be believed about what has run out."""


@dataclass(frozen=True, slots=True)
class TimeSeen:
    """What is kept, sealed: the highest time believed (Unix seconds), and for how long clock and running time
    have agreed since the clock last jumped."""

    latest_s: float = 0.0
    steady_s: float = 0.0

    def time(self, wall: datetime) -> datetime:
        """The later of the clock and the highest time seen: what rights go by."""
        return max(wall, datetime.fromtimestamp(self.latest_s, UTC))

    def behind(self, wall: datetime) -> bool:
        """Whether the clock lies behind what was seen, or behind this program: it was set back, or lost."""
        return wall.timestamp() < max(self.latest_s, BUILT.timestamp()) - TOLERANCE_S


class Timekeeper:
    """Looks at both clocks whenever it is asked to. Safe for threads."""

    def __init__(self, seen: TimeSeen, keep: Callable[[TimeSeen], None] = lambda _: None) -> None:
        """`keep` takes what must not be lost; it need not write at once."""
        self._seen = seen
        self._keep = keep
        self._last: Now | None = None
        self._confirmed_at_s = 0.0
        self._jumps = 0
        self._lock = threading.Lock()

    @property
    def seen(self) -> TimeSeen:
        return self._seen

    def look(self, now: Now) -> TimeSeen:
        """Take note of one reading of the clocks; returns what is now believed."""
        with self._lock:
            wall_s, seen = now.wall.timestamp(), self._seen
            known_s = seen.latest_s or BUILT.timestamp() + NEW_FOR_S
            if self._last is None:
                drift_s = min(0.0, wall_s - seen.latest_s)  # how long it was off, nobody knows
                steady_s = seen.steady_s if wall_s - seen.latest_s < FAR_S else 0.0
                passed_s = 0.0
                self._jumps += wall_s - known_s > LONG_OFF_S
            else:
                passed_s = max(0.0, now.monotonic_s - self._last.monotonic_s)
                drift_s = (now.wall - self._last.wall).total_seconds() - passed_s
                steady_s = seen.steady_s
            if abs(drift_s) > TOLERANCE_S:
                self._jumps += 1
                steady_s = 0.0
            else:
                steady_s += passed_s
            if self._last is None or abs(drift_s) > TOLERANCE_S:
                ahead = wall_s - known_s > TOLERANCE_S
                self._confirmed_at_s = now.monotonic_s + (CONFIRM_S if ahead else 0.0)
            latest_s = seen.latest_s
            if now.monotonic_s >= self._confirmed_at_s:
                latest_s = max(latest_s, wall_s)
            self._last = now
            return self._settle(TimeSeen(latest_s, steady_s))

    def trust(self, now: Now) -> None:
        """Somebody says that the clock is right: from here on it is what was seen."""
        with self._lock:
            self._last = now
            self._confirmed_at_s = now.monotonic_s
            self._settle(TimeSeen(now.wall.timestamp(), 0.0))

    def jumps(self) -> int:
        """How often the clock was set since this was last asked."""
        with self._lock:
            jumps, self._jumps = self._jumps, 0
            return jumps

    def settled(self) -> bool:
        """Whether the clock may be believed about what has run out."""
        last = self._last
        return self._seen.steady_s >= SETTLED_S and last is not None and not self._seen.behind(last.wall)

    def _settle(self, seen: TimeSeen) -> TimeSeen:
        if seen != self._seen:
            self._seen = seen
            self._keep(self._seen)
        return self._seen
