"""The dashboard's tables, and the indexes on events that its questions need.

They are made when a dashboard opens a registry's database for the first time: a registry without one pays
for no index that only a page reads.
"""

from __future__ import annotations

from sqlalchemy import text

from sync.dashboard.errors import DashboardError
from sync.dashboard.schema import metadata
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn

VERSION = 11
"""2 added the challenges of passkeys. A new table needs no more than a higher number; a change to an old one
is a statement of its own in `CHANGES`. 7 added the daily reports, 8 holds, hand-overs and
calibrations, 9 temporary people and reviews of emergency access, 11 figures of the doors."""
CHANGES = {
    3: ("ALTER TABLE dashboard_runs ADD COLUMN until_ms BIGINT",),
    4: ("ALTER TABLE dashboard_accounts ADD COLUMN subject TEXT",),
    6: (
        "ALTER TABLE dashboard_places ADD COLUMN egress TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE dashboard_places ADD COLUMN sensitive TEXT NOT NULL DEFAULT ''",
    ),
    10: ("ALTER TABLE dashboard_reviews ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]'",),
}
FILLS = {
    5: (
        "INSERT INTO dashboard_incident_spans (incident, opened_ms, acknowledged_ms, resolved_ms, by_itself)"
        " SELECT id, opened_ms, acknowledged_ms, resolved_ms, 0 FROM dashboard_incidents",
    ),
}
"""What a new table takes from old ones."""
INDEXES = (
    "CREATE INDEX IF NOT EXISTS events_time ON events (time_ms, unit, sequence)",
    "CREATE INDEX IF NOT EXISTS events_unit_time ON events (unit, time_ms, sequence)",
    "CREATE INDEX IF NOT EXISTS events_kind_time ON events (kind, time_ms, unit, sequence)",
    "CREATE INDEX IF NOT EXISTS events_reason_time ON events (reason, time_ms, unit, sequence)",
)


def prepare(store: Store) -> None:
    """Bring the dashboard's part of the database up to date. Raises StoreError, DashboardError."""
    with store.transaction() as db:
        take_turn(db, Turn.DASHBOARD)
        db.execute(text("CREATE TABLE IF NOT EXISTS dashboard_version (version INTEGER NOT NULL)"))
        done = db.execute(text("SELECT max(version) FROM dashboard_version")).scalar() or 0
        if done > VERSION:
            raise DashboardError("this database was made by a newer dashboard; update this program")
        if done == VERSION:
            return
        if done:
            for number in range(done + 1, VERSION + 1):
                for change in CHANGES.get(number, ()):
                    db.execute(text(change))
        metadata.create_all(db)
        for number in range(done + 1, VERSION + 1) if done else ():
            for fill in FILLS.get(number, ()):
                db.execute(text(fill))
        for statement in INDEXES:
            db.execute(text(statement))
        db.execute(text("INSERT INTO dashboard_version VALUES (:number)"), {"number": VERSION})


def analyse(store: Store) -> None:
    """Let the database look at its rows, so that it chooses the right index for a filter."""
    with store.transaction() as db:
        db.execute(text("ANALYZE"))
