"""What needs a second person: one asks, another agrees, and nobody agrees to their own request.

Forgetting a name and lowering thresholds happen when the second person agrees. A bulk export then becomes
possible for the person who asked, once, for a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.rights import covers, sees, within
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import approvals
from sync.dashboard.site import places
from sync.dashboard.site.names import NameBook
from sync.dashboard.site.places import Place, place_of
from sync.registry.database.schema import events
from sync.registry.database.store import Store
from sync.registry.database.transactions import insert

OPEN_MS = 7 * 86_400_000
"""How long a request waits for an answer."""
MOST, AT_ONCE = 50, 200
USABLE_MS = 24 * 3600 * 1000
EXPORT, FORGET, THRESHOLDS = "export", "forget", "thresholds"


@dataclass(frozen=True, slots=True)
class Request:
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
    """Put a request on record; its number. The same request of the same person is one request."""
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
        number = insert(db, approvals, **values)
        request = _request(db.execute(sa.select(approvals).where(approvals.c.id == number)).one())
        journal.append(db, account, "asked", f"{number}: {request.summary}: {why}", now_ms)
    return number


def listed(store: Store, now_ms: int, scopes: Sequence[str] = ()) -> list[Request]:
    """Those that wait first, then the newest, `MOST` in all; with `scopes`, what lies within them."""
    waiting = sa.and_(approvals.c.decided_ms.is_(None), approvals.c.asked_ms > now_ms - OPEN_MS)
    with store.reading() as db:
        rows = chain(_newest(db, waiting), _newest(db, sa.not_(waiting)))
        found = map(_request, rows)
        return list(islice((request for request in found if _inside(db, request, scopes)), MOST))


def _newest(db: Connection, which: sa.ColumnElement[bool]) -> Iterator[sa.Row[Any]]:
    """The newest first, some at a time: who has enough does not read the years before."""
    below: sa.ColumnElement[bool] = sa.true()
    while True:
        query = sa.select(approvals).where(which, below).order_by(approvals.c.id.desc()).limit(AT_ONCE)
        rows = db.execute(query).all()
        yield from rows
        if len(rows) < AT_ONCE:
            return
        below = approvals.c.id < rows[-1].id


def _inside(db: Connection, request: Request, scopes: Sequence[str]) -> bool:
    """Whether all that a request is about lies within these tags."""
    if not scopes:
        return True
    if request.action == EXPORT:
        return covers(scopes, request.about["tags"].split())
    if request.action == THRESHOLDS:
        known = places.load(db)
        asked = [place_of(known, *door.rsplit("/", 1)) for door in request.about["doors"]]
        return all(sees(scopes, place.site, place.zone) for place in asked)
    mine = (events.c.person == request.about["person"], within(scopes, events.c.unit, events.c.door))
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
    """A second person agrees or refuses; what follows happens in the same transaction.

    Raises RefusedError for one's own request, for one that does not wait, and for one that lies outside the
    second person's tags.
    """
    with store.transaction() as db:
        row = db.execute(sa.select(approvals).where(approvals.c.id == number)).one_or_none()
        request = _request(row) if row is not None else None
        if request is not None and not _inside(db, request, scopes):
            raise RefusedError("There is no such request.", 404)
        if request is None or request.state(now_ms) != "open":
            raise RefusedError("This does not wait for anybody any more.", 409)
        if request.account == account:
            raise RefusedError("The person who asked cannot agree: a second person looks.", 403)
        values: dict[str, Any] = {"decided_by": account, "decided_ms": now_ms, "agreed": int(agree)}
        if agree and request.action in (FORGET, THRESHOLDS):
            values["used_ms"] = now_ms
        here = (approvals.c.id == number, approvals.c.decided_ms.is_(None))
        if db.execute(sa.update(approvals).where(*here).values(**values)).rowcount != 1:
            raise RefusedError("This does not wait for anybody any more.", 409)
        what = "agreed" if agree else "refused"
        journal.append(db, account, what, f"{number}: {request.summary}, asked by {request.account}", now_ms)
        if agree and request.action == THRESHOLDS:
            places.replace_in(db, [Place(**place) for place in request.about["places"]])
        if agree and request.action == FORGET:
            if names is None:
                raise RefusedError("This page has no names; the site keeps them elsewhere.", 404)
            names.forget_in(db, request.about["person"])


def use_export(store: Store, about: Mapping[str, str], account: str, now_ms: int) -> bool:
    """Whether a second person agreed that `account` exports these events; it uses that up.

    `about` has form, filter and tags; the number of events may have changed since.
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
    """The doors at which `after` asks for less than `before`; a new door is held against the standard rule.

    Empty where `before` is: a site's first file lowers nothing.
    """
    found = []
    for place in after:
        old = before.get((place.unit, place.door), Place(place.unit, place.door, ""))
        if before and any(
            getattr(place, name) < getattr(old, name) for name in ("phrase_llr", "voice_llr", "live_llr")
        ):
            found.append(place.key)
    return found


def _request(row: sa.Row[Any]) -> Request:
    if row.action not in (EXPORT, FORGET, THRESHOLDS):
        raise RefusedError("This database was made by a newer dashboard; update this program.", 409)
    return Request(
        row.id, row.action, json.loads(row.about), row.why, row.account, row.asked_ms, row.decided_by,
        row.decided_ms, bool(row.agreed), row.used_ms,
    )  # fmt: skip
