"""What doors are called, where they are and how they lock: a file of the site, kept in the database."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.errors import DashboardError
from sync.dashboard.schema import places, stamps
from sync.errors import MalformedError
from sync.events import unit_id
from sync.plain_file import plain_text
from sync.plain_words import what_and_why
from sync.registry.database.store import Store
from sync.toml_table import toml_table

MAX_FILE_BYTES = 1 << 20
MAX_LABEL = 80
MAX_REASON = 200
LOCKING = {
    "delayed": "Delayed egress: opens 15 s after somebody pushes, and on the fire alarm",
    "access": "Access-controlled egress: a motion sensor and a button open it from inside",
    "elevator": "Lift lobby: opens on the fire alarm, with two-way communication",
    "clinical": "Clinical needs: staff carry keys, so patients stay in",
    "special": "Special protection: opens when power or certain alarms fail, staff can open every lock",
}
"""The five locking arrangements of NFPA 101 (2012). The voice check is on the entry side of each."""
EGRESS = {
    "motion_sensor": "a motion sensor inside unlocks it",
    "exit_button": "a button inside unlocks it",
    "fire_release": "the fire alarm unlocks it",
    "power_release": "it unlocks when its power fails",
    "delay_sign": "a sign says how long to push",
    "two_way_communication": "a telephone to a place that is always staffed",
    "staff_keys": "staff carry keys or codes that open every such lock",
}
"""What lets people out."""
NEEDS = {
    "delayed": ("fire_release", "power_release", "delay_sign"),
    "access": ("motion_sensor", "exit_button", "fire_release", "power_release"),
    "elevator": ("fire_release", "power_release", "two_way_communication"),
    "clinical": ("staff_keys",),
    "special": ("staff_keys", "fire_release", "power_release"),
}
"""What each arrangement asks for (NFPA 101, 2012: 7.2.1.6.1 to .3, 18.2.2.2.5). A site's authority may ask
for more."""
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Place:
    """One door. The three thresholds (LLR) are those of its rule: the page draws scores against them."""

    unit: str
    door: str
    label: str
    zone: str = ""
    zone_label: str = ""
    locking: str = ""
    phrase_llr: float = 2.0
    voice_llr: float = 3.0
    live_llr: float = 0.0
    egress: str = ""
    """Words of `EGRESS`, with blanks between."""
    sensitive: str = ""
    """Why the zone is a sensitive one, as the site's own risk assessment says."""

    @property
    def site(self) -> str:
        return self.unit.split("/")[0]

    @property
    def key(self) -> str:
        return f"{self.unit}/{self.door}"


Places = Mapping[tuple[str, str], Place]


_known: dict[str, Places] = {}
MOST_KNOWN = 4


def load(db: Connection) -> Places:
    """Every door that has a name. Kept in memory until the table gets another stamp: each page asks."""
    stamp = db.execute(sa.select(stamps.c.value).where(stamps.c.name == "places")).scalar()
    if stamp is not None and (kept := _known.get(stamp)) is not None:
        return kept
    found = {(row.unit, row.door): Place(*row) for row in db.execute(sa.select(places))}
    if stamp is not None:
        while len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)), None)
        _known[stamp] = found
    return found


def place_of(known: Places, unit: str, door: str) -> Place:
    """A door that the site's file does not name is called by its unit and its own name."""
    return known.get((unit, door)) or Place(unit, door, f"{unit.split('/')[-1]} {door}")


def replace(store: Store, found: list[Place]) -> None:
    """Replace all doors by these."""
    with store.transaction() as db:
        replace_in(db, found)


def replace_in(db: Connection, found: Sequence[Place]) -> None:
    """As `replace`, in the caller's transaction."""
    db.execute(sa.delete(places))
    db.execute(sa.delete(stamps).where(stamps.c.name == "places"))
    db.execute(sa.insert(stamps).values(name="places", value=secrets.token_hex(16)))
    if found:
        columns = [column.name for column in places.columns]
        db.execute(sa.insert(places), [{name: getattr(p, name) for name in columns} for p in found])


