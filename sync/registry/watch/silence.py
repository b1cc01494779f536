"""Tells units that are silent by themselves from outages of a site or of everything.

A broker or a line that is away makes every unit behind it silent. That is one alarm, of a site or of
everything. A unit has its own once it stays silent after others are heard again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sync.registry.reports.status import SILENT_AFTER_MS, UnitStatus

QUIET_AFTER_MS = 90_000
"""Units report each minute: where none was heard for so long, the line may be at fault and not a unit."""


@dataclass(frozen=True, slots=True)
class Outage:
    """No unit of `site` is heard, or none at all where it is None; `last_ms` is when one was, last."""

    site: str | None
    units: int
    last_ms: int


@dataclass(slots=True)
class Silence:
    """`least_units` is how many silent units of a site make an outage."""

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
                outages.append(Outage(site, len(silent), max(unit.heard_ms for unit in silent)))
                self._away.update((unit.unit, now_ms) for unit in silent)
            elif not self._quiet(members, now_ms):
                alone += [unit for unit in silent if self._own(unit, now_ms)]
        still = {unit.unit for unit in due if unit.state == "silent"}
        self._away = {unit: at for unit, at in self._away.items() if unit in still}
        return alone, outages

    def _groups(
        self, due: Sequence[UnitStatus], now_ms: int
    ) -> list[tuple[str | None, Sequence[UnitStatus]]]:
        """Units by site; all of them in one group while none is heard."""
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
        return now_ms - max(unit.heard_ms for unit in members) > max(QUIET_AFTER_MS, apart_ms)

    def _own(self, unit: UnitStatus, now_ms: int) -> bool:
        away_ms = self._away.get(unit.unit)
        return away_ms is None or now_ms - away_ms >= SILENT_AFTER_MS
