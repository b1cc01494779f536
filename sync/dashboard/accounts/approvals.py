"""Four eyes: what one person asks for, another one agrees to. Nobody approves their own wish.

Some things happen when the second person agrees (a name is forgotten, doors get lower thresholds); others
become possible for the person who asked (a bulk export), once, for a day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import covers, within
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import approvals
from sync.dashboard.site import places
from sync.dashboard.site.names import NameBook
from sync.dashboard.site.places import Place, place_of
from sync.registry.database.schema import events
from sync.registry.database.store import Store

OPEN_MS = 7 * 86_400_000
"""So long a wish waits for somebody."""
USABLE_MS = 24 * 3600 * 1000
EXPORT, FORGET, THRESHOLDS = "export", "forget", "thresholds"


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that was asked for."""

    id: int
    action: str
    about: Mapping[str, Any]
    why: str
    account: str
    asked_ms: int
    decided_by: str | None
    decided_ms: int | None
    agreed: bool
    used_ms: int | None

    def state(self, now_ms: int) -> str:
        """open, refused, agreed, done or ended."""
        if self.decided_ms is None:
            return "open" if now_ms < self.asked_ms + OPEN_MS else "ended"
        if not self.agreed:
            return "refused"
        if self.used_ms is not None:
            return "done"
        return "agreed" if now_ms < self.decided_ms + USABLE_MS else "ended"

    @property
    def summary(self) -> str:
        """What exactly it is, for the second person and for the record."""
        if self.action == EXPORT:
            return f"{self.about['rows']} events as {self.about['form']}: {self.about['filter'] or 'all'}"
        if self.action == FORGET:
            return f"the name of {self.about['person']}"
        return f"lower thresholds at {', '.join(self.about['doors'])}"


def ask(store: Store, action: str, about: Mapping[str, Any], why: str, account: str, now_ms: int) -> int:
    """Put a wish on record; its number. The same wish of the same person is one wish."""
    text = json.dumps(dict(about), sort_keys=True)
    with store.transaction() as db:
        same = (
            approvals.c.action == action,
            approvals.c.about == text,
            approvals.c.account == account,
            approvals.c.decided_ms.is_(None),
            approvals.c.asked_ms > now_ms - OPEN_MS,
        )
        known = db.execute(sa.select(approvals.c.id).where(*same)).scalar()
        if known is not None:
            return int(known)
        values = {"action": action, "about": text, "why": why, "account": account, "asked_ms": now_ms}
        made = db.execute(sa.insert(approvals).values(**values))
        number = int((made.inserted_primary_key or [0])[0])
        wish = _one(db, number)
        journal.append(db, account, "asked", f"{number}: {wish.summary}: {why}", now_ms)
    return number


def listed(store: Store, now_ms: int, scopes: Sequence[str] = (), limit: int = 50) -> list[Wish]:
    """Those that wait first, then the newest; for tags, what lies within them."""
    waiting = sa.and_(approvals.c.decided_ms.is_(None), approvals.c.asked_ms > now_ms - OPEN_MS)
    query = sa.select(approvals).order_by(sa.case((waiting, 0), else_=1), approvals.c.id.desc()).limit(limit)
    with store.reading() as db:
        found = [_wish(row) for row in db.execute(query)]
        return [wish for wish in found if _inside(db, wish, scopes)]


def _inside(db: Connection, wish: Wish, scopes: Sequence[str]) -> bool:
    """Whether all that a wish is about lies within these tags."""
    if not scopes:
        return True
    if wish.action == EXPORT:
        return covers(scopes, wish.about["tags"].split())
    if wish.action == THRESHOLDS:
        known = places.load(db)
        asked = [place_of(known, *door.rsplit("/", 1)) for door in wish.about["doors"]]
        return all(place.site in scopes or f"{place.site}/{place.zone}" in scopes for place in asked)
    mine = (events.c.person == wish.about["person"], within(scopes, events.c.unit, events.c.door))
    return db.execute(sa.select(events.c.sequence).where(*mine).limit(1)).first() is not None


