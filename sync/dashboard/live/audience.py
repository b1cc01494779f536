"""Open pages with the same rights, filter and language: each event is written once for all of them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sync.dashboard.accounts.rights import sees
from sync.dashboard.doors import doors
from sync.dashboard.events.events_query import Filter
from sync.dashboard.events.shown import show
from sync.dashboard.site import places
from sync.dashboard.site.places import Place, Places
from sync.dashboard.wording import languages
from sync.dashboard.wording.words import GROUPS


@dataclass(frozen=True, slots=True)
class News:
    """One new event. Numbers go up by one in each process."""

    number: int
    row: Any
    place: Place


@dataclass(frozen=True, slots=True)
class Audience:
    """What decides which events a page hears, and in what words."""

    scopes: tuple[str, ...]
    wanted: Filter
    language: str = "en"
    public: bool = False
    """A wall display: nobody's pseudonym, no silent alarm."""


Wording = dict[tuple[int, str, bool], str]
"""Events already written as JSON, by number, language and whether for a wall display."""


def message(
    audience: Audience, news: Sequence[News], known: Places, zone: dt.tzinfo, written: Wording
) -> str:
    """The JSON of those of `news` that are for this audience, with commas between; '' when none is."""
    parts = []
    for one in news:
        if not hears(audience, one.row, one.place, zone):
            continue
        key = (one.number, audience.language, audience.public)
        text = written.get(key)
        if text is None:
            text = written[key] = _written(one, audience, known, zone)
        parts.append(text)
    return ",".join(parts)


def news_of(rows: Sequence[Any], known: Places, after: int) -> list[News]:
    return [
        News(number, row, places.place_of(known, row.unit, row.door))
        for number, row in enumerate(rows, after + 1)
    ]


def hears(audience: Audience, row: Any, place: Place, zone: dt.tzinfo) -> bool:
    """Whether an event is for these pages: what `events_query` asks the database, for one row."""
    if not sees(audience.scopes, place.site, place.zone):
        return False
    wanted = audience.wanted
    if wanted.kind:
        if row.kind != wanted.kind:
            return False
    elif wanted.show and row.kind not in GROUPS[wanted.show][1]:
        return False
    exact: Mapping[str, str] = {
        "reason": row.reason, "unit": row.unit, "door": row.door, "person": row.person or "",
        "site": place.site, "zone": place.zone,
    }  # fmt: skip
    if any(getattr(wanted, name) not in ("", value) for name, value in exact.items()):
        return False
    return wanted.holds_at(row.time_ms, zone)


def _written(one: News, audience: Audience, known: Places, zone: dt.tzinfo) -> str:
    languages.choose(audience.language)
    shown = show(one.row, known, zone, public=audience.public).as_json()
    state = doors.state_after(one.row.kind, public=audience.public)
    if state is not None:
        state[0] = languages.word(state[0])
    return json.dumps({**shown, "door": one.place.key, "state": state})
