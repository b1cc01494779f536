"""Failed attempts at one door for one badge within minutes: one bout, whose prints are judged together.

An attacker who tries three times leaves three prints of one tool; their mean says more than each of them.
Only attempts for the same person (by pseudonym) at the same door of the same unit are one bout: what several
people do at a door one after another is never joined, nor what nobody was named for. A bout ends when that
person is let in. It is in memory alone, no longer than it lasts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from sync.events import UnitId
from sync.registry.campaigns.grouping import added
from sync.threats.prints import VALUES, Print, as_values

BOUT_MS = 600_000
"""From its first attempt to its last."""
MOST_TOGETHER = 5
"""What comes after so many attempts is another bout."""
MOST_OPEN = 4096


@dataclass(frozen=True, slots=True)
class Bout:
    """What the prints of one bout add up to, and what was told of them."""

    unit: UnitId
    model: str
    begins: bool = False
    """Whether one of its attempts may begin a campaign."""
    sums: tuple[int, ...] = (0,) * VALUES
    count: int = 0
    campaign: int | None = None
    told: tuple[int, ...] | None = None
    """What it added to its campaign's sums; None where the unit had added enough."""

    def values(self) -> bytes:
        """The direction of its mean."""
        return as_values(self.sums)

    def vector(self) -> tuple[int, ...]:
        """The same at the length of one print: a bout counts as one, however often was tried."""
        return tuple(added([0] * VALUES, self.values()))

    def with_print(self, found: Print, *, begins: bool) -> Bout:
        """With one attempt more."""
        sums = tuple(added(self.sums, found.values))
        return replace(self, sums=sums, count=self.count + 1, begins=self.begins or begins)


@dataclass(frozen=True, slots=True)
class Moment:
    """When and for whom the attempt of a print was made, by its event."""

    door: str
    person: str
    sequence: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Open:
    """A bout that may go on."""

    bout: Bout
    first: Moment
    names: tuple[bytes, ...] = ()
    """Of its prints, whose rows follow it into another campaign."""


class OpenBouts:
    """The bouts of all units that may go on."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[UnitId, str, str], tuple[Open, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def find(self, unit: UnitId, model: str, at: Moment) -> Open | None:
        """The bout that an attempt goes on with."""
        found = self._open.get((unit, at.door, at.person))
        if not at.person or found is None:
            return None
        bout, first = found[0].bout, found[0].first
        goes_on = abs(at.time_ms - first.time_ms) <= BOUT_MS and bout.count < MOST_TOGETHER
        return found[0] if goes_on and bout.model == model else None

    def keep(self, one: Open, now_ms: int) -> None:
        """Remember it as it is now."""
        if one.first.person:
            key = (one.bout.unit, one.first.door, one.first.person)
            self._open[key] = one, now_ms
            self._open.move_to_end(key)

    def forget(self, now_ms: int) -> None:
        """Drop what nobody has added to for as long as a bout lasts, and the oldest where there are many."""
        while self._open:
            key, (_, touched_ms) = next(iter(self._open.items()))
            if len(self._open) < MOST_OPEN and abs(now_ms - touched_ms) <= BOUT_MS:
                return
            del self._open[key]