def decide(
    store: Store,
    names: NameBook | None,
    number: int,
    agree: bool,
    account: str,
    now_ms: int,
    scopes: Sequence[str] = (),
) -> None:
    """A second person agrees or refuses; what follows from it happens in the same moment.

    Raises RefusedError for one's own wish, for one that does not wait, and for one that lies outside the
    second person's tags.
    """
    with store.transaction() as db:
        row = db.execute(sa.select(approvals).where(approvals.c.id == number)).one_or_none()
        wish = _wish(row) if row is not None else None
        if wish is not None and not _inside(db, wish, scopes):
            raise RefusedError("There is no such wish.", 404)
        if wish is None or wish.state(now_ms) != "open":
            raise RefusedError("This does not wait for anybody any more.", 409)
        if wish.account == account:
            raise RefusedError("The person who asked cannot agree: a second person looks.", 403)
        values: dict[str, Any] = {"decided_by": account, "decided_ms": now_ms, "agreed": int(agree)}
        if agree and wish.action in (FORGET, THRESHOLDS):
            values["used_ms"] = now_ms
        here = (approvals.c.id == number, approvals.c.decided_ms.is_(None))
        if db.execute(sa.update(approvals).where(*here).values(**values)).rowcount != 1:
            raise RefusedError("This does not wait for anybody any more.", 409)
        what = "agreed" if agree else "refused"
        journal.append(db, account, what, f"{number}: {wish.summary}, asked by {wish.account}", now_ms)
        if agree and wish.action == THRESHOLDS:
            places.replace_in(db, [Place(**place) for place in wish.about["places"]])
        if agree and wish.action == FORGET:
            if names is None:
                raise RefusedError("This page has no names; the site keeps them elsewhere.", 404)
            names.forget_in(db, wish.about["person"])


def use_export(store: Store, about: Mapping[str, str], account: str, now_ms: int) -> bool:
    """Whether somebody agreed that `account` takes these events away now; it uses that up.

    `about` names form, filter and tags; how many there were when it was asked for does not count again.
    """
    mine = (
        approvals.c.action == EXPORT,
        approvals.c.account == account,
        approvals.c.agreed == 1,
        approvals.c.used_ms.is_(None),
        approvals.c.decided_ms > now_ms - USABLE_MS,
    )
    with store.transaction() as db:
        for row in db.execute(sa.select(approvals).where(*mine).order_by(approvals.c.id)).all():
            asked = json.loads(row.about)
            if any(asked.get(name) != value for name, value in about.items()):
                continue
            fresh = (approvals.c.id == row.id, approvals.c.used_ms.is_(None))
            if db.execute(sa.update(approvals).where(*fresh).values(used_ms=now_ms)).rowcount == 1:
                return True
    return False


def lowered(before: Mapping[tuple[str, str], Place], after: Sequence[Place]) -> list[str]:
    """The doors at which `after` asks for less than `before`; of a new door, less than the standard rule.

    The first file of a site is none: there is nothing yet that it could lower.
    """
    found = []
    for place in after:
        old = before.get((place.unit, place.door), Place(place.unit, place.door, ""))
        if before and any(
            getattr(place, name) < getattr(old, name) for name in ("phrase_llr", "voice_llr", "live_llr")
        ):
            found.append(place.key)
    return found


def _one(db: Connection, number: int) -> Wish:
    return _wish(db.execute(sa.select(approvals).where(approvals.c.id == number)).one())


def _wish(row: sa.Row[Any]) -> Wish:
    if row.action not in (EXPORT, FORGET, THRESHOLDS):
        raise RefusedError("This database was made by a newer dashboard; update this program.", 409)
    return Wish(
        row.id, row.action, json.loads(row.about), row.why, row.account, row.asked_ms, row.decided_by,
        row.decided_ms, bool(row.agreed), row.used_ms,
    )  # fmt: skip
