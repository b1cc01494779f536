"""An event as pages show it: in lists, in the live stream, on a person's page."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from typing import Any

from sync.dashboard.site.places import Place, Places, place_of
from sync.dashboard.wording import languages, words

LATE_MS = 90 * 60_000


@dataclass(frozen=True, slots=True)
class Shown:
    """One row of the list. Every field is text for people, or a word that a style sheet knows."""

    key: str
    time_ms: int
    clock: str
    day: str
    iso: str
    place: str
    zone: str
    """What the zone is called."""
    site: str
    short: str
    tone: str
    sentence: str
    person: str
    """The pseudonym's first letters; empty on a wall display."""
    person_id: str
    late: bool
    """It reached the registry more than 90 minutes after it happened."""
    silent: bool
    url: str
    door_url: str

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def show(row: Any, known: Places, zone: dt.tzinfo, *, public: bool = False) -> Shown:
    """`row` has the columns of `events_query.SHOWN`. `public` leaves out who it was and silent alarms."""
    return _shown(row, place_of(known, row.unit, row.door), zone, public)


@functools.lru_cache(maxsize=8192)
def shown_at(row: Any, place: Place, zone: dt.tzinfo, public: bool, language: str) -> Shown:
    """As `show`, for a door's last event: cached by all it depends on. `language` is the request's."""
    return _shown(row, place, zone, public)


def _shown(row: Any, place: Place, zone: dt.tzinfo, public: bool) -> Shown:
    kind, reason, silent = row.kind, row.reason, bool(row.silent_alarm)
    if public:
        silent = False
        if kind == "DURESS" or reason == "duress_word":
            # What the person under threat looks at must not give them away.
            kind, reason = "GRANTED", "all_factors_passed"
    word = words.kind(kind)
    moment = dt.datetime.fromtimestamp(row.time_ms / 1000, zone)
    person = row.person or ""
    return Shown(
        key=f"{row.unit}#{row.sequence}",
        time_ms=row.time_ms,
        clock=moment.strftime("%H:%M:%S"),
        day=languages.day_text(moment),
        iso=moment.isoformat(timespec="milliseconds"),
        place=place.label,
        zone=place.zone_label,
        site=place.site,
        short=word.short,
        tone="alarm" if silent else word.tone,
        sentence=words.reason(reason),
        person="" if public else short_person(person),
        person_id="" if public else person,
        late=row.received_ms - row.time_ms > LATE_MS,
        silent=silent,
        url="" if public else f"/events/{row.unit}/{row.sequence}",
        door_url=door_url(place),
    )


def door_url(place: Place) -> str:
    return f"/doors/{place.key}"


def short_person(person: str) -> str:
    """The first eight letters of a pseudonym: enough to follow somebody through a page."""
    return person[:8]
