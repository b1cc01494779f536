"""Debounces contacts, which close many times before they settle. Pure; times in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from device.door.supervision import Line


@dataclass(frozen=True, slots=True)
class Level:
    """The level of a wire since `at_s`."""

    line: Line
    active: bool
    at_s: float


class Debounce:
    """Lets a level through once it has held for `settle_s`. The first level of a wire counts at once."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._raw: dict[Line, Level] = {}
        self._settled: dict[Line, bool] = {}

    def feed(self, level: Level) -> Iterator[Level]:
        """The levels that this one settles; it may come late and in a burst."""
        before = self._raw.get(level.line)
        if before is None:
            self._raw[level.line] = level
            self._settled[level.line] = level.active
            yield level
        elif before.active != level.active:
            if level.at_s - before.at_s >= self._settle_s:
                yield from self._settle(before)
            self._raw[level.line] = level

    def settled(self, now_s: float) -> Iterator[Level]:
        """Levels that have held long enough by now."""
        for raw in self._raw.values():
            if now_s - raw.at_s >= self._settle_s:
                yield from self._settle(raw)

    @property
    def due_s(self) -> float:
        """When `settled` may next give a level."""
        return min(
            (
                raw.at_s + self._settle_s
                for raw in self._raw.values()
                if raw.active != self._settled[raw.line]
            ),
            default=math.inf,
        )

    def active(self, line: Line) -> bool:
        """The settled level; False for a wire that was never read."""
        return self._settled.get(line, False)

    def _settle(self, raw: Level) -> Iterator[Level]:
        if raw.active != self._settled[raw.line]:
            self._settled[raw.line] = raw.active
            yield Level(raw.line, raw.active, raw.at_s + self._settle_s)
