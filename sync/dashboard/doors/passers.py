"""Who may pass a door, and when: read from the rules that the registry asks its unit to use.

The unit decides by its own copy; whether that is the same one, its health says. Ids here are those of the
rules file. The registry cannot tell which pseudonym is whose, so no event is tied to them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.registry.database.fleet_tables import parts
from sync.registry.fleet.wanted import as_part, scopes_of, tags_of_units, wishes
from sync.toml_table import toml_table

ENROLLED = "enrolled"
"""The role of everybody with a voiceprint."""
DAYS = {
    "mon": "Monday", "tue": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "fri": "Friday",
    "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Permit:
    """One line of the rules that covers this door."""

    roles: tuple[str, ...]
    days: tuple[str, ...]
    """Empty: every day."""
    begins: str
    ends: str
    """HH:MM; both empty: at any hour."""
    on_holidays: bool
    people: tuple[str, ...]
    """Ids that it covers now."""
    everybody: bool
    """It covers all who have a voiceprint at this unit."""


@dataclass(frozen=True, slots=True)
class Passers:
    """What the wanted rules say of one door."""

    version: int
    permits: tuple[Permit, ...]
    two_persons: bool
    may_be_held: bool
    time_zone: str
    ending: tuple[tuple[str, dt.datetime], ...]
    """Whose access ends within a month, soonest first."""

    @property
    def policy(self) -> str:
        """The version that a unit with these rules reports."""
        return f"rules-{self.version}"


def wanted(db: Connection, unit: str, door: str, now_ms: int) -> Passers | None:
    """None where the registry asks this unit for no rules, or they do not name the door."""
    scopes = scopes_of(unit, tags_of_units(db).get(unit, frozenset()))
    rules = wishes(db).of("rules", scopes)
    if not rules:
        return None
    part = as_part(rules["part"])
    if part is None:
        return None
    data = db.execute(sa.select(parts.c.data).where(parts.c.sha256 == part.sha256)).scalar()
    if data is None:
        return None
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    try:
        # The unit refuses rules that it cannot read; what it would refuse is shown as nothing here.
        return _read(toml_table(bytes(data).decode()), door, now)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _read(table: Mapping[str, Any], name: str, now: dt.datetime) -> Passers | None:
    door = table.get("doors", {}).get(name)
    if door is None:
        return None
    tags = {*door.get("tags", ()), *table.get("zones", {}).get(door["zone"], {}).get("tags", ())}
    people = {uid: entry for uid, entry in table.get("people", {}).items() if _counts(entry, now)}
    permits = []
    for line in table.get("allow", ()):
        if not _speaks_of(line, name, door, tags):
            continue
        roles = set(line["roles"])
        schedule = table.get("schedules", {}).get(line.get("schedule", ""), {})
        covered = sorted(uid for uid, entry in people.items() if roles & {*entry.get("roles", ()), ENROLLED})
        everybody = ENROLLED in roles and bool(table.get("admit_unlisted", False))
        begins, ends = (str(schedule.get(word, ""))[:5] for word in ("from", "to"))
        days = tuple(name for day, name in DAYS.items() if day in schedule.get("days", ()))
        holidays = bool(schedule.get("on_holidays", True))
        permits.append(Permit(tuple(sorted(roles)), days, begins, ends, holidays, tuple(covered), everybody))
    here = {uid for permit in permits for uid in permit.people}
    last = [(uid, _moment(people[uid]["valid_until"])) for uid in here if "valid_until" in people[uid]]
    soon = sorted((e for e in last if e[1] < now + dt.timedelta(days=31)), key=lambda e: e[1])
    zone = str(table.get("calendar", {}).get("time_zone", "UTC"))
    return Passers(
        int(table["version"]), tuple(permits), "two_persons_within_s" in door,
        bool(door.get("may_be_held", False)), zone, tuple(soon),
    )  # fmt: skip


def _speaks_of(line: Mapping[str, Any], name: str, door: Mapping[str, Any], tags: set[str]) -> bool:
    return (
        (not line.get("zones") or door["zone"] in line["zones"])
        and (not line.get("doors") or name in line["doors"])
        and (not line.get("risks") or door["risk"] in line["risks"])
        and set(line.get("tags", ())) <= tags
    )


def _counts(entry: Mapping[str, Any], now: dt.datetime) -> bool:
    ended = "valid_until" in entry and _moment(entry["valid_until"]) <= now
    return not entry.get("disabled", False) and not ended


def _moment(value: object) -> dt.datetime:
    found = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
