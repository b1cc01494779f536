"""Finds what no single event shows: bursts, one voice in two places, odd hours, silence, bulk reading.

`Detector.step` takes what has arrived since the last step and raises alarm rows in the same transaction, so
a detector that is killed neither misses an event nor counts one twice.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from sync.registry.clock import TOLERANCE_MS
from sync.registry.database.membership import Looked
from sync.registry.database.store import Store
from sync.registry.reports.status import UnitStatus, unit_statuses
from sync.registry.verification import Alarm
from sync.registry.watch import baseline
from sync.registry.watch.rules import SILENT_ALARM, Rule, tail_probability
from sync.registry.watch.silence import Silence

WATERMARK = "anomalies"
SETTLE_MS = 3000
"""Arrival times are taken just before the commit: what is younger than this may still be on its way in."""
HOUR_MS = 3_600_000
MAX_EVIDENCE = 20
MAX_KEPT = 1000
"""Events kept of one group; an attacker who makes more has been noticed long before."""


@dataclass(frozen=True, slots=True, order=True)
class _Seen:
    time_ms: int
    unit: str
    sequence: int
    door: str
    received_ms: int


@dataclass(slots=True)
class Detector:
    """Keeps the last windows in memory; after a restart it reads them again."""

    store: Store
    rules: Sequence[Rule]
    _bursts: dict[tuple[str, str], list[_Seen]] = field(default_factory=lambda: defaultdict(list))
    _places: dict[tuple[str, str], list[_Seen]] = field(default_factory=lambda: defaultdict(list))
    _silence: Silence | None = None
    _started: bool = False

    def step(self, now_ms: int, *, units: bool = True) -> int:
        """Look at what is new; returns how many alarms were raised or counted up.

        Unless `units`, nothing is said of units that are silent, late or have another time than we.
        """
        until = now_ms - SETTLE_MS
        # The states of all units are read first: SQLite has one writer, and we become it below.
        alarms = self._units(now_ms) if units else []
        with self.store.transaction() as db:
            after = baseline.watermark(db, WATERMARK)
            if after is None:
                after = until - self._longest_ms()
            # A clock that was far ahead has left its mark: what comes now would never be looked at.
            after = until if after > until + TOLERANCE_MS else after
            if not self._started:
                for row in baseline.arrived(db, after - self._longest_ms(), after):
                    self._feed(row)
            rows = baseline.arrived(db, after, until)
            hours: Counter[tuple[str, str, int]] = Counter()
            for row in rows:
                alarms += self._feed(row)
                hours[row.unit, row.door, row.time_ms // HOUR_MS] += 1
            baseline.add_door_hours(self.store, db, hours)
            alarms += self._spikes(db, hours)
            alarms += self._accounts(db, now_ms)
            alarms += self._revocations(db, now_ms)
            # As far as events were looked at, and no further: our clock may have been ahead just now.
            baseline.set_watermark(self.store, db, WATERMARK, rows[-1].received_ms if rows else after)
            self.store.raise_alarms(db, alarms, now_ms)
        self._started = True
        self._forget(until)
        return len(alarms)

    def _feed(self, row: Any) -> list[Alarm]:
        raised = []
        seen = _Seen(row.time_ms, row.unit, row.sequence, row.door, row.received_ms)
        for rule in self.rules:
            if row.kind not in rule.kinds and not (row.silent_alarm and SILENT_ALARM in rule.kinds):
                continue
            if rule.form == "burst":
                raised += self._burst(rule, seen)
            elif rule.form == "travel" and row.person is not None:
                raised += self._travel(rule, row.person, seen)
        return raised

    def _burst(self, rule: Rule, seen: _Seen) -> list[Alarm]:
        site = seen.unit.split("/")[0]
        group = {"door": f"{seen.unit} {seen.door}", "unit": seen.unit, "site": site}.get(rule.per, "all")
        kept = self._bursts[rule.name, group]
        bisect.insort(kept, seen)
        window = rule.window_s * 1000
        del kept[: len(kept) - MAX_KEPT]
        # The densest stretch of one window that the new event is part of.
        best: list[_Seen] = []
        end = 0
        for begin, start in enumerate(kept):
            while end < len(kept) and kept[end].time_ms < start.time_ms + window:
                end += 1
            if start <= seen and seen.time_ms < start.time_ms + window and end - begin > len(best):
                best = kept[begin:end]
        doors = {(s.unit, s.door) for s in best}
        if len(best) < rule.threshold or len(doors) < rule.doors:
            return []
        evidence = {
            "count": len(best),
            "doors": len(doors),
            "from_ms": best[0].time_ms,
            "to_ms": best[-1].time_ms,
            "events": [f"{s.unit}#{s.sequence}" for s in best[-MAX_EVIDENCE:]],
        }
        key = f"{rule.name} {group} {best[0].time_ms // window}"
        one_unit = rule.per in ("door", "unit")
        door = seen.door if rule.per == "door" else None
        return [Alarm(rule.name, rule.severity, seen.unit if one_unit else None, key, evidence, door)]

    def _travel(self, rule: Rule, person: str, seen: _Seen) -> list[Alarm]:
        kept = self._places[rule.name, person]
        bisect.insort(kept, seen)
        window, site = rule.window_s * 1000, seen.unit.split("/")[0]
        for other in kept:
            if other.unit.split("/")[0] != site and abs(other.time_ms - seen.time_ms) < window:
                evidence = {
                    "person": person,
                    "events": [f"{s.unit}#{s.sequence}" for s in sorted((other, seen))],
                    "apart_ms": abs(other.time_ms - seen.time_ms),
                }
                key = f"{rule.name} {person} {seen.time_ms // window}"
                return [Alarm(rule.name, rule.severity, seen.unit, key, evidence, seen.door)]
        return []

    def _spikes(self, db: Connection, hours: Counter[tuple[str, str, int]]) -> list[Alarm]:
        raised = []
        for rule in self.rules:
            if rule.form != "spike":
                continue
            for unit, door, hour in hours:
                if hour % 24 not in rule.hours_utc:
                    continue
                count, past = baseline.door_history(db, unit, door, hour, rule.days)
                if count < rule.threshold or len(past) < rule.least_days:
                    continue
                chance = tail_probability(count, past)
                if chance < rule.probability:
                    usual = sum(past) / len(past)
                    evidence = {"hour": hour, "count": count, "usual": round(usual, 2), "chance": chance}
                    key = f"{rule.name} {unit} {door} {hour}"
                    raised.append(Alarm(rule.name, rule.severity, unit, key, evidence, door, lasting=True))
        return raised

    def _units(self, now_ms: int) -> list[Alarm]:
        forms = {rule.form: rule for rule in self.rules}
        drift = forms.get("drift")
        backlog, clock, ends = forms.get("backlog"), forms.get("clock"), forms.get("certificate")
        statuses = unit_statuses(self.store, now_ms)
        raised = self._silent(statuses, forms.get("silence"), forms.get("outage"), now_ms)
        for unit in statuses:
            if unit.state == "revoked":
                continue
            if backlog and unit.backlog_ms and now_ms - unit.backlog_ms > backlog.window_s * 1000:
                evidence: dict[str, Any] = {
                    "pending": unit.health.get("pending"),
                    "since_ms": unit.backlog_ms,
                    "stored": unit.size,
                    "written": unit.health.get("sequence"),
                }
                raised.append(_lasting(backlog, unit.unit, unit.backlog_ms, evidence))
            if clock and unit.state == "online" and abs(unit.clock_off_ms) > clock.window_s * 1000:
                evidence = {"off_ms": unit.clock_off_ms}
                raised.append(_lasting(clock, unit.unit, now_ms // (24 * HOUR_MS), evidence))
            until_ms = unit.health.get("certificate_ms")
            if ends and until_ms and until_ms - now_ms < ends.days * 24 * HOUR_MS:
                raised.append(_lasting(ends, unit.unit, until_ms, {"until_ms": until_ms}))
            if drift and unit.drifted and unit.state == "online":
                evidence = {name: {"desired": a, "reported": b} for name, (a, b) in unit.drifted.items()}
                raised.append(_lasting(drift, unit.unit, sorted(unit.drifted.items()), evidence))
        return raised

    def _silent(
        self, statuses: Sequence[UnitStatus], silence: Rule | None, outage: Rule | None, now_ms: int
    ) -> list[Alarm]:
        """One alarm for each unit that is silent by itself or has stopped; one where nobody is heard."""
        alone = [unit for unit in statuses if unit.state == "silent"]
        raised = []
        if outage:
            if self._silence is None:
                self._silence = Silence(outage.threshold)
            alone, outages = self._silence.look(statuses, now_ms)
            for one in outages:
                evidence: dict[str, Any] = {"last_ms": one.last_ms, "units": one.units}
                made = _lasting(outage, None, f"{one.site or 'everything'} {one.last_ms}", evidence)
                raised.append(replace(made, site=one.site))
        if silence:
            for unit in (*alone, *(unit for unit in statuses if unit.state == "offline")):
                evidence = {"last_ms": unit.heard_ms, "state": unit.state}
                raised.append(_lasting(silence, unit.unit, unit.heard_ms, evidence))
        return raised

    def _accounts(self, db: Connection, now_ms: int) -> list[Alarm]:
        raised = []
        for rule in self.rules:
            if rule.form != "access":
                continue
            window = rule.window_s * 1000
            for account, total in baseline.access_since(db, now_ms - window).items():
                if total >= rule.threshold:
                    evidence = {"account": account, "rows": total, "window_s": rule.window_s}
                    raised.append(_lasting(rule, None, f"{account} {now_ms // window}", evidence))
        return raised

    def _revocations(self, db: Connection, now_ms: int) -> list[Alarm]:
        """Raise an alarm where `ostiary fleet serve` no longer throws revoked units off the broker."""
        looked = Looked.read(db)
        if looked is None:
            return []
        raised = []
        for rule in self.rules:
            if rule.form != "revocations":
                continue
            soon = looked.until_ms - now_ms < rule.days * 24 * HOUR_MS
            # A clock there that is ahead would hide for as long that nobody looks any more.
            ahead = looked.checked_ms - now_ms > HOUR_MS
            if soon or ahead or now_ms - looked.checked_ms > rule.window_s * 1000:
                evidence = {"checked_ms": looked.checked_ms, "until_ms": looked.until_ms}
                raised.append(_lasting(rule, None, "ahead" if ahead else looked.checked_ms, evidence))
        return raised

    def _longest_ms(self) -> int:
        return max((rule.window_s for rule in self.rules), default=300) * 1000

    def _forget(self, until_ms: int) -> None:
        """What came is kept twice as long as the longest rule, by arrival: a clock may be hours off."""
        oldest = until_ms - 2 * self._longest_ms()
        for memory in (self._bursts, self._places):
            for key in list(memory):
                memory[key] = [seen for seen in memory[key] if seen.received_ms >= oldest]
                if not memory[key]:
                    del memory[key]


def _lasting(rule: Rule, unit: str | None, about: object, evidence: dict[str, Any]) -> Alarm:
    """An alarm about a state that lasts; `about` tells it from others of the same rule and unit."""
    key = " ".join(map(str, (rule.name, *([unit] if unit else []), about)))
    return Alarm(rule.name, rule.severity, unit, key, evidence, lasting=True)
