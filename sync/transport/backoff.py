"""The wait before the next try: doubling, capped, random so that a fleet does not return at once."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Full jitter: uniform in (0, min(cap, first * 2^tries)], but at least a tenth of `first`."""

    first_s: float = 0.5
    cap_s: float = 60.0
    dice: random.Random = field(default_factory=random.SystemRandom)
    _tries: int = 0

    def next_s(self) -> float:
        ceiling = min(self.cap_s, self.first_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return max(self.first_s / 10, self.dice.uniform(0.0, ceiling))

    def reset(self) -> None:
        self._tries = 0
