"""Puts a bout into the campaign that it resembles, and into another when its next print says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.events import UnitId
from sync.registry.campaigns.bouts import Bout
from sync.registry.campaigns.grouping import Centre, Limits, middle, nearest
from sync.registry.database.campaign_tables import campaigns, reports, watch_list
from sync.registry.database.transactions import insert
from sync.threats.prints import VALUES


class Placement:
    """Works within the caller's transaction."""

    def __init__(self, now_ms: Callable[[], int], limits: Limits) -> None:
        self._now_ms = now_ms
        self._limits = limits

    def place(self, db: Connection, bout: Bout) -> tuple[Bout, int]:
        """`bout`, whose last print is in no campaign yet, where it belongs; its likeness in thousandths,
        1000 where it began the campaign that it is in."""
        held = self._held(db, bout)
        if held is None:
            bout = replace(bout, campaign=None, told=None)
        values = bout.values()
        if held is not None and self._settled(db, held):
            rest = self._without(db, held, bout)
            moves = rest is not None and Centre(rest.values).alike(values) >= self._limits.joins
            alike = Centre(bytes(held.centre)).alike(values)
            return self._tell(db, held.id, bout, moves=moves), alike
        centres = self._candidates(db, bout, values)
        if held is not None:
            without = self._without(db, held, bout)
            centres.pop(held.id, None)
            if without is not None:
                centres[held.id] = without
        number, alike = nearest(values, centres.items())
        if alike >= self._limits.joins:
            moved = bout if bout.campaign == number else self._leave(db, bout)
            return self._tell(db, number, moved), alike
        if held is not None and held.id not in centres:
            return self._tell(db, held.id, bout), 1000  # it is alone in it
        bout = self._leave(db, bout)
        if not bout.begins:
            return bout, alike
        return self._begin(db, bout), 1000

    def _candidates(self, db: Connection, bout: Bout, values: bytes) -> dict[int, Centre]:
        """Campaigns whose middle is alike enough; the others cannot be, on average."""
        every = sa.select(campaigns.c.id, campaigns.c.centre, campaigns.c.origin).where(
            campaigns.c.model == bout.model
        )
        found = {}
        for row in db.execute(every).all():
            whole = Centre(bytes(row.centre))
            if whole.alike(values) >= self._limits.joins:
                length = 1.0 if row.origin else middle(_sums(db, row.id).values()).length
                found[row.id] = Centre(whole.values, length)
        return found

    def _held(self, db: Connection, bout: Bout) -> sa.Row[Any] | None:
        """The campaign that it is in; None where that was forgotten, and another may have its number."""
        if bout.campaign is None:
            return None
        mine = sa.select(campaigns).join(reports, reports.c.campaign == campaigns.c.id)
        whole = reports.c.times >= bout.count - 1
        row = mine.where(campaigns.c.id == bout.campaign, reports.c.unit == bout.unit, whole)
        return db.execute(row).one_or_none()

    def _settled(self, db: Connection, held: sa.Row[Any]) -> bool:
        """Whether units or people go by this campaign, so that nothing leaves it any more."""
        watched = sa.select(watch_list.c.id).where(
            watch_list.c.campaign == held.id, watch_list.c.ended_ms.is_(None)
        )
        return held.state != "forming" or db.execute(watched.limit(1)).first() is not None

    def _without(self, db: Connection, held: sa.Row[Any], bout: Bout) -> Centre | None:
        """The middle of its campaign if it were not in it; None where nothing else is."""
        if held.times == bout.count - 1 and held.origin == "":
            return None
        if held.origin != "":
            return Centre(bytes(held.centre))
        said = _sums(db, held.id)
        if bout.told is not None:
            sums, counted = said[bout.unit]
            said[bout.unit] = [a - b for a, b in zip(sums, bout.told, strict=True)], counted - 1
        return middle(said.values())

    def _begin(self, db: Connection, bout: Bout) -> Bout:
        self._make_room(db, bout.unit)
        now_ms = self._now_ms()
        row = {
            "model": bout.model,
            "centre": bout.values(),
            "times": 0,
            "reporters": 0,
            "first_ms": now_ms,
            "last_ms": now_ms,
            "likeness": self._limits.joins,
            "state": "forming",
            "origin": "",
        }
        return self._tell(db, insert(db, campaigns, **row), bout)

    def _tell(self, db: Connection, number: int, bout: Bout, *, moves: bool = True) -> Bout:
        """Count its last print into campaign `number`: all of its prints, where it was not in it. Unless it
        `moves` the campaign, what it told before stands."""
        limits, stays = self._limits, bout.campaign == number
        mine = (reports.c.campaign == number, reports.c.unit == bout.unit)
        known = db.execute(sa.select(reports).where(*mine)).one_or_none()
        sums, counted = ([0] * VALUES, 0) if known is None else (json.loads(known.sums), known.counted)
        before = bout.told if stays else None
        told = bout.vector() if before is not None or counted < limits.counted else None
        if not moves:
            told = before
        elif told is not None:
            sums = [a + b - c for a, b, c in zip(sums, told, before or (0,) * VALUES, strict=True)]
            counted += before is None
        times = 1 if stays else bout.count
        values = {"counted": counted, "sums": json.dumps(sums)}
        if known is None:
            values |= {"campaign": number, "unit": bout.unit, "times": times}
            db.execute(sa.insert(reports).values(**values))
        else:
            db.execute(sa.update(reports).where(*mine).values(**values, times=known.times + times))
        self._recount(db, number, times=times, reporters=int(known is None))
        return replace(bout, campaign=number, told=told)

    def _leave(self, db: Connection, bout: Bout) -> Bout:
        """Take it out of its campaign, which is forgotten if nothing else is in it."""
        number = bout.campaign
        mine = (reports.c.campaign == number, reports.c.unit == bout.unit)
        known = db.execute(sa.select(reports).where(*mine)).one_or_none()
        if number is not None and known is not None:
            times = bout.count - 1
            if known.times <= times:
                db.execute(sa.delete(reports).where(*mine))
            else:
                taken = bout.told or (0,) * VALUES
                sums = [a - b for a, b in zip(json.loads(known.sums), taken, strict=True)]
                counted = known.counted - (bout.told is not None)
                values = {"times": known.times - times, "counted": counted, "sums": json.dumps(sums)}
                db.execute(sa.update(reports).where(*mine).values(**values))
            self._recount(db, number, times=-times, reporters=-int(known.times <= times))
        return replace(bout, campaign=None, told=None)

    def _recount(self, db: Connection, number: int, *, times: int, reporters: int) -> None:
        campaign = db.execute(sa.select(campaigns).where(campaigns.c.id == number)).one()
        changed: dict[str, object] = {
            "times": campaign.times + times,
            "reporters": campaign.reporters + reporters,
        }
        if changed["times"] == 0 and campaign.origin == "":
            drop(db, [number])
            return
        if times > 0:
            changed["last_ms"] = self._now_ms()
        # A centre that many units agree on stays. Until then each has one say, so that none walks it away.
        ours = campaign.origin == "" and campaign.state != "set_aside"
        if ours and campaign.reporters < self._limits.settled:
            changed["centre"] = middle(_sums(db, number).values()).values
        db.execute(sa.update(campaigns).where(campaigns.c.id == number).values(**changed))

    def _make_room(self, db: Connection, unit: UnitId) -> None:
        """Drop the oldest campaigns that this unit alone reported; then, where all are too many, the least
        reported."""
        forming = campaigns.c.state == "forming"
        alone = (
            sa.select(campaigns.c.id)
            .join(reports, reports.c.campaign == campaigns.c.id)
            .where(forming, campaigns.c.reporters == 1, campaigns.c.origin == "", reports.c.unit == unit)
            .order_by(campaigns.c.last_ms, campaigns.c.id)
        )
        mine = list(db.execute(alone).scalars())
        drop(db, mine[: max(0, len(mine) - self._limits.alone + 1)])
        count = db.execute(sa.select(sa.func.count()).select_from(campaigns)).scalar_one()
        if count >= self._limits.campaigns:
            oldest = (
                sa.select(campaigns.c.id).where(forming).order_by(campaigns.c.reporters, campaigns.c.last_ms)
            )
            drop(db, list(db.execute(oldest.limit(count - self._limits.campaigns + 1)).scalars()))


def drop(db: Connection, numbers: list[int]) -> None:
    """Forget campaigns."""
    if numbers:
        db.execute(sa.delete(reports).where(reports.c.campaign.in_(numbers)))
        db.execute(sa.delete(campaigns).where(campaigns.c.id.in_(numbers)))


def _sums(db: Connection, number: int) -> dict[str, tuple[list[int], int]]:
    """What units told of a campaign."""
    rows = sa.select(reports.c.unit, reports.c.sums, reports.c.counted).where(reports.c.campaign == number)
    return {row.unit: (json.loads(row.sums), row.counted) for row in db.execute(rows)}
