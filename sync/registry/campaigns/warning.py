"""Decides what units are warned of, and sends it to each of them as a signed, counted command."""

from __future__ import annotations

import json
from collections.abc import Callable

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Connection

from sync.events import Signer, UnitId
from sync.registry.campaigns.grouping import Limits, known, needed
from sync.registry.campaigns.intake import KEPT_DAYS
from sync.registry.campaigns.placing import drop
from sync.registry.commands.issued import issue_all
from sync.registry.database.campaign_tables import campaigns, honest, lists, prints, watch_list
from sync.registry.database.schema import commands, units
from sync.registry.database.store import Store, day_of
from sync.registry.database.transactions import Turn, take_turn
from sync.registry.reports.status import SILENT_AFTER_MS
from sync.threats.listed import MOST, Threat, ThreatList
from sync.threats.prints import MODEL, likeness

DAY_MS = 24 * 3600 * 1000
LIST_LIFE_MS = 7 * DAY_MS
COMMAND_LIFE_MS = 600_000
ASK_AGAIN_MS = 20_000
"""A unit tells in its health message within this time that it took a list."""
CENTRES_EVERY_MS = 3_600_000
"""Centres that moved a little are sent once an hour at most."""
MOVED = 950
"""Thousandths: a centre less alike than this to the one on the list is sent at once."""


class Warner:
    """Runs at the worker that has the command key; one is enough."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        tenant_key: ec.EllipticCurvePublicKey,
        now_ms: Callable[[], int],
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._signer = signer
        self._point = tenant_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._now_ms = now_ms
        self._limits = limits or Limits()

    def round(self) -> int:
        """Bring the list up to date, and send it to units with an older one; how many. Raises StoreError."""
        now_ms = self._now_ms()
        with self._store.transaction() as db:
            take_turn(db, Turn.CAMPAIGNS)
            self._forget(db, now_ms)
            current, made_ms = self._current(db, now_ms)
            behind = _behind(db, current.version, made_ms, now_ms)
        issue_all(
            self._store,
            self._signer,
            behind,
            "apply_threats",
            {"list": current.to_bytes()},
            account="campaigns",
            now_ms=now_ms,
            life_ms=COMMAND_LIFE_MS,
        )
        return len(behind)

    def _current(self, db: Connection, now_ms: int) -> tuple[ThreatList, int]:
        """The list that units should hold, and since when."""
        last = db.execute(sa.select(lists).order_by(lists.c.version.desc()).limit(1)).one_or_none()
        wanted = self.wanted(db, now_ms)
        if last is not None:
            held = ThreatList.from_bytes(bytes(last.body))
            lasts = held.expires_ms - now_ms > LIST_LIFE_MS // 2
            fresh = now_ms - last.made_ms < CENTRES_EVERY_MS
            same = held.model == MODEL and held.tenant_key == self._point
            if same and lasts and (held.threats == wanted or (fresh and not _news(held.threats, wanted))):
                return held, int(last.made_ms)
        version = 1 if last is None else last.version + 1
        made = ThreatList(version, now_ms + LIST_LIFE_MS, MODEL, self._point, wanted)
        row = {"version": version, "made_ms": now_ms, "expires_ms": made.expires_ms, "body": made.to_bytes()}
        db.execute(sa.insert(lists).values(**row))
        return made, now_ms

    def wanted(self, db: Connection, now_ms: int) -> tuple[Threat, ...]:
        """The threats to warn of now: those on the watch list first, then the newest."""
        limits = self._limits
        # No unit makes prints of another kind any more, so nobody can be warned by them.
        stale = sa.and_(campaigns.c.model != MODEL, campaigns.c.state == "known")
        db.execute(sa.update(campaigns).where(stale).values(state="forming"))
        watched = set(db.execute(sa.select(watch_list.c.campaign).where(watched_at(now_ms))).scalars())
        enough = sa.and_(campaigns.c.times >= limits.times, campaigns.c.reporters >= limits.units)
        alive = campaigns.c.last_ms > now_ms - limits.life_days * DAY_MS
        mine = sa.and_(campaigns.c.model == MODEL, campaigns.c.state != "set_aside")
        query = sa.select(campaigns).where(mine, sa.or_(sa.and_(enough, alive), campaigns.c.id.in_(watched)))
        rows = sorted(db.execute(query), key=lambda row: (row.id not in watched, -row.last_ms))
        people = _honest(db) if rows else {}
        found = []
        for row in rows[: 2 * MOST]:
            asked = needed(bytes(row.centre), people, limits)
            usable = known(row.times, row.reporters, asked, limits) or (row.id in watched and asked < 1000)
            state = "known" if usable else "forming"
            if (row.likeness, row.state) != (asked, state):
                changed = sa.update(campaigns).where(campaigns.c.id == row.id)
                db.execute(changed.values(likeness=asked, state=state))
            if usable:
                found.append(Threat(row.id, bytes(row.centre), asked))
        return tuple(found[:MOST])

    def _forget(self, db: Connection, now_ms: int) -> None:
        before_ms = now_ms - KEPT_DAYS * DAY_MS
        db.execute(sa.delete(prints).where(prints.c.taken_ms < before_ms))
        db.execute(sa.delete(honest).where(honest.c.day < day_of(before_ms)))
        watched = sa.select(watch_list.c.campaign).where(watched_at(now_ms))
        old = sa.select(campaigns.c.id).where(
            campaigns.c.last_ms < now_ms - self._limits.life_days * DAY_MS, campaigns.c.id.not_in(watched)
        )
        drop(db, list(db.execute(old).scalars()))


def watched_at(now_ms: int) -> sa.ColumnElement[bool]:
    """Which rows of the watch list are in force."""
    return sa.and_(
        watch_list.c.from_ms <= now_ms, watch_list.c.until_ms > now_ms, watch_list.c.ended_ms.is_(None)
    )


def _news(held: tuple[Threat, ...], wanted: tuple[Threat, ...]) -> bool:
    """Whether units should hear of it now: another attacker, one less, or one that has moved far."""
    before, after = ({threat.number: threat for threat in threats} for threats in (held, wanted))
    if before.keys() != after.keys():
        return True
    return any(
        1000 * likeness(before[number].values, after[number].values) < MOVED
        or before[number].likeness < after[number].likeness
        for number in before
    )


def _honest(db: Connection) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for row in db.execute(sa.select(honest.c.unit, honest.c["values"]).where(honest.c.model == MODEL)):
        found.setdefault(row.unit, []).append(bytes(row[1]))
    return found


def _behind(db: Connection, version: int, made_ms: int, now_ms: int) -> list[UnitId]:
    """Units that answer, take lists, and hold an older one than this; not those that were just told."""
    told = sa.select(commands.c.unit).where(
        commands.c.action == "apply_threats",
        sa.or_(
            sa.and_(commands.c.status.is_(None), commands.c.expires_ms > now_ms),
            sa.and_(commands.c.answered_ms > now_ms - ASK_AGAIN_MS, commands.c.issued_ms >= made_ms),
        ),
    )
    answering = sa.and_(units.c.revoked_ms.is_(None), units.c.health_ms > now_ms - SILENT_AFTER_MS)
    rows = db.execute(sa.select(units.c.unit, units.c.health).where(answering, units.c.unit.not_in(told)))
    found = []
    for row in rows:
        told_of = json.loads(row.health) if row.health else {}
        holds = told_of.get("facts", {}).get("threats")
        if told_of.get("state") == "online" and type(holds) is int and holds < version:
            found.append(UnitId(row.unit))
    return found