def read(path: Path) -> list[Place]:
    """Doors from a TOML file. Raises DashboardError that lists every mistake.

    One table a door, `[doors."site/unit/door"]`, with `label`, `zone`, `locking` and
    `thresholds = { phrase_llr, voice_llr, live_llr }`; one a zone, `[zones.icu]`, with `label`.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DashboardError(f"{path.name} is too large for a file of doors")
        data = toml_table(plain_text(path))
    except (OSError, ValueError) as err:
        raise DashboardError(f"the doors cannot be read: {what_and_why(err)}") from err
    found = []
    mistakes = [f"{name} is none of: doors, zones" for name in data if name not in ("doors", "zones")]
    doors, zones = data.get("doors", {}), data.get("zones", {})
    if not isinstance(doors, dict) or not isinstance(zones, dict):
        raise DashboardError("doors and zones are tables")
    for key, table in doors.items():
        try:
            found.append(_place(key, table, zones))
        except (DashboardError, MalformedError) as err:
            mistakes.append(f"{key}: {err}")
    if mistakes or not found:
        raise DashboardError("; ".join(mistakes) or f"{path.name} names no doors")
    return found


def _place(key: str, table: Any, zones: Mapping[str, Any]) -> Place:
    unit, _, door = key.rpartition("/")
    unit_id(unit)
    if not _SLUG.fullmatch(door) or not isinstance(table, dict):
        raise DashboardError('a door is a table [doors."site/unit/door"]')
    allowed = {"label", "zone", "locking", "thresholds", "egress"}
    if extra := table.keys() - allowed:
        raise DashboardError(f"{', '.join(sorted(extra))} is none of {', '.join(sorted(allowed))}")
    label, zone, locking = (table.get(name, "") for name in ("label", "zone", "locking"))
    thresholds = table.get("thresholds", {})
    if not isinstance(label, str) or not 1 <= len(label.strip()) <= MAX_LABEL:
        raise DashboardError(f"label is a text of 1 to {MAX_LABEL} characters")
    if not isinstance(zone, str) or (zone and not _SLUG.fullmatch(zone)):
        raise DashboardError("zone is lower-case letters, digits and dashes")
    entry = zones.get(zone, {})
    called = entry.get("label", zone) if isinstance(entry, dict) else None
    if not isinstance(called, str) or len(called) > MAX_LABEL:
        raise DashboardError(f"a zone is [zones.{zone}] with a label")
    if locking and locking not in LOCKING:
        raise DashboardError(f"locking is one of {', '.join(LOCKING)}")
    egress = _egress(table.get("egress", []), locking)
    sensitive = entry.get("sensitive", "")
    if not isinstance(sensitive, str) or len(sensitive) > MAX_REASON:
        raise DashboardError(f"sensitive is the reason, a text of up to {MAX_REASON} characters")
    names = ("phrase_llr", "voice_llr", "live_llr")
    if not isinstance(thresholds, dict) or thresholds.keys() - set(names):
        raise DashboardError(f"thresholds are {', '.join(names)}")
    if any(type(value) not in (int, float) or abs(value) > 1000 for value in thresholds.values()):
        raise DashboardError("a threshold is a number")
    given = {name: float(value) for name, value in thresholds.items()}
    return Place(
        unit, door, label.strip(), zone, called, locking, **given, egress=egress, sensitive=sensitive.strip()
    )


def _egress(found: Any, locking: str) -> str:
    """Refuses a door that somebody could not leave: its arrangement says what must let people out."""
    if not isinstance(found, list) or any(type(word) is not str for word in found):
        raise DashboardError(f"egress is a list of {', '.join(EGRESS)}")
    if "voice" in found:
        raise DashboardError("a voice check is never on the way out")
    if strange := [word for word in found if word not in EGRESS]:
        raise DashboardError(f"egress has {', '.join(strange)}, none of {', '.join(EGRESS)}")
    if missing := [word for word in NEEDS.get(locking, ()) if word not in found]:
        raise DashboardError(
            f"locking = {locking} needs in egress: {', '.join(missing)} (NFPA 101); add what is there"
        )
    return " ".join(word for word in EGRESS if word in found)
