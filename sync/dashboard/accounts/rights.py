"""Who may do what: five roles, and tags that limit an account to sites and zones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa

from sync.dashboard.schema import places

SCOPE = re.compile(r"[a-z0-9-]{1,32}(?:/[a-z0-9-]{1,32})?")
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?")
"""The name of an account, or of a token."""


class Right(Enum):
    """One thing that a page does."""

    DOORS = "see doors"
    EVENTS = "see events"
    PEOPLE = "see what a pseudonym did"
    REVEAL = "see the name behind a pseudonym"
    PROOFS = "take proofs away"
    EXPORT = "export events"
    INCIDENTS = "see incidents"
    WORK = "work on incidents"
    LOCK_DOWN = "lock doors down"
    MUSTER = "take a roll call"
    VISITS = "see temporary people"
    SPONSOR = "answer for temporary people"
    ATTACKS = "see attacks"
    HEALTH = "see units and models"
    REVIEW = "sign reviews off"
    JOURNAL = "see who looked at what"
    ACCOUNTS = "manage accounts"
    APPROVE = "be the second person"
    FORGET = "ask that somebody be forgotten"


_LOOK = {Right.DOORS, Right.EVENTS, Right.PEOPLE, Right.INCIDENTS, Right.ATTACKS, Right.HEALTH}

ROLES: dict[str, frozenset[Right]] = {
    "auditor": frozenset(
        _LOOK
        | {Right.REVEAL, Right.PROOFS, Right.EXPORT, Right.REVIEW, Right.JOURNAL, Right.APPROVE, Right.VISITS}
    ),
    "facilities": frozenset(_LOOK | {Right.WORK, Right.PROOFS, Right.VISITS, Right.SPONSOR}),
    "desk": frozenset(
        _LOOK | {Right.REVEAL, Right.WORK, Right.LOCK_DOWN, Right.MUSTER, Right.VISITS, Right.SPONSOR}
    ),
    "admin": frozenset(Right),
    "wall": frozenset({Right.DOORS, Right.EVENTS}),
}
ROLE_NAMES = {
    "auditor": "Auditor",
    "facilities": "Facilities",
    "desk": "Security desk",
    "admin": "Administrator",
    "wall": "Wall display",
}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who is asking, as of this request."""

    account: str
    role: str
    scopes: tuple[str, ...]
    """`site` or `site/zone`; none means everywhere."""
    session: str
    csrf: str
    rights: frozenset[Right] | None = None
    """The rights of a token; None: those of the role."""

    def may(self, right: Right) -> bool:
        return right in (ROLES[self.role] if self.rights is None else self.rights)

    @property
    def public(self) -> bool:
        """A wall display stands where anybody can read it: no person and no silent alarm may show there."""
        return self.role == "wall"


def within(scopes: Sequence[str], unit: Any, door: Any) -> sa.ColumnElement[bool]:
    """The condition that a row of `unit` and `door` columns lies in these scopes."""
    if not scopes:
        return sa.true()
    parts: list[sa.ColumnElement[bool]] = []
    for scope in scopes:
        site, _, zone = scope.partition("/")
        here = sa.and_(unit >= f"{site}/", unit < f"{site}0")  # "0" follows "/"
        if zone:
            inside = sa.select(places.c.unit, places.c.door).where(places.c.zone == zone)
            here = sa.and_(here, sa.tuple_(unit, door).in_(inside))
        parts.append(here)
    return sa.or_(*parts)


def sees(scopes: Sequence[str], site: str, zone: str) -> bool:
    """Whether a zone of a site lies in these scopes."""
    return not scopes or site in scopes or f"{site}/{zone}" in scopes


def covers(scopes: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether an account with `scopes` may give `wanted` to others: none gives more than it has."""
    mine = set(scopes)
    return not mine or (bool(wanted) and all(w in mine or w.split("/")[0] in mine for w in wanted))


def at_whole_sites(scopes: Sequence[str], site: sa.Column[str]) -> sa.ColumnElement[bool]:
    """The condition that `site_within` holds for a row's site."""
    return site.in_(scopes) if scopes else sa.true()


def site_within(scopes: Sequence[str], site: str) -> bool:
    """Whether the whole of a site lies in these scopes."""
    return not scopes or site in scopes
