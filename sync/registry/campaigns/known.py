"""Reads campaigns and keeps the watch list, for the command line and for pages."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from sync.errors import SyncError
from sync.registry.campaigns.warning import DAY_MS, watched_at
from sync.registry.database.alarm_rows import on_record
from sync.registry.database.campaign_tables import campaigns, reports, watch_list
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, insert, take_turn
from sync.threats.prints import MODEL

MOST_REASON = 200
MOST_DAYS = 365


@dataclass(frozen=True, slots=True)
class Campaign:
    """Attempts that one attacker's tool seems to have made, wherever."""

    number: int
    state: str
    """`forming`: too few units reported it. `known`: units are warned. `set_aside`: no attack."""
    times: int
    reporters: int
    units: tuple[str, ...]
    """Those that reported most, ten at most."""
    first_ms: int
    last_ms: int
    likeness: float
    """That a match needs; 1 and more where honest people come as close."""
    origin: str
    watched: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """A line of the watch list."""

    number: int
    campaign: int
    reason: str
    account: str
    from_ms: int
    until_ms: int
    ended_ms: int | None
    ended_by: str | None


def found(store: Store, now_ms: int, *, least: int = 1) -> list[Campaign]:
    """Campaigns of `least` attempts or more, the newest first."""
    with store.reading() as db:
        watched = set(db.execute(sa.select(watch_list.c.campaign).where(watched_at(now_ms))).scalars())
        rows = db.execute(
            sa.select(campaigns)
            .where(sa.or_(campaigns.c.times >= least, campaigns.c.id.in_(watched)))
            .order_by(campaigns.c.last_ms.desc(), campaigns.c.id.desc())
        ).all()
        said = sa.select(reports.c.campaign, reports.c.unit).order_by(reports.c.times.desc(), reports.c.unit)
        by_campaign: dict[int, list[str]] = {}
        for report in db.execute(said):
            by_campaign.setdefault(report.campaign, []).append(report.unit)
    return [
        Campaign(
            row.id,
            row.state,
            row.times,
            row.reporters,
            tuple(by_campaign.get(row.id, ())[:10]),
            row.first_ms,
            row.last_ms,
            row.likeness / 1000,
            row.origin,
            row.id in watched,
        )
        for row in rows
    ]


def watched(store: Store, now_ms: int, *, ended: bool = False) -> list[Watched]:
    """The watch list, newest first; with `ended` also what is in force no more."""
    query = sa.select(watch_list).order_by(watch_list.c.id.desc())
    if not ended:
        query = query.where(watched_at(now_ms))
    with store.reading() as db:
        return [Watched(*row) for row in db.execute(query)]


def watch(store: Store, campaign: int, reason: str, days: int, account: str, now_ms: int) -> int:
    """Put a campaign on the watch list; the line's number. Raises SyncError for what is no reason or end."""
    reason = reason.strip()
    if not 3 <= len(reason) <= MOST_REASON or not reason.isprintable():
        raise SyncError(f"a reason has 3 to {MOST_REASON} characters on one line")
    if not 1 <= days <= MOST_DAYS:
        raise SyncError(f"the watch list has an end: 1 to {MOST_DAYS} days from now")
    with store.transaction() as db:
        take_turn(db, Turn.CAMPAIGNS)  # it is not dropped between this look and the line
        mine = campaigns.c.id == campaign
        row = db.execute(sa.select(campaigns.c.state, campaigns.c.model).where(mine)).one_or_none()
        if row is None:
            raise SyncError(f"there is no campaign {campaign}; `ostiary registry campaigns` lists them")
        if row.model != MODEL:
            raise SyncError(
                f"campaign {campaign} was told by prints of another kind ({row.model}) than units make now "
                f"({MODEL}), so no unit can be warned of it; the next attack by it makes a new campaign"
            )
        if row.state == "set_aside":
            db.execute(sa.update(campaigns).where(mine).values(state="forming"))
        line = {"campaign": campaign, "reason": reason, "account": account, "from_ms": now_ms}
        number = insert(db, watch_list, **line, until_ms=now_ms + days * DAY_MS)
        on_record(db, account, "watch", 1, now_ms, subject=f"campaign {campaign}: {reason}")
    return number


def end_watch(store: Store, line: int, account: str, now_ms: int) -> None:
    """Take a line off the watch list; it stays on record. Raises SyncError when it is not in force."""
    ended = sa.update(watch_list).where(watch_list.c.id == line, watched_at(now_ms))
    with store.transaction() as db:
        if db.execute(ended.values(ended_ms=now_ms, ended_by=account)).rowcount != 1:
            raise SyncError(f"line {line} is not in force; `ostiary registry watch-list` shows what is")
        on_record(db, account, "end watch", 1, now_ms, subject=f"watch list line {line}")


def set_aside(store: Store, campaign: int, reason: str, account: str, now_ms: int) -> None:
    """A person says that these attempts were no attack: nobody is warned of them any more."""
    with store.transaction() as db:
        take_turn(db, Turn.CAMPAIGNS)
        mine = campaigns.c.id == campaign
        if db.execute(sa.update(campaigns).where(mine).values(state="set_aside")).rowcount != 1:
            raise SyncError(f"there is no campaign {campaign}; `ostiary registry campaigns` lists them")
        on_it = (watch_list.c.campaign == campaign, watched_at(now_ms))
        db.execute(sa.update(watch_list).where(*on_it).values(ended_ms=now_ms, ended_by=account))
        on_record(db, account, "set aside", 1, now_ms, subject=f"campaign {campaign}: {reason}")
