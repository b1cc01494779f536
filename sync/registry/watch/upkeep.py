"""Once a day `ostiary registry watch` deletes months past their retention and alarms long dealt with.

A wrong clock would delete too much, and nothing brings it back. So nothing goes on this machine's clock
alone: two units must have signed something of these days.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from sync.events import Signer, UnitId
from sync.registry.clock import BelievedClock
from sync.registry.database.store import Store
from sync.registry.retention.housekeeping import tidy
from sync.registry.retention.months import first_month_kept, forget_before
from sync.registry.verification import Alarm

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
WITNESSED_MS = 2 * DAY_MS
"""Units must have signed something within this time: a week-end without a network is allowed."""


def listen(store: Store, clock: BelievedClock, before: Mapping[UnitId, int] | None) -> dict[UnitId, int]:
    """Let `clock` hear what units have signed since `before`; returns what to compare with next time."""
    told = store.told_times()
    if before is not None:
        for unit, told_ms in told.items():
            if told_ms != before.get(unit):
                clock.heard(unit, told_ms)
    return told


def doubt(told: Mapping[UnitId, int], now_ms: int) -> str:
    """Why nothing may be deleted at this time; empty when it may."""
    times = sorted(told.values(), reverse=True)
    if not times:
        return ""  # then there are no events either
    witnessed = times[1] if len(times) > 1 else times[0]
    if now_ms - witnessed <= WITNESSED_MS:
        return ""
    ours, theirs = (
        datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", "minutes") for ms in (now_ms, witnessed)
    )
    return (
        f"the registry's clock says {ours}, but units have signed nothing later than {theirs}: is it right?"
    )


class Upkeep:
    """Deletes once a day what is past its time, and raises an alarm where it may not."""

    def __init__(
        self, store: Store, signer: Signer | None, *, keep_months: int | None, keep_alarms: int | None
    ) -> None:
        """Nothing of a kind is deleted where its limit is None; months need the signer."""
        self._store, self._signer = store, signer
        self._keep_months, self._keep_alarms = keep_months, keep_alarms
        self._retained_day = self._tidied_day = self._doubted_day = -1

    def step(self, told: Mapping[UnitId, int], now_ms: int) -> None:
        """`told` is the newest time that each unit has signed. Raises SyncError: call again."""
        day = now_ms // DAY_MS
        months = self._keep_months if self._retained_day != day else None
        days = self._keep_alarms if self._tidied_day != day else None
        if months is None and days is None:
            return
        if why := doubt(told, now_ms):
            self._refuse(why, day, now_ms)
            return
        if months is not None and self._signer is not None:
            month = first_month_kept(now_ms, months)
            done = forget_before(self._store, month, signer=self._signer, account="watch", now_ms=now_ms)
            if done.events:
                log.info("%d events passed their retention and were deleted", done.events)
        self._retained_day = day
        if days is not None:
            gone = tidy(self._store, days, now_ms)
            log.info(
                "%d alarms, %d counts of refusals and %d commands were old and were deleted",
                gone.alarms, gone.refusals, gone.commands,
            )  # fmt: skip
        self._tidied_day = day

    def _refuse(self, why: str, day: int, now_ms: int) -> None:
        if self._doubted_day == day:
            return
        log.warning("nothing is deleted: %s", why)
        alarm = Alarm("RETENTION_REFUSED", "warning", None, "RETENTION clock", {"why": why}, lasting=True)
        with self._store.transaction() as db:
            self._store.raise_alarms(db, [alarm], now_ms)
        self._doubted_day = day
