"""The registry's clock: the machine's, as long as running time and the times of units agree with it.

A wall clock jumps: a battery, a time server, a virtual machine that was moved, a slip of the hand. Everything
that the registry says of others hangs on it: who is silent, whose clock is off, what is a replay, which month
has passed. So a jump is not followed until units, whose times are signed, have borne it out; meanwhile time
goes on by the clock that only counts seconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

SLACK_MS = 2_000
"""A time server corrects a clock by less than this in ordinary service."""
TOLERANCE_MS = 60_000
"""A unit's word is on its way for seconds, and two good clocks differ by less."""
FRESH_S = 600.0
"""What a unit said of the time is old after this."""
ALONE_S = 3600.0
"""When no unit says anything for so long after a jump, the machine's clock is believed after all."""
QUORUM = 2
DATABASE = "the registry's own database"


def running_s() -> float:
    """Seconds that the machine has been on, also while it slept (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class BelievedClock:
    """`now_ms` is the time to go by; `heard` takes what others say. No single one of them can set it."""

    def __init__(
        self,
        wall_ms: Callable[[], int],
        running_s: Callable[[], float] = running_s,
        *,
        newest_ms: int = 0,
    ) -> None:
        """`newest_ms`: the latest time at which anything was stored, one voice of several at the start."""
        self._wall_ms, self._running_s = wall_ms, running_s
        self._voices: dict[str, tuple[float, float]] = {}
        self._offset = self._wall_offset()
        self._jumped_at: float | None = None
        self._by_voices = False
        self.proved = False
        """Whether units have borne out what is believed, since the start."""
        if newest_ms:
            self.heard(DATABASE, newest_ms)

    def heard(self, name: str, told_ms: int) -> None:
        """Take a signed time; of several by one name the latest counts."""
        at, offset = self._running_s(), told_ms - self._running_ms()
        said_at, before = self._voices.get(name, (float("-inf"), offset))
        self._voices[name] = (at, max(offset, before) if at - said_at < FRESH_S else offset)

    def now_ms(self) -> int:
        """UTC in milliseconds, as far as it can be known."""
        wall, at = self._wall_offset(), self._running_s()
        middle, agreeing = self._voices_say(at)
        if middle is not None and abs(wall - middle) <= TOLERANCE_MS:
            self.proved = True
        elif middle is not None and not self.proved and agreeing >= QUORUM:
            # Nothing was believed before, and a clock that most contradict is not where to begin.
            self._offset, self.proved, self._by_voices = middle, True, True
        elif middle is not None and self._by_voices and agreeing >= QUORUM:
            self._offset = max(self._offset, middle)  # voices may be late and are never early
        if abs(wall - self._offset) <= SLACK_MS or self._borne_out(wall, middle, at):
            self._offset, self._jumped_at, self._by_voices = wall, None, False
        return round(self._running_ms() + self._offset)

    @property
    def off_ms(self) -> int:
        """How far the machine's clock is ahead of what is believed."""
        return self._wall_ms() - self.now_ms()

    def _borne_out(self, wall: float, middle: float | None, at: float) -> bool:
        if middle is not None:
            near = abs(wall - middle)
            return near <= TOLERANCE_MS or near < abs(self._offset - middle)
        if self._jumped_at is None:
            self._jumped_at = at
        return at - self._jumped_at > ALONE_S

    def _voices_say(self, at: float) -> tuple[float | None, int]:
        """What most of those say who spoke of late, None where there is no such thing, and how many do."""
        said = [offset for spoken_at, offset in self._voices.values() if at - spoken_at < FRESH_S]
        if not said:
            return None, 0
        middle = statistics.median_high(said)
        agreeing = sum(abs(offset - middle) <= FRESH_S * 1000 for offset in said)
        return (middle if 2 * agreeing > len(said) else None), agreeing

    def _wall_offset(self) -> float:
        return self._wall_ms() - self._running_ms()

    def _running_ms(self) -> float:
        return self._running_s() * 1000
