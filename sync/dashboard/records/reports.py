"""The report of a day, by mail every morning: numbers and what waits, no person.

Of several workers one sends it. A report that could not be delivered is tried again every ten minutes; after
the next midnight there is a newer one.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.incidents import incidents
from sync.dashboard.people import visits
from sync.dashboard.records import emergency, ledger
from sync.dashboard.schema import reports, reviews
from sync.dashboard.settings import DashboardSettings
from sync.dashboard.wording import words
from sync.dashboard.wording.words import ALARMS, ATTACKS, GRANTED, REFUSED
from sync.errors import SyncError
from sync.registry.database.schema import events, units
from sync.registry.database.store import Store
from sync.registry.reports.status import unit_status
from sync.registry.sinks import Email

AGAIN_MS = 10 * 60_000
HOUR = 6
"""The report leaves at six by the site's time zone, before the day shift."""
_EVERYTHING = Viewer("report", "auditor", (), "", "")

log = logging.getLogger(__name__)


def text(db: Connection, day: dt.date, zone: dt.tzinfo, now_ms: int) -> str:
    """What happened on `day`, and what waits for somebody as of `now_ms`."""
    since_ms = int(dt.datetime.combine(day, dt.time(), zone).timestamp() * 1000)
    until_ms = int(dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), zone).timestamp() * 1000)
    within = (events.c.time_ms >= since_ms, events.c.time_ms < until_ms)
    query = sa.select(events.c.kind, events.c.reason, sa.func.count().label("times")).where(*within)
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for row in db.execute(query.group_by(events.c.kind, events.c.reason)):
        kinds[row.kind] += row.times
        if row.kind in REFUSED:
            reasons[row.reason] += row.times
    open_now = incidents.listed(db, _EVERYTHING, resolved=False)
    unseen = sum(row.acknowledged_ms is None for row in open_now)
    states = Counter(unit_status(row, now_ms).state for row in db.execute(sa.select(units)))
    whole = (reviews.c.day == day.isoformat(), reviews.c.scopes == "[]")
    reviewed = db.execute(sa.select(reviews.c.id).where(*whole).limit(1)).first()
    owed = sum(one.state == "owed" for one in ledger.read(db, _EVERYTHING))
    waiting, overdue = emergency.open_count(db, _EVERYTHING, zone, now_ms)
    lines = [
        f"{day.isoformat()}",
        "",
        f"Let in: {_sum(kinds, GRANTED)}. Refused: {_sum(kinds, REFUSED)}, of these attacks: "
        f"{_sum(kinds, ATTACKS)}. Alarms: {_sum(kinds, ALARMS)}.",
        *(f"  {times} x {words.reason(reason)}" for reason, times in reasons.most_common(5)),
        "",
        f"Open incidents: {len(open_now)}, not seen yet: {unseen}.",
        *(f"  {row.severity}: {words.alarm(row.kind)} ({row.times} times)" for row in open_now[:10]),
        f"Units: {states['online']} online, {states['silent'] + states['offline']} silent or offline.",
        f"Erasures without a receipt: {owed}.",
        f"Emergency access that waits for a look: {waiting}, of these overdue: {overdue}.",
        f"Temporary people for whom nobody answers: {visits.unanswered(db, now_ms)}.",
        "The day is reviewed." if reviewed else "The day waits for its review.",
    ]
    return "\n".join(lines) + "\n"


def _sum(kinds: Counter[str], group: Sequence[str]) -> int:
    return sum(kinds[kind] for kind in group)


@dataclass(frozen=True, slots=True)
class Reports:
    """Sends yesterday's report, once, after six in the morning."""

    store: Store
    settings: DashboardSettings
    mails: Sequence[Email]

    def step(self, now_ms: int) -> bool:
        """Whether a report went out now. Raises StoreError; a mail server that is down is logged."""
        now = dt.datetime.fromtimestamp(now_ms / 1000, self.settings.time_zone)
        day = now.date() - dt.timedelta(days=1)
        if now.hour < HOUR or not self._claim(day.isoformat(), now_ms):
            return False
        with self.store.reading() as db:
            body = text(db, day, self.settings.time_zone, now_ms)
        try:
            for mail in self.mails:
                mail.post(self._message(mail, day, body))
        except SyncError as err:
            # The claim runs out: then it is tried again.
            log.warning("the report of %s could not be sent: %s", day, err)
            return False
        with self.store.transaction() as db:
            db.execute(sa.update(reports).where(reports.c.day == day.isoformat()).values(sent_ms=now_ms))
        return True

    def _claim(self, day: str, now_ms: int) -> bool:
        """Whether this worker is to send it: nobody has, and nobody is about to."""
        with self.store.reading() as db:
            known = db.execute(sa.select(reports).where(reports.c.day == day)).one_or_none()
        if known is not None and (known.sent_ms is not None or known.claimed_ms > now_ms - AGAIN_MS):
            return False
        with self.store.transaction() as db:
            made = self.store.upsert(reports).values(day=day, claimed_ms=now_ms).on_conflict_do_nothing()
            # PostgreSQL's driver counts no rows of an INSERT.
            if db.execute(made.returning(reports.c.day)).first() is not None:
                return True
            stale = (
                reports.c.day == day,
                reports.c.sent_ms.is_(None),
                reports.c.claimed_ms <= now_ms - AGAIN_MS,
            )
            return db.execute(sa.update(reports).where(*stale).values(claimed_ms=now_ms)).rowcount == 1

    def _message(self, mail: Email, day: dt.date, body: str) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = f"[{self.settings.organisation}] doors, {day.isoformat()}"
        message["From"], message["To"] = mail.sender, ", ".join(mail.to)
        message["Message-ID"] = f"<ostiary-report-{day.isoformat()}@{mail.sender.rpartition('@')[2]}>"
        message.set_content(f"{body}\n{self.settings.origin}/review?day={day.isoformat()}\n")
        return message
