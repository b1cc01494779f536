"""Measures how fast a device's samples come against the unit's own clock. Pure; one object a stream.

A driver that drops or doubles a sample every 10 ms does it as evenly as a synthesiser sets its frames, and
no ear tells the two apart. But such a device runs 0.2 to 0.6 % slow or fast, which no crystal does (0.05 %
is a bad one). Blocks come late and never early, so only the promptest ones of two seconds count. A sound
server that holds back more from some moment on is no slow device: what is late has to grow from look to look,
three times in a row.
"""

from __future__ import annotations

import itertools
from collections import deque

EDGE_S, LOOK_EVERY_S, LOOKS = 2.0, 2.0, 4
TOLERANCE = 0.0015
"""Half of what one sample in 320 makes, thrice what the worst crystal does."""


class Drift:
    """Feed it every block; it says now and then how far the device is off."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._again()

    def _again(self) -> None:
        self._began_s: float | None = None
        self._samples = 0
        self._looks: deque[tuple[float, float]] = deque(maxlen=LOOKS)
        self._latest: deque[tuple[float, float]] = deque()
        self._look_s = EDGE_S

    def feed(self, samples: int, now_s: float, *, lost: bool) -> float | None:
        """By which share of time samples are missing (negative: too many), after eight seconds and every two
        from then on; None between. `lost`: some were dropped before these, so all is measured anew."""
        if lost or self._began_s is None:  # the first block was waiting: it tells no rate
            self._again()
            self._began_s = now_s
            return None
        self._samples += samples
        at_s = now_s - self._began_s
        late_s = at_s - self._samples / self._rate_hz
        while self._latest and self._latest[-1][0] >= late_s:
            self._latest.pop()
        self._latest.append((late_s, at_s))
        while self._latest[0][1] < at_s - EDGE_S:
            self._latest.popleft()
        if at_s < self._look_s:
            return None
        self._look_s = at_s + LOOK_EVERY_S
        self._looks.append(self._latest[0])
        if len(self._looks) < LOOKS:
            return None
        shares = [_share(one, other) for one, other in itertools.pairwise(self._looks)]
        one_way = all(share > 0.0 for share in shares) or all(share < 0.0 for share in shares)
        return min(shares, key=abs) if one_way else 0.0


def _share(one: tuple[float, float], other: tuple[float, float]) -> float:
    """How much later the other block came than the one, for each second between them."""
    return (other[0] - one[0]) / max(other[1] - one[1], 1e-9)
