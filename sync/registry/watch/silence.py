"""Decides which silent units are alarms of their own; where nobody is heard at all, it is one alarm.

A broker or a line that is away makes every unit behind it silent. That is one alarm, of a site or of
everything. A unit has its own once it stays silent after others are heard again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sync.registry.reports.status import SILENT_AFTER_MS, UnitStatus

QUIET_AFTER_MS = 90_000
"""Units report each minute: so long without a word of anybody, and it may not be the unit."""


@dataclass(frozen=True, slots=True)
class Outage:
    """Nobody of `site` is heard, or nobody at all where it is None. `last_ms`: when somebody was, last."""

    site: str | None
    units: int
    last_ms: int


@dataclass(slots=True)
class Silence:
    """`least_units` is how many it takes to speak of a site."""

    least_units: int
    _away: dict[str, int] = field(default_factory=dict)
    """When each unit that is still silent was last one of an outage."""

    def look(self, units: Sequence[UnitStatus], now_ms: int) -> tuple[list[UnitStatus], list[Outage]]:
        """(units that are silent by themselves, outages). Units that said that they stop are none of it."""
        due = [unit for unit in units if unit.state in ("online", "silent")]
        outages = []
        alone: list[UnitStatus] = []
        for site, members in self._groups(due, now_ms):
            silent = [unit for unit in members if unit.state == "silent"]
            if len(members) >= self.least_units and len(silent) == len(members):
                outages.append(Outage(site, len(silent), max(map(heard_ms, silent))))
                self._away.update((unit.unit, now_ms) for unit in silent)
            elif not self._quiet(members, now_ms):
                alone += [unit for unit in silent if self._own(unit, now_ms)]
        still = {unit.unit for unit in due if unit.state == "silent"}
        self._away = {unit: at for unit, at in self._away.items() if unit in still}
        return alone, outages

    def _groups(
        self, due: Sequence[UnitStatus], now_ms: int
    ) -> list[tuple[str | None, Sequence[UnitStatus]]]:
        """All together while nobody is heard, else site by site."""
        sites: dict[str, list[UnitStatus]] = {}
        for unit in due:
            sites.setdefault(unit.site, []).append(unit)
        if len(sites) > 1 and self._quiet(due, now_ms):
            return [(None, due)]
        return [*sites.items()]

    def _quiet(self, members: Sequence[UnitStatus], now_ms: int) -> bool:
        """Whether nobody of so many was heard for longer than their reports are apart."""
        if len(members) < self.least_units:
            return False
        apart_ms = max(1500 * (unit.health.get("every_s") or 0) for unit in members)
        return now_ms - max(map(heard_ms, members)) > max(QUIET_AFTER_MS, apart_ms)

    def _own(self, unit: UnitStatus, now_ms: int) -> bool:
        away_ms = self._away.get(unit.unit)
        return away_ms is None or now_ms - away_ms >= SILENT_AFTER_MS


def heard_ms(unit: UnitStatus) -> int:
    """When a unit was heard last, by our clock; 0 for never."""
    return max(unit.seen_ms or 0, unit.health_ms or 0)
